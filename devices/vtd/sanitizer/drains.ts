import type { Trail } from './history.ts';

/** A PASID whose entry was taken away, and what did it. */
export interface OwedDrain {
  readonly sid: number;
  readonly pasid: number;
  readonly trail: Trail | null;
}

/** Page requests of a PASID are drained behind its teardown by a wait with PD (VT-d spec 7.10). */
export class Drains {
  #owed: OwedDrain[] = [];
  /** Owed when the last wait with PD was carried out. */
  #draining: OwedDrain[] = [];

  owe(drain: OwedDrain): void {
    this.#owed.push(drain);
  }

  /** A wait descriptor was fetched; what is owed now is done when it completes. */
  waitCarried(drains: boolean): void {
    if (drains) this.#draining = [...this.#owed];
  }

  waitDone(): void {
    if (this.#draining.length === 0) return;
    this.#owed = this.#owed.filter((owed) => !this.#draining.includes(owed));
    this.#draining = [];
  }

  /** Takes out those that fit: they are told of once. */
  owed(fits: (trail: Trail | null, owed: OwedDrain) => boolean): OwedDrain[] {
    if (this.#owed.length === 0) return [];
    const found = this.#owed.filter((owed) => fits(owed.trail, owed));
    this.#owed = this.#owed.filter((owed) => !found.includes(owed));
    return found;
  }
}
