/**
 * What a thread is made of. The same shapes as in `host/syscall.ts`, declared anew because the
 * machine knows nothing of the kernel's system call interface.
 */

/** Nanoseconds of virtual time (an integer >= 0), or something the scheduler understands. */
export type Wait = number | Waitable;

export interface Waitable {
  readonly waitable: true;
}

/** A computation that may block. */
export type Task<T = void> = Generator<Wait, T, void>;
