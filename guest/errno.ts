/** Error codes of the guest kernel, as its system calls and drivers report them. */
export type GuestErrorCode =
  | 'EAGAIN'
  | 'EBUSY'
  | 'EFAULT'
  | 'EINVAL'
  | 'EIO'
  | 'ENODEV'
  | 'ENOMEM'
  | 'ENOSPC'
  | 'EOPNOTSUPP'
  | 'ETIMEDOUT';

/** A failure inside the guest: the code, and why, with the values. */
export class GuestError extends Error {
  readonly code: GuestErrorCode;
  readonly reason: string;

  constructor(code: GuestErrorCode, reason: string) {
    super(`${code}: ${reason}`);
    this.name = 'GuestError';
    this.code = code;
    this.reason = reason;
  }
}
