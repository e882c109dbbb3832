/** Legacy mode: sound tables for one function, and conditions that fault. */
import { Bench, type BenchOptions, SID } from './bench.ts';
import { PS, R, W } from './tables.ts';

export const LEGACY_VA = 0x1234_5000n;
export const LEGACY_OUT = 0x30_0000n;
const FAR = 1n << 40n;

export interface Legacy {
  readonly bench: Bench;
  /** Memory addresses of the root and the context entry. */
  readonly root: bigint;
  readonly context: bigint;
  /** Second-stage root; it maps LEGACY_VA. */
  readonly ss: bigint;
}

/** Translation type `tt`, 48 bits, domain 7. */
export function legacy(tt = 1n, options: BenchOptions = {}): Legacy {
  const bench = new Bench(options);
  const { tables } = bench;
  const table = tables.page();
  const root = bench.root + BigInt(SID >> 8) * 16n;
  tables.write(root, table | 1n);
  const ss = tables.page();
  tables.map(ss, 4, LEGACY_VA, LEGACY_OUT | R | W, R | W);
  const context = table + BigInt(SID & 0xff) * 16n;
  tables.write(context + 8n, 2n | (7n << 8n));
  tables.write(context, ss | (tt << 2n) | 1n);
  bench.enable(0);
  return { bench, root, context, ss };
}

/** Which requests without PASID meet the condition. */
interface Meets {
  readonly read: boolean;
  readonly write: boolean;
  readonly translation: boolean;
  readonly translated: boolean;
}

export interface LegacyScene {
  readonly code: number;
  readonly name: string;
  readonly va: bigint;
  readonly meets: Meets;
  readonly make: (options: BenchOptions) => Legacy;
}

const ALL: Meets = { read: true, write: true, translation: true, translated: true };
const WALK: Meets = { ...ALL, translated: false };

function scene(
  code: number,
  name: string,
  breakIt: (l: Legacy) => void,
  more: { meets?: Meets; tt?: bigint; va?: bigint; options?: BenchOptions } = {},
): LegacyScene {
  const { meets = ALL, tt = 1n, va = LEGACY_VA } = more;
  const make = (options: BenchOptions): Legacy => {
    const made = legacy(tt, { ...options, ...more.options });
    breakIt(made);
    return made;
  };
  return { code, name, va, meets, make };
}

const set = (l: Legacy, at: bigint, value: bigint): void => l.bench.tables.write(at, value);
const or = (l: Legacy, at: bigint, value: bigint): void => l.bench.tables.or(at, value);
const entry = (l: Legacy, level: number): bigint => l.bench.tables.entry(l.ss, 4, LEGACY_VA, level);

export const LEGACY_SCENES: readonly LegacyScene[] = [
  scene(0x01, 'root not present', (l) => set(l, l.root, 0n)),
  scene(0x02, 'context not present', (l) => set(l, l.context, 0n)),
  scene(0x03, 'TT 3', (l) => or(l, l.context, 12n)),
  scene(0x03, 'AW that SAGAW lacks', (l) => set(l, l.context + 8n, 3n)),
  scene(0x03, 'AW 0', (l) => set(l, l.context + 8n, 0n)),
  scene(0x03, 'TT 1 without DT', () => undefined, { options: { ecap: { DT: 0 } } }),
  scene(0x03, 'TT 2 without PT', () => undefined, { tt: 2n, options: { ecap: { PT: 0 } } }),
  scene(0x03, 'second-stage root out of reach', (l) => set(l, l.context, FAR | 5n), {
    meets: WALK,
  }),
  scene(0x04, 'address beyond AW and HAW', () => undefined, { va: 1n << 48n }),
  scene(0x05, 'no write permission', (l) => set(l, entry(l, 1), LEGACY_OUT | R), {
    meets: { read: false, write: true, translation: false, translated: false },
  }),
  scene(0x06, 'no read permission', (l) => set(l, entry(l, 1), LEGACY_OUT | W), {
    meets: { read: true, write: false, translation: false, translated: false },
  }),
  scene(0x07, 'table out of reach', (l) => set(l, entry(l, 3), FAR | R | W), { meets: WALK }),
  scene(0x08, 'root out of reach', ({ bench }) => {
    bench.w64(0x20, FAR);
    bench.w32(0x18, 0xc000_0000);
  }),
  scene(0x09, 'context out of reach', (l) => set(l, l.root, FAR | 1n)),
  scene(0x0a, 'root reserved', (l) => set(l, l.root + 8n, 1n)),
  scene(0x0b, 'context reserved', (l) => or(l, l.context + 8n, 1n << 24n)),
  scene(0x0c, 'second-stage reserved', (l) => set(l, entry(l, 4), PS | R | W), { meets: WALK }),
  scene(0x0d, 'TT 0', () => undefined, {
    tt: 0n,
    meets: { read: false, write: false, translation: true, translated: true },
  }),
  scene(0x0d, 'TT 2', () => undefined, {
    tt: 2n,
    meets: { read: false, write: false, translation: true, translated: true },
  }),
  scene(0x0e, 'output in the interrupt window', (l) => set(l, entry(l, 1), 0xfee0_0000n | R | W), {
    meets: WALK,
  }),
];
