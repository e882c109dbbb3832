import { GAUGES, LINKS, STOREYS } from '../state/chain.ts';
import { byId, el } from './dom.ts';
import type { Model } from './model.ts';

/** Milliseconds that a link stays lit after something passed it. */
const LIT_MS = 600;

/** The storeys from guest to device with what they count, and what passes between them. */
export class Chain {
  readonly #model: Model;
  readonly #gauges: readonly HTMLElement[] = GAUGES.map(({ label }) =>
    el('span', { title: label }),
  );
  readonly #links: readonly HTMLElement[] = LINKS.map(() => el('span', { class: 'link' }));
  readonly #before: number[] = LINKS.map(() => 0);
  readonly #litAt: number[] = LINKS.map(() => -LIT_MS);

  constructor(model: Model) {
    this.#model = model;
    const section = byId('chain');
    STOREYS.forEach((storey, i) => {
      section.append(
        el(
          'div',
          { class: `storey ${storey}` },
          el('b', {}, storey),
          ...GAUGES.flatMap((gauge, n) => (gauge.storey === storey ? [this.#gauges[n]!] : [])),
        ),
      );
      if (i === STOREYS.length - 1) return;
      section.append(
        el(
          'div',
          { class: 'gap' },
          ...LINKS.flatMap(({ from, to }, n) => (between(from, to) === i ? [this.#links[n]!] : [])),
        ),
      );
    });
    model.onChange(() => this.#show());
  }

  #show(): void {
    const { links, gauges } = this.#model.state.chain;
    const now = performance.now();
    GAUGES.forEach(({ label, bytes }, n) => {
      const value = gauges[n] ?? 0;
      this.#gauges[n]!.textContent =
        `${bytes === true ? `${Math.round(value / 1024)} KiB` : value} ${label}`;
    });
    LINKS.forEach(({ from, to, label }, n) => {
      const value = links[n] ?? 0;
      if (value !== this.#before[n]) this.#litAt[n] = now;
      this.#before[n] = value;
      const element = this.#links[n]!;
      const down = STOREYS.indexOf(from) < STOREYS.indexOf(to);
      element.textContent = `${value} ${label} ${down ? '→' : '←'}`;
      const lit = now - this.#litAt[n]! < LIT_MS;
      element.classList.toggle('lit', lit);
      if (lit) setTimeout(() => this.#model.changed(), LIT_MS);
    });
  }
}

/** The gap, counted from the top, in which a link is shown. */
const between = (from: string, to: string): number => {
  const places = STOREYS.map(String);
  return Math.min(places.indexOf(from), places.indexOf(to), STOREYS.length - 2);
};
