/** Every bit of every structure by itself: reserved ones fault, all others do not fault so. */
import { Bench, type BenchOptions, SID } from './bench.ts';
import { legacy } from './legacy-scenes.ts';
import { rule } from './rule.ts';
import type { RuleId } from './rules.ts';
import { first, nested, PASID, SS_VA, type Stage, second, through, VA } from './stages.ts';
import { P, type PasidFields, PS, R, W } from './tables.ts';

/** Bits hi:lo. */
function bits(...ranges: readonly (readonly [hi: number, lo: number])[]): bigint {
  return ranges.reduce(
    (mask, [hi, lo]) => mask | (((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)),
    0n,
  );
}

const ALL = bits([63, 0]);
/** Address bits at and beyond the host address width of the bench, 46. */
const BEYOND = bits([63, 46]);

interface Structure {
  readonly id: RuleId;
  readonly name: string;
  readonly code: number;
  /** Reserved bits, by word. */
  readonly reserved: readonly bigint[];
  /** Sound tables, the memory address of the first word, and a request that reads the structure. */
  readonly make: () => { bench: Bench; at: bigint; ask: () => number };
}

function of(stage: Stage, at: bigint, va = VA): ReturnType<Structure['make']> {
  return { bench: stage.bench, at, ask: () => stage.bench.dma(va, { pasid: PASID }) };
}

const entryOf = (s: Stage): bigint => s.bench.tables.pasidAddress(s.directory, PASID);

function pasid(
  name: string,
  make: (options: BenchOptions, fields: PasidFields) => Stage,
  reserved: readonly bigint[],
  options: BenchOptions = {},
  fields: PasidFields = {},
): Structure {
  const bare = Object.keys(options).length > 0;
  return {
    id: bare ? 'ENT-PASID-2' : 'ENT-PASID-1',
    name,
    code: 0x5a,
    reserved,
    make: () => {
      const stage = make(options, fields);
      return of(stage, entryOf(stage), make === first || make === nested ? VA : SS_VA);
    },
  };
}

const QW1 = bits([22, 16], [31, 25]);
const QW2 = bits([1, 1], [11, 8]);
const REST = [ALL, ALL, ALL, ALL, ALL];

const STRUCTURES: readonly Structure[] = [
  {
    id: 'ENT-ROOT-1',
    name: 'root entry, lower half',
    code: 0x3a,
    reserved: [bits([11, 1]) | BEYOND, 0n],
    make: () => {
      const stage = first();
      return of(stage, stage.bench.tables.rootEntry(stage.bench.root, SID));
    },
  },
  {
    id: 'ENT-CTX-1',
    name: 'context entry',
    code: 0x42,
    reserved: [bits([8, 5]) | BEYOND, bits([63, 20]), ALL, ALL],
    make: () => {
      const stage = first();
      return of(stage, stage.context);
    },
  },
  {
    id: 'ENT-CTX-2',
    name: 'context entry without RPS, PRS, PASID and DT',
    code: 0x42,
    reserved: [bits([8, 2]) | BEYOND, ALL, ALL, ALL],
    make: () => {
      const ecap = { RPS: 0, PRS: 0, PASID: 0, DT: 0 };
      const stage = through({ ecap });
      const { tables } = stage.bench;
      tables.write(stage.context, tables.read(stage.context) & ~0x1cn);
      return { ...of(stage, stage.context), ask: () => stage.bench.dma(0x5000n) };
    },
  },
  {
    id: 'ENT-CTX-2',
    name: 'context entry with RPRIVS',
    code: 0x42,
    reserved: [bits([8, 5]) | BEYOND, bits([63, 21]), ALL, ALL],
    make: () => {
      const stage = first({ ecap: { RPRIVS: 1 } });
      return of(stage, stage.context);
    },
  },
  {
    id: 'ENT-DIR-1',
    name: 'PASID directory entry',
    code: 0x52,
    reserved: [bits([11, 2]) | BEYOND],
    make: () => {
      const stage = first();
      return of(stage, stage.bench.tables.directoryEntry(stage.directory, PASID));
    },
  },
  pasid('PASID entry, first stage', first, [bits([5, 5], [11, 10]), QW1, QW2 | BEYOND, ...REST]),
  pasid('PASID entry, second stage', second, [bits([5, 5], [11, 10]) | BEYOND, QW1, QW2, ...REST]),
  pasid('PASID entry, nested', nested, [bits([5, 5], [11, 10]) | BEYOND, QW1, QW2, ...REST]),
  pasid('PASID entry, pass-through', through, [bits([5, 5], [11, 10]), QW1, QW2, ...REST]),
  pasid(
    'PASID entry without SSADS, SMPWCS, SC, SRS and EAFS',
    first,
    [bits([5, 5], [11, 9]), QW1 | bits([24, 23]), QW2 | BEYOND | bits([0, 0], [7, 7]), ...REST],
    { ecap: { SSADS: 0, SMPWCS: 0, SC: 0, SRS: 0, EAFS: 0 } },
    { pwsnp: false },
  ),
  pasid(
    'PASID entry with MTS: CD and EMTE',
    first,
    [bits([5, 5], [11, 10]), bits([22, 16], [31, 27]), QW2 | BEYOND, ...REST],
    { ecap: { MTS: 1 } },
  ),
  {
    id: 'ENT-LEG-1',
    name: 'legacy root entry',
    code: 0x0a,
    reserved: [bits([11, 1]) | BEYOND, ALL],
    make: () => {
      const { bench, root } = legacy();
      return { bench, at: root, ask: () => bench.dma(0x1234_5000n) };
    },
  },
  {
    id: 'ENT-LEG-1',
    name: 'legacy context entry',
    code: 0x0b,
    reserved: [bits([11, 4]) | BEYOND, bits([7, 7], [63, 24])],
    make: () => {
      const { bench, context } = legacy();
      return { bench, at: context, ask: () => bench.dma(0x1234_5000n) };
    },
  },
];

for (const { id, name, code, reserved, make } of STRUCTURES) {
  rule(id, `${name}: every bit by itself`, (t) => {
    const { bench, at, ask } = make();
    const { tables } = bench;
    t.true(ask() >= 0, 'sound as it is');
    for (const [word, mask] of reserved.entries()) {
      const address = at + 8n * BigInt(word);
      const sound = tables.read(address);
      for (let bit = 0n; bit < 64n; bit++) {
        if (((sound >> bit) & 1n) === 1n) continue;
        tables.write(address, sound | (1n << bit));
        bench.w32(0x18, 0xc000_0000);
        const isReserved = ((mask >> bit) & 1n) === 1n;
        const fault = -ask();
        if ((fault === code) !== isReserved) t.fail(`word ${word} bit ${bit}: ${fault}`);
        bench.takeFault();
      }
      tables.write(address, sound);
    }
    bench.w32(0x18, 0xc000_0000);
    t.true(ask() >= 0, 'sound again');
  });
}

/** Checks every bit of the entry at an address, beside those of `sound`. */
function everyBit(
  bench: Bench,
  at: bigint,
  sound: bigint,
  isReserved: (bit: number) => boolean,
  code: number,
  ask: () => number,
): string[] {
  const wrong: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((sound >> BigInt(bit)) & 1n) === 1n) continue;
    bench.tables.write(at, sound | (1n << BigInt(bit)));
    bench.w32(0x18, 0xc000_0000);
    const fault = -ask();
    if ((fault === code) !== isReserved(bit)) wrong.push(`${at.toString(16)} bit ${bit}: ${fault}`);
    bench.takeFault();
  }
  bench.tables.write(at, sound);
  return wrong;
}

