import { ERRNO, type ErrnoName } from '../uapi/errno.ts';

/**
 * A refusal inside the kernel: an error number and why, with the values (ARCHITECTURE.md). At
 * the system call boundary it becomes -errno, and the reason goes into the trace.
 */
export class Errno extends Error {
  readonly code: ErrnoName;
  /** The positive error number. */
  readonly number: number;
  readonly reason: string;

  constructor(code: ErrnoName, reason: string) {
    super(`${code}: ${reason}`);
    this.name = 'Errno';
    this.code = code;
    this.number = ERRNO[code];
    this.reason = reason;
  }
}
