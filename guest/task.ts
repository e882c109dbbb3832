/** What guest threads are: generators that yield an exit to the VMM or a wait to the scheduler. */
import type { Exit } from './cpu.ts';

/** What a blocked thread hangs on; the scheduler's threads implement it. */
export interface Waiter {
  wakeUp(): void;
}

/** Threads that wait for one thing to happen. Whoever wakes must re-check the condition. */
export class WaitQueue {
  readonly #waiters = new Set<Waiter>();

  get waiting(): number {
    return this.#waiters.size;
  }

  add(waiter: Waiter): void {
    this.#waiters.add(waiter);
  }

  remove(waiter: Waiter): void {
    this.#waiters.delete(waiter);
  }

  /** Wakes every thread that waits now, first come first. */
  wake(): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.wakeUp();
  }
}

/** A wait inside the guest: until `queue` is woken or `ns` have passed, whichever comes first. */
export interface Waiting {
  readonly kind: 'wait';
  readonly queue: WaitQueue | null;
  /** Virtual nanoseconds from now; null for no limit. */
  readonly ns: number | null;
}

/** A computation of the guest kernel or of a user program. */
export type Task<T = void> = Generator<Exit | Waiting, T, bigint>;

/** Blocks until `queue` is woken. Re-check the condition afterwards. */
export function* waitOn(queue: WaitQueue): Task {
  yield { kind: 'wait', queue, ns: null };
}

/** Blocks until `queue` is woken, at most `ns` nanoseconds. */
export function* waitAtMost(queue: WaitQueue, ns: number): Task {
  yield { kind: 'wait', queue, ns };
}

/** Lets `ns` nanoseconds pass; other threads run meanwhile. 0 only lets the others run. */
export function* sleep(ns: number): Task {
  yield { kind: 'wait', queue: null, ns };
}

/** Wakes a thread for an event that may come while it is busy: none is lost, several are one. */
export class Signal {
  readonly #queue = new WaitQueue();
  #raised = false;

  raise(): void {
    this.#raised = true;
    this.#queue.wake();
  }

  *wait(): Task {
    while (!this.#raised) yield* waitOn(this.#queue);
    this.#raised = false;
  }
}

/** `yield* mutex.lock(); try { ... } finally { mutex.unlock(); }` */
export class Mutex {
  readonly #freed = new WaitQueue();
  #held = false;

  *lock(): Task {
    while (this.#held) yield* waitOn(this.#freed);
    this.#held = true;
  }

  unlock(): void {
    this.#held = false;
    this.#freed.wake();
  }
}

/** Poll intervals that start short and double up to `maxNs`, so that waiting costs few exits. */
export class Backoff {
  readonly #maxNs: number;
  #ns: number;

  constructor(firstNs: number, maxNs: number) {
    this.#ns = firstNs;
    this.#maxNs = maxNs;
  }

  /** The interval to wait now, in nanoseconds. */
  next(): number {
    const ns = this.#ns;
    this.#ns = Math.min(ns * 2, this.#maxNs);
    return ns;
  }
}
