/** The committed ratios (baseline.json), and what has fallen against them. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Figure } from './measure.ts';

const FILE = new URL('baseline.json', import.meta.url);

/** A ratio that falls by more than this part of the baseline fails the check. */
export const TOLERANCE = 0.2;

/** By key, of which more is better. */
export type Ratios = Readonly<Record<string, number>>;

export interface Fall {
  readonly key: string;
  readonly was: number;
  readonly is: number;
}

/** The ratios of figures that have a key. */
export function baselineOf(figures: readonly Figure[]): Ratios {
  return Object.fromEntries(
    figures.flatMap(({ key, ratio }) => (key === undefined ? [] : [[key, ratio] as const])),
  );
}

/** The ratios that were measured and are below the baseline by more than the tolerance. */
export function fallen(ratios: Ratios, baseline: Ratios): Fall[] {
  return Object.entries(baseline).flatMap(([key, was]) => {
    const is = ratios[key];
    return is === undefined || is >= was * (1 - TOLERANCE) ? [] : [{ key, was, is }];
  });
}

/** The better one of each ratio: noise only ever makes a ratio of shortest times worse. */
export function better(a: Ratios, b: Ratios): Ratios {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Object.fromEntries([...keys].map((key) => [key, Math.max(a[key] ?? 0, b[key] ?? 0)]));
}

export function readBaseline(): Ratios {
  return JSON.parse(readFileSync(FILE, 'utf8')) as Ratios;
}

/** Puts ratios in place of those that the file has. */
export function writeBaseline(ratios: Ratios): void {
  const all = Object.entries({ ...readBaseline(), ...ratios }).map(
    ([key, ratio]) => [key, Number(ratio.toPrecision(3))] as const,
  );
  writeFileSync(FILE, `${JSON.stringify(Object.fromEntries(all), null, 2)}\n`);
}
