import type { Clock } from '../../devices/clock.ts';
import type { Tracer } from '../../trace/tracer.ts';

interface Pending {
  readonly due: number;
  readonly cause: number;
  readonly action: () => void;
}

/**
 * The virtual unit's clock. An emulated unit has no time of its own: what it schedules runs, in the
 * order of due times, on the thread that drains the queue after an access to the unit. The cost of the
 * emulation is the cost of the VM exit.
 */
export class UnitClock implements Clock {
  readonly #now: () => number;
  readonly #trace: Tracer;
  readonly #queue: Pending[] = [];

  constructor(now: () => number, trace: Tracer) {
    this.#now = now;
    this.#trace = trace;
  }

  get now(): number {
    return this.#now();
  }

  after(ns: number, action: () => void): void {
    const due = this.now + ns;
    let at = this.#queue.length;
    while (at > 0 && this.#queue[at - 1]!.due > due) at--;
    this.#queue.splice(at, 0, { due, cause: this.#trace.cause, action });
  }

  /** Runs everything that is queued, and what that queues. */
  drain(): void {
    if (this.#queue.length === 0) return;
    const outer = this.#trace.cause;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      this.#trace.cause = next.cause;
      next.action();
    }
    this.#trace.cause = outer;
  }
}
