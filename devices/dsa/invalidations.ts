import type { Clock } from '../clock.ts';
import type { Engine } from './engine.ts';
import { DSA_NS } from './model.ts';

/** An invalidation whose completion is owed. */
interface Owed {
  readonly itag: number;
  /** Engines with data in flight under what was invalidated. */
  readonly engines: Engine[];
  /** The device's own time for it is over. */
  due: boolean;
}

/**
 * ATS invalidations that are not yet confirmed: each waits until every transfer that was in flight
 * under the old translation has landed (PCI Express Base, 10.3.2).
 */
export class Invalidations {
  readonly #clock: Clock;
  readonly #confirm: (itag: number) => void;
  #owed: Owed[] = [];

  constructor(clock: Clock, confirm: (itag: number) => void) {
    this.#clock = clock;
    this.#confirm = confirm;
  }

  /** Confirms `itag` later, once the `engines` have landed. */
  add(itag: number, engines: Engine[]): void {
    const owed: Owed = { itag, engines, due: false };
    this.#owed.push(owed);
    this.#clock.after(DSA_NS.INVALIDATE, () => {
      owed.due = true;
      this.#settle(owed);
    });
  }

  /** `engine` holds no translation any more. */
  landed(engine: Engine): void {
    if (this.#owed.length === 0) return;
    for (const owed of [...this.#owed]) {
      const at = owed.engines.indexOf(engine);
      if (at < 0) continue;
      owed.engines.splice(at, 1);
      this.#settle(owed);
    }
  }

  #settle(owed: Owed): void {
    if (!owed.due || owed.engines.length > 0) return;
    this.#owed = this.#owed.filter((other) => other !== owed);
    this.#confirm(owed.itag);
  }
}