const ABOVE = (bit: number): boolean => bit >= 46 && bit <= 51;

for (const flat of [true, false]) {
  const memory = flat ? 'flat' : 'scattered';
  rule(['FS-ENT-1', 'FS-ENT-2'], `first-stage entries, every bit, ${memory} memory`, (t) => {
    for (const FS1GP of [1, 0]) {
      const { bench, directory } = first({ flat, cap: { FS5LP: 1, FS1GP } });
      const { tables } = bench;
      const fs = tables.page();
      tables.map(fs, 5, VA, 0x30_0067n, 0x67n);
      tables.pasid(directory, PASID, { fs, fspm: 1 });
      const ask = (): number => bench.dma(VA, { pasid: PASID });
      for (const level of [1, 2, 3, 4, 5]) {
        const at = tables.entry(fs, 5, VA, level);
        const large = level > 3 || (level === 3 && FS1GP === 0);
        const reserved = (bit: number): boolean => ABOVE(bit) || (large && bit === 7);
        const found = everyBit(bench, at, tables.read(at), reserved, 0x72, ask);
        // A table pointer taken for a large page may be misaligned, which is reserved too.
        t.deepEqual(
          found.filter((text) => level === 1 || large || !text.includes(' bit 7:')),
          [],
        );
      }
      for (const level of FS1GP === 1 ? [2, 3] : [2]) {
        const at = tables.entry(fs, 5, VA, level);
        const old = tables.read(at);
        const shift = 12 + 9 * (level - 1);
        const reserved = (bit: number): boolean => ABOVE(bit) || (bit >= 13 && bit < shift);
        t.deepEqual(everyBit(bench, at, 0x4000_0000n | PS | 0x67n, reserved, 0x72, ask), []);
        tables.write(at, old);
      }
      // Not present: nothing is looked at.
      const leaf = tables.entry(fs, 5, VA, 1);
      tables.write(leaf, ~P);
      bench.w32(0x18, 0xc000_0000);
      t.is(ask(), -0x71);
    }
  });

  rule(['SS-ENT-1', 'SS-ENT-2'], `second-stage entries, every bit, ${memory} memory`, (t) => {
    for (const [SC, SSLPS] of [
      [1, 3],
      [0, 1],
    ] as const) {
      const cap = { SAGAW: 0xe, MGAW: 56, SSLPS };
      const { bench, directory } = second({ flat, cap, ecap: { SC } });
      const { tables } = bench;
      const ss = tables.page();
      tables.map(ss, 5, SS_VA, 0x30_0000n | R | W, R | W);
      tables.pasid(directory, PASID, { pgtt: 2, aw: 3, ss });
      const ask = (): number => bench.dma(SS_VA, { pasid: PASID });
      const common = (bit: number): boolean => ABOVE(bit) || bit === 62;
      for (const level of [1, 2, 3, 4, 5]) {
        const at = tables.entry(ss, 5, SS_VA, level);
        const large = level === 1 || level === 2 || (level === 3 && SSLPS === 3);
        const snp = (bit: number): boolean => bit === 11 && (level > 1 || SC === 0);
        const reserved = (bit: number): boolean => common(bit) || snp(bit) || (!large && bit === 7);
        const found = everyBit(bench, at, tables.read(at), reserved, 0x7a, ask);
        t.deepEqual(
          found.filter((text) => !(level > 1 && large && text.includes(' bit 7:'))),
          [],
        );
      }
      for (const level of SSLPS === 3 ? [2, 3] : [2]) {
        const at = tables.entry(ss, 5, SS_VA, level);
        const old = tables.read(at);
        const shift = 12 + 9 * (level - 1);
        const reserved = (bit: number): boolean =>
          common(bit) || (bit >= 12 && bit < shift) || (bit === 11 && SC === 0);
        t.deepEqual(everyBit(bench, at, 0x4000_0000n | PS | R | W, reserved, 0x7a, ask), []);
        tables.write(at, old);
      }
    }
  });
}

