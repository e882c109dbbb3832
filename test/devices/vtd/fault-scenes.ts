/** Conditions that fault, each with what makes it and which requests meet it. */
import { type BenchOptions, SID } from './bench.ts';
import {
  drop,
  FAR,
  first,
  GUEST_TABLES,
  LEAF,
  LINK,
  type Make,
  nested,
  OUT,
  or,
  PASID,
  SS_VA,
  type Stage,
  second,
  set,
  through,
} from './stages.ts';
import { A, D, P, type PasidFields, PS, R, RW, SNP, SS_A, SS_D, US, W } from './tables.ts';

/** A request of the matrix, with every attribute that counts. */
export interface Req {
  readonly kind: 'untranslated' | 'translation' | 'translated' | 'page request';
  readonly access: 'read' | 'write' | 'atomic' | 'zero-length read';
  readonly noWrite: boolean;
  readonly hasPasid: boolean;
  readonly priv: boolean;
  readonly exec: boolean;
  readonly last: boolean;
}

/**
 * How far a request comes before it meets the condition: the mode or the context entry (every
 * request), ATS enable, the PASID prefix, page-request enable, the PASID entry, the walk.
 */
export type Level = 'context' | 'ats' | 'prefix' | 'pre' | 'entry' | 'walk';

export interface Scene {
  readonly code: number;
  readonly name: string;
  readonly level: Level;
  readonly make: Make;
  readonly breakIt: (stage: Stage) => void;
  readonly options?: BenchOptions;
  readonly fields?: PasidFields;
  /** Address asked for; default VA, or SS_VA for a second stage. */
  readonly va?: bigint;
  /** The PASID of requests with one. */
  readonly pasid?: number;
  /** Of walks: whether the request meets the condition; default all do. */
  readonly meets?: (r: Req) => boolean;
  /** Requests that are another matter. */
  readonly skips?: (r: Req) => boolean;
  /** Translated requests meet it too. */
  readonly translatedToo?: boolean;
}

const isAts = (r: Req): boolean => r.kind === 'translation';
const writes = (r: Req): boolean => r.access === 'write' || r.access === 'atomic';
const reads = (r: Req): boolean => r.access !== 'write';
/** Requests that a dirty bit is set for. */
const dirties = (r: Req): boolean => (isAts(r) ? !r.noWrite : writes(r));
const user = (r: Req): boolean => !(r.priv && r.hasPasid);
const plain = (r: Req): boolean => !isAts(r);

const walk = (
  code: number,
  name: string,
  make: Make,
  breakIt: (stage: Stage) => void,
  more: Partial<Scene> = {},
): Scene => ({ code, name, level: 'walk', make, breakIt, ...more });

const at = (
  level: Level,
  code: number,
  name: string,
  breakIt: (stage: Stage) => void,
  more: Partial<Scene> = {},
): Scene => ({ code, name, level, make: first, breakIt, ...more });

const rootEntry = (s: Stage): bigint => s.bench.tables.rootEntry(s.bench.root, SID);
const dirEntry = (s: Stage): bigint => s.bench.tables.directoryEntry(s.directory, PASID);
const setRoot = (s: Stage, root: bigint, mode: bigint): void => {
  s.bench.w64(0x20, root | (mode << 10n));
  s.bench.w32(0x18, 0xc000_0000);
};
const UNSNOOPED: PasidFields = { pwsnp: false };
const narrow = (s: Stage): void => s.enter({ aw: 1, ss: s.bench.tables.read(s.ss) & ~0xfffn });

