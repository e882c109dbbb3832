import type { EventRecord } from '../trace/event.ts';
import { phaseOf } from '../trace/story/walkthrough.ts';
import type { Source } from './source/source.ts';
import { SPEEDS, type Want } from './state/app.ts';
import { EMPTY_TRACE } from './state/trace.ts';
import type { Store } from './store.ts';
import { Timeline } from './timeline.ts';

export type { Source } from './source/source.ts';

/** Whoever makes the events come, as the user wishes. */
export interface Driver {
  open(): void;
  close(): void;
  /** What the world failed with, for whoever ends the program. */
  readonly error: Error | undefined;
}

/** Milliseconds between two looks at the source, and so between two pictures: 30 a second. */
export const TICK_MS = 33;

/** Of these, the share that the world may take. */
const WORK_MS = 22;

/** Time that counts between two looks: what a stop or a slow picture took is not made up for. */
const MOST_ELAPSED_MS = 3 * TICK_MS;

const NO_TRACE = { trace: EMPTY_TRACE };

/** Events taken at once where none is counted. */
const GULP = 256;

/**
 * Makes time pass as the user wishes, on and back: the world runs only while it is asked for events.
 * Nothing ticks while it stands still.
 */
export class Player implements Driver {
  readonly #store: Store;
  readonly #source: Source;
  readonly #timeline: Timeline;
  readonly #now: () => number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unsubscribe: (() => void) | undefined;
  #closed = false;
  /** What speed allows but was not taken yet. */
  #credit = 0;
  #last = 0;
  /** Where the step by a phase that is under way began; undefined: none is. */
  #phaseStart: number | undefined;
  error: Error | undefined;

  /** @param now real milliseconds, from any beginning */
  constructor(store: Store, source: Source, now: () => number = () => performance.now()) {
    this.#store = store;
    this.#source = source;
    this.#timeline = new Timeline(source);
    this.#now = now;
  }

