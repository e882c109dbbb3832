import type { EventRecord } from '../trace/event.ts';
import type { Source } from './source/source.ts';
import { EMPTY_MOMENT, type Moment, momentOf, reduceMoment } from './state/model.ts';
import { firstFrom } from './state/trace.ts';

/** Events between two moments that are kept: going back is replaying at most so many. */
const KEEP_EVERY = 256;
const MOST_KEPT = 96;

/** Events that are read before a moment that is far away, so that it has a past to show. */
const CONTEXT = 4000;

/** A moment, and the events that led to it where those that are shown now do not. */
export interface Place {
  readonly moment: Moment;
  readonly events?: readonly EventRecord[];
}

/** Where in a run the views stand. It only knows how to get on and back; it does neither by itself. */
export class Timeline {
  readonly #source: Source;
  /** By `seq`, in order. */
  #kept: Moment[] = [EMPTY_MOMENT];
  /** Events after the moment that is shown, which were had already. */
  #ahead: readonly EventRecord[] = [];
  #at = 0;

  constructor(source: Source) {
    this.#source = source;
  }

  /** The last event of the moment that is shown. */
  get at(): number {
    return this.#at;
  }

  /** Nothing comes after the moment that is shown. */
  get ended(): boolean {
    const last = this.#source.past?.lastSeq ?? 0;
    return this.#source.ended && this.#ahead.length === 0 && this.#at >= last;
  }

  /** The newest event there is so far. */
  get newest(): number {
    return Math.max(this.#at, this.#ahead.at(-1)?.seq ?? 0, this.#source.past?.lastSeq ?? 0);
  }

  /** Events that come next, without going there; fewer than `most` when there is no more yet. */
  peek(most: number): readonly EventRecord[] {
    if (this.#ahead.length < most) {
      const more = this.#more(most - this.#ahead.length);
      if (more.length > 0) this.#ahead = [...this.#ahead, ...more];
    }
    return this.#ahead.slice(0, most);
  }

  #more(most: number): readonly EventRecord[] {
    const last = this.#ahead.at(-1)?.seq ?? this.#at;
    const { past } = this.#source;
    if (past !== undefined && last < past.lastSeq) return past.records(last + 1, last + most);
    const batch = this.#source.next(most);
    return (batch[0]?.seq ?? Infinity) > last ? batch : batch.filter(({ seq }) => seq > last);
  }

  /** Takes so many of what was peeked. */
  take(count: number): readonly EventRecord[] {
    const taken = this.#ahead.slice(0, count);
    this.#ahead = this.#ahead.slice(count);
    this.#at = taken.at(-1)?.seq ?? this.#at;
    return taken;
  }

  /** Keeps a moment, if it is long since one was kept. */
  keep(moment: Moment): void {
    const last = this.#kept.at(-1)?.seq ?? 0;
    if (moment.seq < last + KEEP_EVERY) return;
    this.#kept.push(moment);
    if (this.#kept.length > MOST_KEPT) this.#kept.splice(1, 1);
  }

  /**
   * Another moment.
   * @param shown the events that led to the moment that is shown, as far as they are kept
   * @returns undefined where it is not held any more
   */
  go(seq: number, shown: readonly EventRecord[]): Place | undefined {
    const target = Math.max(0, seq);
    return target <= this.#at ? this.#back(target, shown) : this.#far(target);
  }

  #back(target: number, shown: readonly EventRecord[]): Place | undefined {
    const nearest = this.#kept.findLast((moment) => moment.seq <= target) ?? EMPTY_MOMENT;
    const from = firstFrom(shown, nearest.seq + 1);
    const to = firstFrom(shown, target + 1);
    // Every event in between must be at hand, none of them only counted.
    if (to - from !== target - nearest.seq) return this.#far(target);
    if (this.#source.past === undefined) {
      this.#ahead = [...shown.slice(to), ...this.#ahead];
    } else this.#ahead = shown.slice(to, to + KEEP_EVERY);
    this.#at = target;
    const moment = reduceMoment(nearest, shown.slice(from, to));
    this.#kept = this.#kept.filter((one) => one.seq <= target);
    // So much of the past that there is something to look back on.
    const enough = to > 0 || target === 0;
    return enough ? { moment } : (this.#far(target) ?? { moment });
  }

  #far(target: number): Place | undefined {
    const { past } = this.#source;
    if (past === undefined) return undefined;
    const seq = Math.min(target, past.lastSeq);
    if (seq < past.firstSeq - 1) return undefined;
    const events = past.records(Math.max(1, seq - CONTEXT + 1), seq);
    const moment = seq === 0 ? EMPTY_MOMENT : momentOf(past.stateAt(seq), events);
    this.#ahead = [];
    this.#at = seq;
    this.#kept = [EMPTY_MOMENT, moment];
    return { moment, events };
  }
}
