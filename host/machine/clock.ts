import type { Clock } from '../../devices/clock.ts';
import { Tracer } from '../../trace/tracer.ts';

/** A scheduled call that may be taken back. */
export interface Timer {
  /** The call does not happen, and the clock does not advance for it. No effect once it ran. */
  cancel(): void;
}

class Entry implements Timer {
  readonly time: number;
  readonly sequence: number;
  readonly cause: number;
  action: (() => void) | null;

  constructor(time: number, sequence: number, cause: number, action: () => void) {
    this.time = time;
    this.sequence = sequence;
    this.cause = cause;
    this.action = action;
  }

  cancel(): void {
    this.action = null;
  }
}

const before = (a: Entry, b: Entry): boolean =>
  a.time < b.time || (a.time === b.time && a.sequence < b.sequence);

/** Consumed places kept at the front of the queue of immediate calls before it is compacted. */
const COMPACT_AT = 1024;

/**
 * The one virtual clock (ARCHITECTURE.md): a heap of calls by (time, order of scheduling).
 * Calls for the present time bypass the heap; whatever the heap holds for that time was scheduled
 * earlier, so it goes first and the order stays first in, first out.
 */
export class VirtualClock implements Clock {
  /** Whose cause is captured with every call and restored around it. */
  trace: Tracer;
  #now = 0;
  #sequence = 0;
  readonly #heap: Entry[] = [];
  #immediate: Entry[] = [];
  #immediateHead = 0;

  constructor() {
    this.trace = new Tracer(() => this.#now);
  }

  /** Virtual nanoseconds since power-on. */
  get now(): number {
    return this.#now;
  }

  after(ns: number, action: () => void): void {
    this.timer(ns, action);
  }

  /** As `after`, for a call that may be cancelled. RangeError unless `ns` is an integer >= 0. */
  timer(ns: number, action: () => void): Timer {
    if (!Number.isSafeInteger(ns) || ns < 0) throw new RangeError(`a delay of ${ns} ns`);
    const entry = new Entry(this.#now + ns, ++this.#sequence, this.trace.cause, action);
    if (ns === 0) this.#immediate.push(entry);
    else this.#push(entry);
    return entry;
  }

  /** Makes the next call. False: there is none. */
  step(): boolean {
    const entry = this.#next();
    if (entry === null) return false;
    this.#now = entry.time;
    const action = entry.action;
    entry.action = null;
    const trace = this.trace;
    const outer = trace.cause;
    trace.cause = entry.cause;
    try {
      action?.();
    } finally {
      trace.cause = outer;
    }
    return true;
  }

  /** Lets `ns` pass if no call would happen meanwhile. False: one would, and no time has passed. */
  skip(ns: number): boolean {
    const time = this.#now + ns;
    if (this.#immediateHead < this.#immediate.length) return false;
    const next = this.#heap[0];
    if ((next !== undefined && next.time <= time) || !Number.isSafeInteger(ns) || ns < 0) {
      return false;
    }
    this.#now = time;
    return true;
  }

  /** Makes calls until none is left, or until `until()` holds (asked before each). */
  run(until?: () => boolean): void {
    if (until === undefined) {
      while (this.step());
    } else {
      while (!until() && this.step());
    }
  }

  /** Takes the next entry that was not cancelled out of its queue. */
  #next(): Entry | null {
    for (;;) {
      const entry = this.#take();
      if (entry === null || entry.action !== null) return entry;
    }
  }

  #take(): Entry | null {
    const top = this.#heap[0];
    if (top?.time === this.#now || this.#immediateHead === this.#immediate.length) {
      return top === undefined ? null : this.#pop(top);
    }
    const entry = this.#immediate[this.#immediateHead++]!;
    if (this.#immediateHead === this.#immediate.length) {
      this.#immediate.length = 0;
      this.#immediateHead = 0;
    } else if (this.#immediateHead >= COMPACT_AT) {
      this.#immediate = this.#immediate.slice(this.#immediateHead);
      this.#immediateHead = 0;
    }
    return entry;
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!before(entry, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(top: Entry): Entry {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (last !== top) this.#sink(last);
    return top;
  }

  /** Puts `entry` where the root was and lets it sink to its place. */
  #sink(entry: Entry): void {
    const heap = this.#heap;
    const size = heap.length;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, entry)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = entry;
  }
}
