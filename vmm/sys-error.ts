import { errnoName } from '../host/uapi/errno.ts';

/** A system call failed: its message names the call and the errno. */
export class SysError extends Error {
  /** Positive, as in errno(3). */
  readonly errno: number;

  constructor(call: string, errno: number) {
    super(`${call}: ${errnoName(errno)}`);
    this.name = 'SysError';
    this.errno = errno;
  }
}

/** The result of a system call, or a SysError for -errno. */
export function check(call: string, result: number): number {
  if (result < 0) throw new SysError(call, -result);
  return result;
}