export const SCENES: readonly Scene[] = [
  at('context', 0x30, 'reserved mode', (s) => setRoot(s, s.bench.root, 2n)),
  at('context', 0x30, 'SSIRWE', (s) => setRoot(s, s.bench.root | 0x80n, 1n)),
  at('context', 0x30, 'abort-DMA without ADMS', (s) => setRoot(s, s.bench.root, 3n)),
  at('context', 0x33, 'abort-DMA', (s) => setRoot(s, s.bench.root, 3n), {
    options: { ecap: { ADMS: 1 } },
  }),
  at('context', 0x38, 'root out of reach', (s) => setRoot(s, FAR, 1n)),
  at('context', 0x39, 'root entry empty', (s) => set(s, rootEntry(s), 0n)),
  at('context', 0x3a, 'root entry reserved', (s) => or(s, rootEntry(s), 2n)),
  at('context', 0x40, 'context table out of reach', (s) => set(s, rootEntry(s), FAR | 1n)),
  at('context', 0x41, 'context not present', (s) => drop(s, s.context, 1n)),
  at('context', 0x42, 'context reserved', (s) => set(s, s.context + 24n, 1n)),
  at('context', 0x43, 'PRE without DTE', (s) => drop(s, s.context, 4n)),
  at('ats', 0x44, 'DTE clear', (s) => drop(s, s.context, 0x14n)),
  at('prefix', 0x45, 'PASIDE clear', (s) => drop(s, s.context, 8n)),
  at('prefix', 0x46, 'beyond PDTS', () => undefined, { pasid: 1 << 15 }),
  at('prefix', 0x48, 'RID_PASID', () => undefined, { pasid: 0 }),
  at('prefix', 0x89, 'beyond PSS', () => undefined, {
    options: { ecap: { PSS: 5 } },
    pasid: 64,
  }),
  at('pre', 0x47, 'PRE clear', (s) => drop(s, s.context, 0x10n)),
  at('entry', 0x50, 'directory out of reach', (s) =>
    set(s, s.context, (s.bench.tables.read(s.context) & 0xfffn) | FAR),
  ),
  at('entry', 0x51, 'directory entry not present', (s) => drop(s, dirEntry(s), 1n)),
  at('entry', 0x52, 'directory entry reserved', (s) => or(s, dirEntry(s), 4n)),
  at('entry', 0x58, 'PASID table out of reach', (s) => set(s, dirEntry(s), FAR | 1n)),
  at('entry', 0x59, 'PASID entry not present', (s) => s.enter({ present: false })),
  at('entry', 0x5a, 'SRE without SRS', (s) => s.enter({ sre: true }), {
    options: { ecap: { SRS: 0 } },
    fields: { sre: false },
  }),
  at('entry', 0x5b, 'PGTT 0', (s) => s.enter({ pgtt: 0 })),
  at('entry', 0x5b, 'five levels without FS5LP', (s) => s.enter({ fspm: 1 })),
  walk(0x5d, 'first stage without SRE', first, (s) => s.enter({ sre: false }), {
    meets: (r) => !user(r),
  }),
  walk(0x5d, 'nested without SRE', nested, (s) => s.enter({ sre: false }), {
    meets: (r) => !user(r),
  }),

  walk(0x70, 'table out of reach', first, (s) => set(s, s.fsEntry(2), FAR | LINK)),
  walk(0x71, 'leaf not present', first, (s) => drop(s, s.fsEntry(1), P)),
  walk(0x71, 'table entry not present', first, (s) => drop(s, s.fsEntry(3), P)),
  walk(0x72, 'PS in a PML4 entry', first, (s) => or(s, s.fsEntry(4), PS)),
  walk(0x73, 'root out of reach', first, (s) => s.enter({ fs: FAR })),
  walk(0x80, 'not canonical', first, () => undefined, { va: 1n << 47n }),
  walk(0x81, 'supervisor page', first, (s) => drop(s, s.fsEntry(2), US), { meets: user }),
  walk(0x85, 'read-only page', first, (s) => drop(s, s.fsEntry(1), RW), {
    meets: (r) => plain(r) && writes(r) && user(r),
  }),
  walk(0x85, 'read-only table, WPE', first, (s) => drop(s, s.fsEntry(3), RW), {
    fields: { wpe: true },
    meets: (r) => plain(r) && writes(r),
  }),
  walk(0x87, 'interrupt window', first, (s) => set(s, s.fsEntry(1), 0xfee0_0000n | LEAF)),
  walk(0x90, 'accessed bit, not snooped', first, (s) => drop(s, s.fsEntry(1), A), {
    fields: UNSNOOPED,
  }),
  walk(0x90, 'dirty bit, not snooped', first, (s) => drop(s, s.fsEntry(1), D), {
    fields: UNSNOOPED,
    meets: dirties,
  }),
  walk(0x91, 'accessed bit refused', first, (s) => drop(s, s.fsEntry(1), A), {
    options: { refusesUpdates: () => true },
  }),
  walk(0x91, 'dirty bit refused', first, (s) => drop(s, s.fsEntry(1), D), {
    options: { refusesUpdates: () => true },
    meets: dirties,
  }),

  walk(0x74, 'first-stage table beyond the second stage', nested, (s) => {
    narrow(s);
    set(s, s.fsEntry(3), (1n << 39n) | LINK);
  }),
  walk(0x74, 'output beyond the second stage', nested, (s) => {
    narrow(s);
    set(s, s.fsEntry(1), (1n << 39n) | LEAF);
  }),
  walk(0x75, 'root not readable', nested, (s) => drop(s, s.ssEntry(s.fs, 1), R)),
  walk(0x76, 'table not readable', nested, (s) => drop(s, s.ssEntry(GUEST_TABLES[2], 1), R)),
  walk(0x77, 'accessed bit in a read-only table', nested, (s) => {
    drop(s, s.fsEntry(1), A);
    drop(s, s.ssEntry(GUEST_TABLES[3], 1), W);
  }),
  walk(
    0x77,
    'dirty bit in a read-only table',
    nested,
    (s) => {
      drop(s, s.fsEntry(1), D);
      drop(s, s.ssEntry(GUEST_TABLES[3], 1), W);
    },
    { meets: dirties },
  ),
  walk(0x77, 'read-only table, SSADE', nested, (s) => drop(s, s.ssEntry(GUEST_TABLES[3], 1), W), {
    fields: { ssade: true },
  }),
  walk(0x78, 'nested: table out of reach', nested, (s) => set(s, s.ssEntry(OUT, 3), FAR | R | W)),
  walk(0x79, 'nested: output not mapped', nested, (s) => set(s, s.ssEntry(OUT, 1), 0n)),
  walk(0x79, 'nested: table not mapped', nested, (s) => set(s, s.ssEntry(GUEST_TABLES[1], 1), 0n)),
  walk(0x7a, 'nested: bit 62', nested, (s) => or(s, s.ssEntry(OUT, 1), 1n << 62n)),
  walk(0x7b, 'nested: root out of reach', nested, (s) => s.enter({ ss: FAR })),
  walk(0x7c, 'nested: accessed bit, not snooped', nested, (s) => drop(s, s.ssEntry(OUT, 1), SS_A), {
    fields: { ssade: true, pwsnp: false },
  }),
  walk(0x7d, 'nested: accessed bit refused', nested, (s) => drop(s, s.ssEntry(OUT, 1), SS_A), {
    fields: { ssade: true },
    options: { refusesUpdates: () => true },
  }),
  walk(0x85, 'nested: second stage read-only', nested, (s) => drop(s, s.ssEntry(OUT, 1), W), {
    meets: (r) => plain(r) && writes(r),
  }),
  walk(0x86, 'nested: second stage write-only', nested, (s) => drop(s, s.ssEntry(OUT, 1), R), {
    meets: (r) => plain(r) && reads(r),
  }),
  walk(0x87, 'nested: interrupt window', nested, (s) =>
    set(s, s.ssEntry(OUT, 1), 0xfee0_0000n | R | W),
  ),

  walk(0x78, 'table out of reach', second, (s) => set(s, s.ssEntry(SS_VA, 2), FAR | R | W)),
  walk(0x79, 'not mapped', second, (s) => set(s, s.ssEntry(SS_VA, 1), 0n)),
  walk(0x79, 'permissions that cancel out', second, (s) => {
    drop(s, s.ssEntry(SS_VA, 1), R);
    drop(s, s.ssEntry(SS_VA, 3), W);
  }),
  walk(0x7a, 'SNP in a table entry', second, (s) => or(s, s.ssEntry(SS_VA, 2), SNP)),
  walk(0x7b, 'root out of reach', second, (s) => s.enter({ ss: FAR })),
  walk(0x7c, 'accessed bit, not snooped', second, () => undefined, {
    fields: { ssade: true, pwsnp: false },
  }),
  walk(0x7c, 'dirty bit, not snooped', second, (s) => accessed(s), {
    fields: { ssade: true, pwsnp: false },
    meets: dirties,
  }),
  walk(0x7d, 'accessed bit refused', second, () => undefined, {
    fields: { ssade: true },
    options: { refusesUpdates: () => true },
  }),
  walk(0x7d, 'dirty bit refused', second, (s) => accessed(s), {
    fields: { ssade: true },
    options: { refusesUpdates: () => true },
    meets: dirties,
  }),
  walk(0x84, 'beyond AW', second, () => undefined, { va: 1n << 48n }),
  walk(0x84, 'beyond MGAW', second, () => undefined, {
    options: { cap: { MGAW: 38 } },
    va: 1n << 39n,
  }),
  walk(0x85, 'read-only', second, (s) => drop(s, s.ssEntry(SS_VA, 1), W), {
    meets: (r) => plain(r) && writes(r),
  }),
  walk(0x86, 'write-only', second, (s) => drop(s, s.ssEntry(SS_VA, 1), R), {
    meets: (r) => plain(r) && reads(r),
  }),
  walk(0x86, 'write-only, with ZLR', second, (s) => drop(s, s.ssEntry(SS_VA, 1), R), {
    options: { cap: { ZLR: 1 } },
    meets: (r) => plain(r) && reads(r) && r.access !== 'zero-length read',
  }),
  walk(0x87, 'interrupt window', second, (s) => set(s, s.ssEntry(SS_VA, 1), 0xfee0_0000n | R | W)),

  walk(0x83, 'beyond HAW', through, () => undefined, { va: 1n << 46n, translatedToo: true }),
  walk(0x87, 'interrupt window, with PASID', through, () => undefined, {
    va: 0xfee0_0000n,
    skips: (r) => !r.hasPasid,
  }),
];

/** Sets the second stage's accessed bits, so that only the dirty bit is missing. */
function accessed(s: Stage): void {
  for (const level of [1, 2, 3, 4]) or(s, s.ssEntry(SS_VA, level), SS_A);
  drop(s, s.ssEntry(SS_VA, 1), SS_D);
}