rule('IR-5', 'interrupt entries, every bit, with and without EIME', (t) => {
  for (const extended of [false, true]) {
    const bench = new Bench({ cap: { ESIRTPS: 1 } });
    const table = bench.tables.page();
    bench.w64(0xb8, table | (extended ? 0x803n : 3n));
    bench.gcmd(0x0100_0000, true);
    bench.gcmd(0x0200_0000, true);
    const words = [1n | (0x45n << 16n), 0n];
    const masks = [
      bits([15, 12], [31, 24]) | (extended ? 0n : bits([39, 32], [63, 48])),
      bits([63, 20]),
    ];
    for (const [word, mask] of masks.entries()) {
      for (let bit = 0n; bit < 64n; bit++) {
        const values = words.map((value, i) => (i === word ? value | (1n << bit) : value));
        values.forEach((value, i) => bench.tables.write(table + 80n + 8n * BigInt(i), value));
        bench.gcmd(0x0100_0000, true);
        bench.unit.interruptRequest(SID, 0xfee0_0010 + 5 * 32, 0);
        const isReserved = ((mask >> bit) & 1n) === 1n && ((words[word]! >> bit) & 1n) === 0n;
        t.is(bench.takeFault()?.code === 0x24, isReserved, `word ${word} bit ${bit}`);
      }
    }
  }
});
