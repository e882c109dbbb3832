/** Sound tables of each kind for PASID 5 and for requests without PASID, to be broken by tests. */
import { Bench, type BenchOptions, SID } from './bench.ts';
import { A, D, P, type PasidFields, R, RW, SS_A, SS_D, US, W } from './tables.ts';

export const PASID = 5;
export const VA = 0x7f12_3456_7000n;
/** What a second stage alone maps. */
export const SS_VA: bigint = VA & 0xffff_ffffn;
/** The page that VA or SS_VA leads to; under nesting a guest page. */
export const OUT = 0x30_0000n;
export const LEAF: bigint = P | RW | US | A | D;
export const LINK: bigint = P | RW | US | A;
/** Within the host address width, but no memory. */
export const FAR: bigint = 1n << 40n;

/** Under nesting, guest page g is host page g + 8 MiB, and the first-stage tables are guest pages. */
export const SHIFTED = 0x80_0000n;
/** Guest pages of the first-stage tables, root first. */
export const GUEST_TABLES = [0x10_1000n, 0x10_2000n, 0x10_3000n, 0x10_4000n] as const;

export interface Stage {
  readonly bench: Bench;
  readonly directory: bigint;
  /** Memory address of the context entry. */
  readonly context: bigint;
  /** First-stage root, in the address space that the PASID entry wants. */
  readonly fs: bigint;
  /** Second-stage root. */
  readonly ss: bigint;
  /** Memory address of the first-stage entry of VA at a level. */
  readonly fsEntry: (level: number) => bigint;
  /** Memory address of the second-stage entry of an input address at a level. */
  readonly ssEntry: (gpa: bigint, level: number) => bigint;
  /** Writes the PASID entries anew, with other fields. */
  readonly enter: (fields: PasidFields) => void;
}

export type Make = (options?: BenchOptions, fields?: PasidFields) => Stage;

/** First stage, 4 levels. */
export const first: Make = (options = {}, fields = {}) => {
  const bench = new Bench(options);
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const fs = tables.page();
  tables.map(fs, 4, VA, OUT | LEAF, LINK);
  const fsEntry = (level: number): bigint => tables.entry(fs, 4, VA, level);
  return finish({ bench, directory, fs, ss: 0n, fsEntry, ssEntry: () => 0n }, 1, fields);
};

/** First on second stage, 4 levels each; with SSADE the second stage's bits are all set. */
export const nested: Make = (options = {}, fields = {}) => {
  const bench = new Bench({ bytes: 1 << 24, ...options });
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const ss = tables.page();
  const place = (address: bigint): bigint => address + SHIFTED;
  const ssade = fields.ssade === true;
  const bits = R | W | (ssade ? SS_A | SS_D : 0n);
  let next = GUEST_TABLES[0] - 4096n;
  const mapPage = (gpa: bigint): void => {
    tables.map(ss, 4, gpa, place(gpa) | bits, R | W | (ssade ? SS_A : 0n));
  };
  const fresh = (): bigint => {
    next += 4096n;
    mapPage(next);
    return next;
  };
  const fs = fresh();
  tables.map(fs, 4, VA, OUT | LEAF, LINK, 1, place, fresh);
  mapPage(OUT);
  const fsEntry = (level: number): bigint => {
    let table = fs;
    for (let at = 4; ; at--) {
      const address = place(table) + ((VA >> BigInt(12 + 9 * (at - 1))) & 511n) * 8n;
      if (at === level) return address;
      table = tables.read(address) & ~0xfffn;
    }
  };
  const ssEntry = (gpa: bigint, level: number): bigint => tables.entry(ss, 4, gpa, level);
  return finish({ bench, directory, fs, ss, fsEntry, ssEntry }, 3, { did: 9, ...fields });
};

/** Second stage alone, 4 levels. */
export const second: Make = (options = {}, fields = {}) => {
  const bench = new Bench(options);
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const ss = tables.page();
  tables.map(ss, 4, SS_VA, OUT | R | W, R | W);
  const ssEntry = (gpa: bigint, level: number): bigint => tables.entry(ss, 4, gpa, level);
  return finish({ bench, directory, fs: 0n, ss, fsEntry: () => 0n, ssEntry }, 2, fields);
};

/** Pass-through. */
export const through: Make = (options = {}, fields = {}) => {
  const bench = new Bench(options);
  const directory = bench.tables.context(bench.root, SID);
  const none = (): bigint => 0n;
  return finish({ bench, directory, fs: 0n, ss: 0n, fsEntry: none, ssEntry: none }, 4, fields);
};

function finish(stage: Omit<Stage, 'enter' | 'context'>, pgtt: number, fields: PasidFields): Stage {
  const { bench, directory, fs, ss } = stage;
  const enter = (other: PasidFields): void => {
    for (const pasid of [PASID, 0]) {
      bench.tables.pasid(directory, pasid, { pgtt, fs, ss, ...fields, ...other });
    }
  };
  enter({});
  bench.enable();
  return { ...stage, context: bench.tables.contextAddress(bench.root, SID), enter };
}

export function set(stage: Stage, at: bigint, value: bigint): void {
  stage.bench.tables.write(at, value);
}

export function drop(stage: Stage, at: bigint, mask: bigint): void {
  stage.bench.tables.write(at, stage.bench.tables.read(at) & ~mask);
}

export function or(stage: Stage, at: bigint, mask: bigint): void {
  stage.bench.tables.or(at, mask);
}