  /** Runs until `close`. */
  open(): void {
    this.#last = this.#now();
    this.#unsubscribe = this.#store.subscribe(() => {
      this.#wake();
    });
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    this.#unsubscribe?.();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#source.close?.();
  }

  /** Lets the world do what is due. */
  tick(): void {
    const now = this.#now();
    const elapsed = Math.min(now - this.#last, MOST_ELAPSED_MS);
    this.#last = now;
    const { play } = this.#store.get();
    if (play.want?.kind !== 'phase' || play.want.by !== 1) this.#phaseStart = undefined;
    if (play.want !== undefined) {
      this.#credit = 0;
      this.#guarded(() => this.#toward(play.want!, now + WORK_MS));
    } else if (play.status === 'running') {
      const speed = SPEEDS[play.speed] ?? Infinity;
      this.#credit = Math.min(this.#credit + (elapsed * speed) / 1000, Math.max(1, speed));
      this.#guarded(() => {
        this.#credit -= this.#take(Math.floor(this.#credit), now + WORK_MS);
      });
      if (!Number.isFinite(this.#credit)) this.#credit = 0;
    }
  }

  #wake(): void {
    const { status, want } = this.#store.get().play;
    if (this.#closed || this.#timer !== undefined) return;
    if (status !== 'running' && want === undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.tick();
      this.#wake();
    }, TICK_MS);
  }

  /** Takes up to `most` events, or what can be had until `deadline`. Returns how many. */
  #take(most: number, deadline: number): number {
    return this.#on(() => undefined, most, deadline).count;
  }

  /**
   * Goes on until `stop` says how many of the events ahead are to be taken as the last, nothing more
   * is there, or it is late.
   */
  #on(
    stop: (ahead: readonly EventRecord[]) => number | undefined,
    most: number,
    deadline: number,
  ): { readonly count: number; readonly stopped: boolean } {
    const batch: EventRecord[] = [];
    let stopped = false;
    try {
      while (!stopped && batch.length < most && this.#now() < deadline) {
        const ahead = this.#timeline.peek(Math.min(GULP, most - batch.length));
        if (ahead.length === 0) {
          if (this.#timeline.ended) break;
          continue;
        }
        const last = stop(ahead);
        stopped = last !== undefined;
        for (const record of this.#timeline.take(last ?? ahead.length)) batch.push(record);
      }
    } finally {
      if (batch.length > 0) this.#store.dispatch({ type: 'events', batch });
      // Its list of events is long, and held already.
      this.#timeline.keep({ ...this.#store.get().model, ...NO_TRACE });
    }
    return { count: batch.length, stopped };
  }

  #toward(want: Want, deadline: number): void {
    const on = want.kind !== 'to' && want.by === 1;
    if (want.kind === 'to') this.#to(want.seq, deadline);
    else if (want.kind === 'event') {
      if (on) this.#until(() => true, deadline, 1);
      else this.#go(this.#timeline.at - 1);
    } else if (want.kind === 'phase') {
      if (on) this.#endOfPhase(deadline);
      else this.#go(this.#phaseBefore());
    } else if (on) this.#until(({ cause }) => cause === want.of, deadline);
    else this.#go(this.#causeOf(want.of));
  }

  /** On to the first event that is meant, itself included. */
  #until(meant: (record: EventRecord) => boolean, deadline: number, most = Infinity): void {
    const { stopped } = this.#on(
      (ahead) => {
        const at = ahead.findIndex(meant);
        return at < 0 ? undefined : at + 1;
      },
      most,
      deadline,
    );
    if (stopped) this.#arrived();
  }

  /** On to the last event before the next phase begins. */
  #endOfPhase(deadline: number): void {
    const { stopped } = this.#on(
      (ahead) => {
        const skip = this.#phaseStart === undefined ? 1 : 0;
        this.#phaseStart ??= this.#timeline.at;
        const at = ahead.findIndex((record, i) => i >= skip && phaseOf(record) !== undefined);
        return at < 0 ? undefined : at;
      },
      Infinity,
      deadline,
    );
    if (!stopped) return;
    this.#phaseStart = undefined;
    this.#arrived();
  }

  /** The event before the one with which the phase of the moment begins. */
  #phaseBefore(): number {
    const { events } = this.#store.get().model.trace;
    const begin = events.findLast((record) => phaseOf(record) !== undefined);
    if (begin !== undefined) return begin.seq - 1;
    const { past } = this.#source;
    for (let to = (events[0]?.seq ?? 1) - 1; past !== undefined && to >= past.firstSeq; ) {
      const from = Math.max(past.firstSeq, to - GULP + 1);
      const earlier = past.records(from, to).findLast((record) => phaseOf(record) !== undefined);
      if (earlier !== undefined) return earlier.seq - 1;
      to = from - 1;
    }
    return 0;
  }

  #causeOf(seq: number): number {
    const { events } = this.#store.get().model.trace;
    const record =
      events.find((one) => one.seq === seq) ?? this.#source.past?.records(seq, seq).at(0);
    return record === undefined || record.cause === 0 ? -1 : record.cause;
  }

  /** On in small steps event by event, so that what lies between is seen too; else at once. */
  #to(seq: number, deadline: number): void {
    const { at, newest } = this.#timeline;
    const target = Math.min(seq, newest);
    if (target < at || (target - at > GULP && this.#source.past !== undefined)) {
      this.#go(target);
      return;
    }
    this.#take(target - at, deadline);
    if (this.#timeline.at >= target) this.#arrived();
  }

  #go(seq: number): void {
    this.#phaseStart = undefined;
    if (seq < 0) {
      this.#arrived('nothing led to it');
      return;
    }
    const place = this.#timeline.go(seq, this.#store.get().model.trace.events);
    if (place === undefined) {
      this.#arrived('that is not kept any more');
      return;
    }
    this.#store.dispatch({ type: 'moment', ...place });
    this.#arrived();
  }

  #arrived(note = ''): void {
    this.#store.dispatch({ type: 'arrived', note });
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.error = error instanceof Error ? error : new Error(String(error));
      this.#store.dispatch({ type: 'failed', reason: this.error.message });
      return;
    }
    const { want, status } = this.#store.get().play;
    if (this.#timeline.ended && (want !== undefined || status === 'running')) {
      this.#phaseStart = undefined;
      this.#store.dispatch({ type: 'ended' });
    }
  }
}
