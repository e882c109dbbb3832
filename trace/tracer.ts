import type { EventDef, EventRecord, Fields, Values } from './event.ts';
import { Recent } from './recent.ts';

export type Listener = (record: EventRecord) => void;

/** Who tells a hot event: the event, and the text of its first field, told once a frame. */
export interface HotSource {
  readonly def: EventDef;
  readonly text: string;
}

/** Takes events of the data path, as words: see `Tracer.emitHot`. */
export interface HotSink {
  put(
    source: HotSource,
    seq: number,
    ns: number,
    cause: number,
    sid: number,
    w1: number,
    w2: number,
    w3: number,
  ): void;
}

/** Who takes the whole stream: every event in order, the ends of spans, and, if it asks, hot events. */
export interface Sink {
  event(record: EventRecord): void;
  /**
   * The span that event `begin` began is over.
   * @param seq the last event before
   */
  end(begin: number, ns: number, seq: number): void;
  /** Present: it asks for hot events. */
  readonly hot?: HotSink | undefined;
}

/** Marks kept at least: they only serve causality, so the oldest may go. */
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
  /** True when somebody asks for the events of the data path: guard `emitHot` with it. */
  hot = false;
  /** `seq` of the event that what runs now descends from; 0 for none. */
  cause = 0;
  /** Spans that are open in what runs now. Whoever keeps `cause` with a thread keeps this too. */
  depth = 0;
  readonly #now: () => number;
  readonly #listeners: Listener[] = [];
  readonly #sinks: Sink[] = [];
  /** Present: the only one that asks for hot events. */
  #hot: HotSink | null = null;
  readonly #marks = new Recent<string, number>(MARK_LIMIT);
  #seq = 0;

  /** @param now virtual time in nanoseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** `seq` of the last event, 0 before the first. */
  get seq(): number {
    return this.#seq;
  }

  listen(listener: Listener): void {
    this.#listeners.push(listener);
    this.on = true;
  }

  attach(sink: Sink): void {
    this.#sinks.push(sink);
    this.#asked();
  }

  detach(sink: Sink): void {
    const at = this.#sinks.indexOf(sink);
    if (at >= 0) this.#sinks.splice(at, 1);
    this.#asked();
  }

  #asked(): void {
    const hot = this.#sinks.flatMap((sink) => sink.hot ?? []);
    this.#hot = hot.length > 1 ? new HotFork(hot) : (hot[0] ?? null);
    this.on = this.#listeners.length + this.#sinks.length > 0;
    this.hot = hot.length > 0;
  }

  /** Records an event. Returns its `seq`, or 0 when nobody listens. */
  emit<F extends Fields>(def: EventDef<F>, values: Values<F>): number {
    if (!this.on) return 0;
    return this.#tell({ seq: ++this.#seq, ns: this.#now(), cause: this.cause, def, values });
  }

  #tell(record: EventRecord): number {
    for (const listener of this.#listeners) listener(record);
    for (const sink of this.#sinks) sink.event(record);
    return record.seq;
  }

  /**
   * Records an event of the data path, of which 16 bytes are told (trace/hot.ts packs them). Call it
   * only `if (trace.hot)`: the call is out of line so that the path that is not told stays small.
   */
  emitHot(source: HotSource, sid: number, w1: number, w2: number, w3: number): void {
    const seq = ++this.#seq;
    this.#hot?.put(source, seq, this.#now(), this.cause, sid, w1, w2, w3);
  }

  /** What `emitHot` is told by: ask once, when a model is made. */
  source(def: EventDef, text: string): HotSource {
    return { def, text };
  }

  /**
   * Records an event and makes it the cause of what follows until disposed:
   * `using span = trace.span(ev.ioctl, {...})`. Safe across yields of a scheduled thread.
   */
  span<F extends Fields>(def: EventDef<F>, values: Values<F>): Disposable {
    if (!this.on) return NO_SPAN;
    const outer = this.cause;
    const begin = ++this.#seq;
    this.#tell({ seq: begin, ns: this.#now(), cause: outer, def, values, span: true });
    this.cause = begin;
    this.depth++;
    let open = true;
    return {
      [Symbol.dispose]: () => {
        if (!open) return;
        open = false;
        this.cause = outer;
        this.depth--;
        if (this.#sinks.length > 0) this.#end(begin);
      },
    };
  }

  #end(begin: number): void {
    const ns = this.#now();
    for (const sink of this.#sinks) sink.end(begin, ns, this.#seq);
  }

  /** Leaves the current cause on a place of memory, for whoever takes the work from there. */
  mark(space: string, address: number): void {
    if (!this.on) return;
    this.#marks.set(`${space}:${address}`, this.cause);
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

/** Hot events for several. */
class HotFork implements HotSink {
  readonly #sinks: readonly HotSink[];

  constructor(sinks: readonly HotSink[]) {
    this.#sinks = sinks;
  }

  put(...event: Parameters<HotSink['put']>): void {
    for (const sink of this.#sinks) sink.put(...event);
  }
}
