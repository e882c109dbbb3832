import type { EventRecord } from '../../trace/event.ts';

/** A long run shows how far it is, on standard error, and only to somebody at a terminal. */
const SHOW_FROM_BYTES = 4 * 2 ** 20;

export class Progress {
  readonly #total: number;
  readonly #shown: boolean;
  #done = 0;
  #percent = -1;

  /** @param total bytes that the devices will copy in all */
  constructor(total: number) {
    this.#total = total;
    this.#shown = total >= SHOW_FROM_BYTES && process.stderr.isTTY;
  }

  add(record: EventRecord): void {
    const { def, values } = record;
    if (def.name === 'dsa:desc_complete' && values['operation'] === 'MEMMOVE') {
      this.#done += Number(values['bytes']);
    }
  }

  show(): void {
    if (!this.#shown) return;
    const percent = Math.min(100, Math.floor((100 * this.#done) / this.#total));
    if (percent === this.#percent) return;
    this.#percent = percent;
    process.stderr.write(`\rcopied ${percent}%`);
  }

  clear(): void {
    if (this.#shown && this.#percent >= 0) process.stderr.write('\r\u001b[K');
  }
}
