import type { ErrnoName } from '../uapi/errno.ts';
import { Errno } from './errno.ts';

interface Armed {
  /** null: any point counts. */
  readonly name: string | null;
  readonly code: ErrnoName;
  left: number;
}

/** Names remembered in `passed` at most. */
const HISTORY = 10_000;

/**
 * Named places where the kernel acquires something. A test arms the n-th to fail, and so sees every
 * unwinding (DESIGN.md decision 5; the kernel's fail_nth).
 */
export class FailPoints {
  #armed: Armed | null = null;
  #record = false;
  readonly #passed: string[] = [];

  /** The points passed since the last arming or disarming, the failed one included. */
  get passed(): readonly string[] {
    return this.#passed;
  }

  /** Whether a failure is still to come. */
  get armed(): boolean {
    return this.#armed !== null;
  }

  /** Throws the armed Errno (default ENOMEM) when it is this point's turn. */
  point(name: string): void {
    if (!this.#record) return;
    if (this.#passed.length < HISTORY) this.#passed.push(name);
    const armed = this.#armed;
    if (armed === null || (armed.name !== null && armed.name !== name)) return;
    armed.left -= 1;
    if (armed.left > 0) return;
    this.#armed = null;
    throw new Errno(armed.code, `failure injected at ${name}`);
  }

  /** The n-th point passed from now on fails, once; n >= 1. */
  failNth(n: number, code: ErrnoName = 'ENOMEM'): void {
    this.#arm(null, n, code);
  }

  /** The n-th passing of point `name` from now on fails, once. */
  failAt(name: string, nth = 1, code: ErrnoName = 'ENOMEM'): void {
    this.#arm(name, nth, code);
  }

  /** Nothing fails any more; points passed are still recorded. */
  disarm(): void {
    this.#armed = null;
    this.#record = true;
    this.#passed.length = 0;
  }

  #arm(name: string | null, n: number, code: ErrnoName): void {
    if (!Number.isInteger(n) || n < 1) throw new RangeError(`the ${n}-th failure point`);
    this.disarm();
    this.#armed = { name, code, left: n };
  }
}
