import type { ErrnoName } from '../uapi/errno.ts';
import { Errno } from './errno.ts';

interface Armed {
  /** null: any point counts. */
  readonly name: string | null;
  /** null: the point's own. */
  readonly code: ErrnoName | null;
  left: number;
}

/** Names remembered in `passed` at most. */
const HISTORY = 10_000;

/**
 * Named places where the kernel acquires something. A test arms the n-th to fail, and so sees every
 * unwinding (ARCHITECTURE.md; the kernel's fail_nth).
 */
export class FailPoints {
  /** Who passes a point now: the kernel sets it. Points passed by nobody count for no task. */
  currentTask: () => object | null = () => null;
  #armed: Armed | null = null;
  #record = false;
  #suspended = 0;
  readonly #passed: string[] = [];
  /** Points until the failure of each armed task. */
  readonly #tasks = new Map<object, number>();

  /** The points passed since the last arming or disarming, the failed one included. */
  get passed(): readonly string[] {
    return this.#passed;
  }

  /** Whether a failure is still to come. */
  get armed(): boolean {
    return this.#armed !== null;
  }

  /**
   * Throws when it is this point's turn: the armed Errno, or by default `code`, which is what the
   * kernel makes of a failure there.
   */
  point(name: string, code: ErrnoName = 'ENOMEM'): void {
    if (this.#suspended > 0) return;
    if (this.#tasks.size > 0) this.#countTask(name, code);
    if (!this.#record) return;
    if (this.#passed.length < HISTORY) this.#passed.push(name);
    const armed = this.#armed;
    if (armed === null || (armed.name !== null && armed.name !== name)) return;
    armed.left -= 1;
    if (armed.left > 0) return;
    this.#armed = null;
    throw new Errno(armed.code ?? code, `failure injected at ${name}`);
  }

  /** The n-th point passed from now on fails, once; n >= 1. Without `code` as the point says. */
  failNth(n: number, code: ErrnoName | null = null): void {
    this.#arm(null, n, code);
  }

  /** The n-th passing of point `name` from now on fails, once. */
  failAt(name: string, nth = 1, code: ErrnoName | null = null): void {
    this.#arm(name, nth, code);
  }

  /** Nothing fails any more; points passed are still recorded. */
  disarm(): void {
    this.#armed = null;
    this.#record = true;
    this.#passed.length = 0;
  }

  /**
   * Writing `n` to a task's `/proc/self/task/N/fail-nth`: the n-th point that this task passes from
   * now on fails, once; 0 disarms it (lib/fault-inject.c).
   */
  armTask(task: object, n: number): void {
    if (!Number.isInteger(n) || n < 0) throw new RangeError(`the ${n}-th failure point`);
    if (n === 0) this.#tasks.delete(task);
    else this.#tasks.set(task, n);
  }

  /** Reading the file: how many points are left; 0 when the failure has been, or never was. */
  leftOf(task: object): number {
    return this.#tasks.get(task) ?? 0;
  }

  /** Nothing that `look` passes counts: for those who only watch the kernel. */
  suspended<T>(look: () => T): T {
    this.#suspended++;
    try {
      return look();
    } finally {
      this.#suspended--;
    }
  }

  #countTask(name: string, code: ErrnoName): void {
    const task = this.currentTask();
    const left = task === null ? undefined : this.#tasks.get(task);
    if (task === null || left === undefined) return;
    if (left > 1) {
      this.#tasks.set(task, left - 1);
      return;
    }
    this.#tasks.delete(task);
    throw new Errno(code, `failure injected at ${name}`);
  }

  #arm(name: string | null, n: number, code: ErrnoName | null): void {
    if (!Number.isInteger(n) || n < 1) throw new RangeError(`the ${n}-th failure point`);
    this.disarm();
    this.#armed = { name, code, left: n };
  }
}
