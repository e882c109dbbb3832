import type { EventDef, EventRecord, Fields, Values } from './event.ts';

export type Listener = (record: EventRecord) => void;

/** Marks kept at most: they only serve causality, so the oldest may go. */
const MARK_LIMIT = 1 << 16;

const NO_SPAN: Disposable = { [Symbol.dispose]: () => undefined };

/**
 * The one outlet of events, and the keeper of causality.
 *
 * `cause` is the event that the code now running descends from. It travels by itself: a span sets it
 * for its extent, the clock captures it with every scheduled call, the scheduler saves it with every
 * thread, and a thread without an open span inherits it from whoever woke it. Where work crosses in
 * memory (a queue slot), the writer leaves a `mark` on the address and the reader `adopt`s it.
 */
export class Tracer {
  /** True when somebody listens. Guard hot emissions with `if (trace.on)`. */
  on = false;
  /** `seq` of the event that what runs now descends from; 0 for none. */
  cause = 0;
  readonly #now: () => number;
  readonly #listeners: Listener[] = [];
  readonly #marks = new Map<string, number>();
  #seq = 0;

  /** @param now virtual time in nanoseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  listen(listener: Listener): void {
    this.#listeners.push(listener);
    this.on = true;
  }

  /** Records an event. Returns its `seq`, or 0 when nobody listens. */
  emit<F extends Fields>(def: EventDef<F>, values: Values<F>): number {
    if (!this.on) return 0;
    const record: EventRecord = {
      seq: ++this.#seq,
      ns: this.#now(),
      cause: this.cause,
      def,
      values,
    };
    for (const listener of this.#listeners) listener(record);
    return record.seq;
  }

  /**
   * Records an event and makes it the cause of what follows until disposed:
   * `using span = trace.span(ev.ioctl, {...})`. Safe across yields of a scheduled thread.
   */
  span<F extends Fields>(def: EventDef<F>, values: Values<F>): Disposable {
    if (!this.on) return NO_SPAN;
    const outer = this.cause;
    this.cause = this.emit(def, values);
    return {
      [Symbol.dispose]: () => {
        this.cause = outer;
      },
    };
  }

  /** Leaves the current cause on a place of memory, for whoever takes the work from there. */
  mark(space: string, address: number): void {
    if (!this.on) return;
    const key = `${space}:${address}`;
    this.#marks.delete(key);
    this.#marks.set(key, this.cause);
    if (this.#marks.size > MARK_LIMIT) {
      for (const oldest of this.#marks.keys()) {
        this.#marks.delete(oldest);
        break;
      }
    }
  }

  /** Makes the cause that was left at a place the current one, if there is any, and removes it. */
  adopt(space: string, address: number): void {
    if (!this.on) return;
    const key = `${space}:${address}`;
    const cause = this.#marks.get(key);
    if (cause === undefined) return;
    this.#marks.delete(key);
    this.cause = cause;
  }
}
