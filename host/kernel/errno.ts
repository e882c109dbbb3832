import { ERRNO, type ErrnoName } from '../uapi/errno.ts';

/**
 * A refusal inside the kernel: an error number and why, with the values (ARCHITECTURE.md). At
 * the system call boundary it becomes -errno, and the reason goes into the trace. It is a result
 * and no defect, so it carries no stack: taking one costs ten times the call.
 */
export class Errno extends Error {
  readonly code: ErrnoName;
  /** The positive error number. */
  readonly number: number;
  readonly reason: string;

  constructor(code: ErrnoName, reason: string) {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(`${code}: ${reason}`);
    Error.stackTraceLimit = stackTraceLimit;
    this.name = 'Errno';
    this.code = code;
    this.number = ERRNO[code];
    this.reason = reason;
  }
}
