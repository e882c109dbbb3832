import type { EventRecord } from '../trace/event.ts';
import { phaseOf } from '../trace/story/walkthrough.ts';
import { SPEEDS } from './state/app.ts';
import type { Store } from './store.ts';

/** Where events come from: a world that makes them as they are asked for. */
export interface Source {
  /**
   * The next events in order, at most `most`; none when it needs more time. Work is bounded: the
   * keyboard waits for it.
   * @throws whatever the world failed with
   */
  next(most: number): readonly EventRecord[];
  /** No event will come any more. */
  readonly ended: boolean;
}

/** Milliseconds between two looks at the source, and so between two pictures: 30 a second. */
const TICK_MS = 33;

/** Of these, the share that the world may take. */
const WORK_MS = 22;

/** Time that counts between two looks: what a stop or a slow picture took is not made up for. */
const MOST_ELAPSED_MS = 3 * TICK_MS;

/** Events taken at once where none is counted. */
const GULP = 256;

/**
 * Makes time pass as the user wishes: the world runs only while it is asked for events. Nothing ticks
 * while it stands still.
 */
export class Player {
  readonly #store: Store;
  readonly #source: Source;
  readonly #now: () => number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  /** What speed allows but was not taken yet. */
  #credit = 0;
  #last = 0;
  /** What the world failed with, for whoever ends the program. */
  error: Error | undefined;

  /** @param now real milliseconds, from any beginning */
  constructor(store: Store, source: Source, now: () => number = () => performance.now()) {
    this.#store = store;
    this.#source = source;
    this.#now = now;
  }

  /** Runs until `close`. */
  open(): void {
    this.#last = this.#now();
    this.#store.subscribe(() => {
      this.#wake();
    });
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Lets the world do what is due. */
  tick(): void {
    const now = this.#now();
    const elapsed = Math.min(now - this.#last, MOST_ELAPSED_MS);
    this.#last = now;
    const { play } = this.#store.get();
    if (play.want !== undefined) {
      this.#credit = 0;
      this.#toward(play.want, now + WORK_MS);
    } else if (play.status === 'running') {
      const speed = SPEEDS[play.speed] ?? Infinity;
      this.#credit = Math.min(this.#credit + (elapsed * speed) / 1000, Math.max(1, speed));
      this.#credit -= this.#take(Math.floor(this.#credit), now + WORK_MS);
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
    const batch: EventRecord[] = [];
    this.#guarded(() => {
      while (batch.length < most && !this.#source.ended && this.#now() < deadline) {
        for (const record of this.#source.next(Math.min(GULP, most - batch.length))) {
          batch.push(record);
        }
      }
    }, batch);
    return batch.length;
  }

  /** One event, or all up to the one with which a phase begins. */
  #toward(want: 'event' | 'phase', deadline: number): void {
    const batch: EventRecord[] = [];
    const arrived = (): boolean => {
      const last = batch.at(-1);
      return last !== undefined && (want === 'event' || phaseOf(last) !== undefined);
    };
    this.#guarded(() => {
      while (!arrived() && !this.#source.ended && this.#now() < deadline) {
        batch.push(...this.#source.next(1));
      }
    }, batch);
    if (arrived()) this.#store.dispatch({ type: 'arrived' });
  }

  #guarded(work: () => void, batch: readonly EventRecord[]): void {
    try {
      work();
    } catch (error) {
      this.error = error instanceof Error ? error : new Error(String(error));
    }
    if (batch.length > 0) this.#store.dispatch({ type: 'events', batch });
    if (this.error !== undefined) {
      this.#store.dispatch({ type: 'failed', reason: this.error.message });
    } else if (this.#source.ended) {
      this.#store.dispatch({ type: 'ended' });
    }
  }
}
