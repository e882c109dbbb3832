import type { EventRecord } from '../event.ts';
import { Recent } from '../recent.ts';
import { placeOf } from './perfetto-tracks.ts';

/** Causes are seldom older than so many events: an arrow from further back is not drawn. */
const CAUSES_KEPT = 1 << 18;

const PAGE = 1 << 12;

/** Numbers by number, 0 where nothing was set: pages, so that a stretch without any costs nothing. */
class Numbers {
  readonly #pages = new Map<number, Uint32Array>();

  get(at: number): number {
    return this.#pages.get(Math.floor(at / PAGE))?.[at % PAGE] ?? 0;
  }

  set(at: number, value: number): void {
    const number = Math.floor(at / PAGE);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = new Uint32Array(PAGE);
      this.#pages.set(number, page);
    }
    page[at % PAGE] = value;
  }
}

/**
 * Where a cause lies on another timeline than its effect. Eight bytes an event: to the last effect of
 * each cause, and from each effect to the one before.
 */
export class Arrows {
  readonly #last = new Numbers();
  readonly #before = new Numbers();
  readonly #places = new Recent<number, string>(CAUSES_KEPT);

  /** Looks at each event, in order. */
  add(record: EventRecord): void {
    const { seq, cause } = record;
    const { group, track } = placeOf(record);
    const place = `${group}/${track}`;
    const from = this.#places.get(cause);
    if (from !== undefined && from !== place) {
      const last = this.#last.get(cause);
      // Of the first effect it leads to the cause.
      this.#before.set(seq, last === 0 ? seq - cause : seq - (cause + last));
      this.#last.set(cause, seq - cause);
    }
    this.#places.set(seq, place);
  }

  /** Whether an arrow leads to an event. */
  to(seq: number): boolean {
    return this.#before.get(seq) !== 0;
  }

  /** The effects to which arrows lead from an event, in order. */
  from(cause: number): number[] {
    const effects: number[] = [];
    const last = this.#last.get(cause);
    for (let at = cause + last; at !== cause; at -= this.#before.get(at)) effects.push(at);
    return effects.reverse();
  }
}
