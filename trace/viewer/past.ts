import type { Connection } from './connection.ts';
import type { Model } from './model.ts';

/** Events fetched at once: the most that the server gives. */
const AT_ONCE = 1000;

/** Events that should be there to be looked at, after a jump. */
const ENOUGH = 200;

/** Brings back events that the page has let go of, or never had. */
export class Past {
  readonly #model: Model;
  readonly #connection: Connection;
  #under = false;

  constructor(model: Model, connection: Connection) {
    this.#model = model;
    this.#connection = connection;
  }

  /** Whether the server may have events from before those that are here. */
  get hasMore(): boolean {
    const { hello, firstHere } = this.#model;
    return hello !== undefined && firstHere > Math.max(1, hello.firstSeq);
  }

  /** After a jump: what came right before is there to be looked at. */
  fill(): void {
    if (this.#model.events.length < ENOUGH && this.hasMore) this.load();
  }

  /** Earlier events, as many as come at once. */
  load(): void {
    if (this.#under) return;
    this.#under = true;
    const { firstHere } = this.#model;
    const from = Math.max(1, firstHere - AT_ONCE);
    this.#connection
      .range(from, firstHere - from)
      .then((records) => {
        if (this.#model.firstHere === firstHere) this.#model.addBefore(records);
      })
      .catch((error: unknown) => {
        this.#model.refusal = error instanceof Error ? error.message : String(error);
        this.#model.changed();
      })
      .finally(() => {
        this.#under = false;
      });
  }
}
