/** Page-table faults and results, each stage by itself, on flat and on scattered memory. */
import test from 'ava';

import { AT } from '../../../devices/pci/fabric.ts';
import { Bench, type BenchOptions, SID, vpn } from './bench.ts';
import { A, D, EA, P, PS, R, RW, SNP, SS_A, SS_D, US, W } from './tables.ts';

const PASID = 5;
const VA = 0x7f12_3456_7000n;
const OUT = 0x30_0000n;
const LEAF = P | RW | US | A | D;
const LINK = P | RW | US | A;
const FAR = 1n << 40n;

interface Stage {
  bench: Bench;
  directory: bigint;
  /** First-stage root, in the address space the entry wants. */
  fs: bigint;
  /** Second-stage root. */
  ss: bigint;
  /** Memory address of the first- or second-stage entry of VA or OUT at a level. */
  fsEntry: (level: number) => bigint;
  ssEntry: (gpa: bigint, level: number) => bigint;
}

function first(options: BenchOptions = {}): Stage {
  const bench = new Bench(options);
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const fs = tables.page();
  tables.map(fs, 4, VA, OUT | LEAF, LINK);
  tables.pasid(directory, PASID, { fs });
  bench.enable();
  const fsEntry = (level: number): bigint => tables.entry(fs, 4, VA, level);
  return { bench, directory, fs, ss: 0n, fsEntry, ssEntry: () => 0n };
}

/** Guest page g is host page g + 16 MiB up to 8 MiB; the tables live in guest pages. */
const SHIFTED = 0x80_0000n;

function nested(options: BenchOptions = {}, ssade = false): Stage {
  const bench = new Bench({ bytes: 1 << 25, ...options });
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const ss = tables.page();
  const place = (address: bigint): bigint => address + SHIFTED;
  const bits = R | W | (ssade ? SS_A | SS_D : 0n);
  let next = 0x10_0000n;
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
  tables.pasid(directory, PASID, { pgtt: 3, fs, ss, did: 9, ssade });
  bench.enable();
  const fsEntry = (level: number): bigint => {
    let table = fs;
    for (let at = 4; ; at--) {
      const address = place(table) + ((VA >> BigInt(12 + 9 * (at - 1))) & 511n) * 8n;
      if (at === level) return address;
      table = tables.read(address) & ~0xfffn;
    }
  };
  const ssEntry = (gpa: bigint, level: number): bigint => tables.entry(ss, 4, gpa, level);
  return { bench, directory, fs, ss, fsEntry, ssEntry };
}

function second(options: BenchOptions = {}, fields = {}): Stage {
  const bench = new Bench(options);
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const ss = tables.page();
  tables.map(ss, 4, VA & 0xffff_ffffn, OUT | R | W, R | W);
  tables.pasid(directory, PASID, { pgtt: 2, ss, ...fields });
  bench.enable();
  const ssEntry = (gpa: bigint, level: number): bigint => tables.entry(ss, 4, gpa, level);
  return { bench, directory, fs: 0n, ss, fsEntry: () => 0n, ssEntry };
}

interface Row {
  name: string;
  make: (options: BenchOptions) => Stage;
  breakIt: (stage: Stage) => void;
  code: number;
  ats: string;
  va?: bigint;
  write?: boolean;
  recorded?: boolean;
}

const set = (stage: Stage, at: bigint, value: bigint): void => stage.bench.tables.write(at, value);
const drop = (stage: Stage, at: bigint, mask: bigint): void =>
  stage.bench.tables.write(at, stage.bench.tables.read(at) & ~mask);
const ssVa = VA & 0xffff_ffffn;

const rows: Row[] = [
  {
    name: 'FS table out of reach',
    make: first,
    code: 0x70,
    ats: '-- 70',
    breakIt: (s) => set(s, s.fsEntry(2), FAR | LINK),
  },
  {
    name: 'FS entry not present',
    make: first,
    code: 0x71,
    ats: '-- 71',
    breakIt: (s) => drop(s, s.fsEntry(1), P),
  },
  {
    name: 'FS table entry not present',
    make: first,
    code: 0x71,
    ats: '-- 71',
    breakIt: (s) => drop(s, s.fsEntry(3), P),
  },
  {
    name: 'FS address beyond HAW',
    make: first,
    code: 0x72,
    ats: '-- 72',
    breakIt: (s) => s.bench.tables.or(s.fsEntry(1), 1n << 46n),
  },
  {
    name: 'FS PML4E with PS',
    make: first,
    code: 0x72,
    ats: '-- 72',
    breakIt: (s) => s.bench.tables.or(s.fsEntry(4), PS),
  },
  {
    name: 'FS 2 MiB leaf misaligned',
    make: first,
    code: 0x72,
    ats: '-- 72',
    breakIt: (s) => set(s, s.fsEntry(2), 0x40_2000n | PS | LEAF),
  },
  {
    name: 'FS 1 GiB leaf without FS1GP',
    make: (o) => first({ ...o, cap: { FS1GP: 0 } }),
    code: 0x72,
    ats: '-- 72',
    breakIt: (s) => set(s, s.fsEntry(3), 0x4000_0000n | PS | LEAF),
  },
  {
    name: 'FS root out of reach',
    make: first,
    code: 0x73,
    ats: '-- 73',
    breakIt: (s) => s.bench.tables.pasid(s.directory, PASID, { fs: FAR }),
  },
  {
    name: 'FS not canonical',
    make: first,
    code: 0x80,
    ats: '-- 80',
    va: 1n << 47n,
    breakIt: () => undefined,
  },
  {
    name: 'FS supervisor page',
    make: first,
    code: 0x81,
    ats: '-- 81',
    breakIt: (s) => drop(s, s.fsEntry(2), US),
  },
  {
    name: 'FS write to a read-only page',
    make: first,
    code: 0x85,
    ats: 'r- 300000/12',
    write: true,
    breakIt: (s) => drop(s, s.fsEntry(1), RW),
  },
  {
    name: 'FS write under a read-only table',
    make: first,
    code: 0x85,
    ats: 'r- 300000/12',
    write: true,
    breakIt: (s) => drop(s, s.fsEntry(3), RW),
  },
  {
    name: 'FS output in the interrupt window',
    make: first,
    code: 0x87,
    ats: 'CA 87',
    recorded: true,
    breakIt: (s) => set(s, s.fsEntry(1), 0xfee0_0000n | LEAF),
  },
  {
    name: 'FS accessed bit, walk not snooped',
    make: first,
    code: 0x90,
    ats: '-- 90',
    breakIt: (s) => {
      s.bench.tables.pasid(s.directory, PASID, { fs: s.fs, pwsnp: false });
      drop(s, s.fsEntry(1), A);
    },
  },
  {
    name: 'nested: FS table address too large',
    make: nested,
    code: 0x74,
    ats: '-- 74',
    breakIt: (s) => {
      s.bench.tables.pasid(s.directory, PASID, {
        pgtt: 3,
        aw: 1,
        fs: s.fs,
        ss: s.bench.tables.read(s.ss) & ~0xfffn,
      });
      set(s, s.fsEntry(3), (1n << 39n) | LINK);
    },
  },
  {
    name: 'nested: output address too large',
    make: nested,
    code: 0x74,
    ats: '-- 74',
    breakIt: (s) => {
      s.bench.tables.pasid(s.directory, PASID, {
        pgtt: 3,
        aw: 1,
        fs: s.fs,
        ss: s.bench.tables.read(s.ss) & ~0xfffn,
      });
      set(s, s.fsEntry(1), (1n << 39n) | LEAF);
    },
  },
  {
    name: 'nested: FS root not readable',
    make: nested,
    code: 0x75,
    ats: '-- 75',
    breakIt: (s) => drop(s, s.ssEntry(s.fs, 1), R),
  },
  {
    name: 'nested: FS table not readable',
    make: nested,
    code: 0x76,
    ats: '-- 76',
    breakIt: (s) => drop(s, s.ssEntry(0x10_3000n, 1), R),
  },
  {
    name: 'nested: accessed bit in a read-only table',
    make: nested,
    code: 0x77,
    ats: '-- 77',
    breakIt: (s) => {
      drop(s, s.fsEntry(1), A);
      drop(s, s.ssEntry(0x10_4000n, 1), W);
    },
  },
  {
    name: 'nested with SSADE: read-only table',
    make: (o) => nested(o, true),
    code: 0x77,
    ats: '-- 77',
    breakIt: (s) => drop(s, s.ssEntry(0x10_4000n, 1), W),
  },
  {
    name: 'nested: SS table out of reach',
    make: nested,
    code: 0x78,
    ats: 'CA 78',
    recorded: true,
    breakIt: (s) => set(s, s.ssEntry(OUT, 3), FAR | R | W),
  },
  {
    name: 'nested: SS entry for the output is empty',
    make: nested,
    code: 0x79,
    ats: '-- 79',
    breakIt: (s) => set(s, s.ssEntry(OUT, 1), 0n),
  },
  {
    name: 'nested: SS entry for a table is empty',
    make: nested,
    code: 0x79,
    ats: '-- 79',
    breakIt: (s) => set(s, s.ssEntry(0x10_3000n, 1), 0n),
  },
  {
    name: 'nested: SS reserved',
    make: nested,
    code: 0x7a,
    ats: 'CA 7a',
    recorded: true,
    breakIt: (s) => s.bench.tables.or(s.ssEntry(OUT, 1), 1n << 62n),
  },
  {
    name: 'nested: SS root out of reach',
    make: nested,
    code: 0x7b,
    ats: 'CA 7b',
    recorded: true,
    breakIt: (s) => s.bench.tables.pasid(s.directory, PASID, { pgtt: 3, fs: s.fs, ss: FAR }),
  },
  {
    name: 'nested: write, SS read-only',
    make: nested,
    code: 0x85,
    ats: 'r- b00000/12',
    write: true,
    breakIt: (s) => drop(s, s.ssEntry(OUT, 1), W),
  },
  {
    name: 'nested: read, SS write-only',
    make: nested,
    code: 0x86,
    ats: '-w b00000/12',
    breakIt: (s) => drop(s, s.ssEntry(OUT, 1), R),
  },
  {
    name: 'nested: SS accessed bit, walk not snooped',
    make: (o) => nested(o, true),
    code: 0x7c,
    ats: 'CA 7c',
    recorded: true,
    breakIt: (s) => {
      s.bench.tables.pasid(s.directory, PASID, {
        pgtt: 3,
        fs: s.fs,
        ss: s.ss,
        ssade: true,
        pwsnp: false,
      });
      drop(s, s.ssEntry(OUT, 1), SS_A);
    },
  },
  {
    name: 'SS table out of reach',
    make: second,
    va: ssVa,
    code: 0x78,
    ats: 'CA 78',
    recorded: true,
    breakIt: (s) => set(s, s.ssEntry(ssVa, 2), FAR | R | W),
  },
  {
    name: 'SS empty',
    make: second,
    va: ssVa,
    code: 0x79,
    ats: '-- 79',
    breakIt: (s) => set(s, s.ssEntry(ssVa, 1), 0n),
  },
  {
    name: 'SS permissions that cancel out',
    make: second,
    va: ssVa,
    code: 0x79,
    ats: '-- 79',
    breakIt: (s) => {
      drop(s, s.ssEntry(ssVa, 1), R);
      drop(s, s.ssEntry(ssVa, 3), W);
    },
  },
  {
    name: 'SS reserved: SNP in a table entry',
    make: second,
    va: ssVa,
    code: 0x7a,
    ats: 'CA 7a',
    recorded: true,
    breakIt: (s) => s.bench.tables.or(s.ssEntry(ssVa, 2), SNP),
  },
  {
    name: 'SS reserved: SNP in a leaf without SC',
    make: (o) => second({ ...o, ecap: { SC: 0 } }),
    va: ssVa,
    code: 0x7a,
    ats: 'CA 7a',
    recorded: true,
    breakIt: (s) => s.bench.tables.or(s.ssEntry(ssVa, 1), SNP),
  },
  {
    name: 'SS reserved: 2 MiB page without SSLPS',
    make: (o) => second({ ...o, cap: { SSLPS: 2 } }),
    va: ssVa,
    code: 0x7a,
    ats: 'CA 7a',
    recorded: true,
    breakIt: (s) => set(s, s.ssEntry(ssVa, 2), 0x40_0000n | PS | R | W),
  },
  {
    name: 'SS reserved: 1 GiB page misaligned',
    make: second,
    va: ssVa,
    code: 0x7a,
    ats: 'CA 7a',
    recorded: true,
    breakIt: (s) => set(s, s.ssEntry(ssVa, 3), 0x4000_1000n | PS | R | W),
  },
  {
    name: 'SS root out of reach',
    make: second,
    va: ssVa,
    code: 0x7b,
    ats: 'CA 7b',
    recorded: true,
    breakIt: (s) => s.bench.tables.pasid(s.directory, PASID, { pgtt: 2, ss: FAR }),
  },
  {
    name: 'SS accessed bit, walk not snooped',
    make: (o) => second(o, { ssade: true, pwsnp: false }),
    va: ssVa,
    code: 0x7c,
    ats: 'CA 7c',
    recorded: true,
    breakIt: () => undefined,
  },
  {
    name: 'SS beyond AW',
    make: second,
    va: 1n << 48n,
    code: 0x84,
    ats: '-- 84',
    breakIt: () => undefined,
  },
  {
    name: 'SS beyond MGAW',
    make: (o) => second({ ...o, cap: { MGAW: 38 } }),
    va: 1n << 39n,
    code: 0x84,
    ats: '-- 84',
    breakIt: () => undefined,
  },
  {
    name: 'SS write to a read-only page',
    make: second,
    va: ssVa,
    write: true,
    code: 0x85,
    ats: 'r- 300000/12',
    breakIt: (s) => drop(s, s.ssEntry(ssVa, 1), W),
  },
  {
    name: 'SS read of a write-only page',
    make: second,
    va: ssVa,
    code: 0x86,
    ats: '-w 300000/12',
    breakIt: (s) => drop(s, s.ssEntry(ssVa, 1), R),
  },
  {
    name: 'pass-through beyond HAW',
    make: first,
    va: 1n << 46n,
    code: 0x83,
    ats: '-- 83',
    breakIt: (s) => s.bench.tables.pasid(s.directory, PASID, { pgtt: 4 }),
  },
  {
    name: 'pass-through with PASID into the interrupt window',
    make: first,
    va: 0xfee0_0000n,
    code: 0x87,
    ats: 'CA 87',
    recorded: true,
    breakIt: (s) => s.bench.tables.pasid(s.directory, PASID, { pgtt: 4 }),
  },
];

for (const { name, make, breakIt, code, ats, va = VA, write = false, recorded = false } of rows) {
  for (const flat of [true, false]) {
    test(`${code.toString(16)}h ${name} (${flat ? 'flat' : 'scattered'} memory)`, (t) => {
      const stage = make({ flat });
      const { bench } = stage;
      breakIt(stage);
      t.is(bench.dma(va, { pasid: PASID, write }), -code);
      t.is(bench.unit.result.status, 1, 'UR');
      t.like(bench.takeFault(), {
        code,
        address: va,
        pasid: PASID,
        sid: SID,
        at: 0,
        type: write ? 0 : 2,
      });
      t.is(bench.ats(va, { pasid: PASID }), ats);
      const fault = bench.takeFault();
      if (recorded) t.like(fault, { code, at: 1 });
      else t.is(fault, null);
    });
  }
}

test('large pages, each stage and the smaller of both', (t) => {
  const f = first();
  set(f, f.fsEntry(2), 0x40_0000n | PS | LEAF | (1n << 12n));
  t.is(f.bench.ats(VA, { pasid: PASID }), 'rw 567000/21');
  const g = first();
  set(g, g.fsEntry(3), 0x8000_0000n | PS | LEAF);
  t.is(
    g.bench.ats(VA, { pasid: PASID }),
    `rw ${(0x8000_0000n + (VA & 0x3fff_ffffn)).toString(16)}/30`,
  );
  const n = nested();
  set(n, n.fsEntry(2), PS | LEAF);
  set(n, n.ssEntry(0x16_7000n, 1), 0x77_7000n | R | W);
  t.is(n.bench.ats(VA, { pasid: PASID }), 'rw 777000/12');
  const m = nested();
  set(m, m.fsEntry(1), 0x1_0020_3000n | LEAF);
  m.bench.tables.map(m.ss, 4, 0x1_0020_0000n, 0x1_4000_0000n | PS | R | W, R | W, 2);
  t.is(m.bench.ats(VA, { pasid: PASID }), 'rw 140003000/12');
  set(m, m.fsEntry(2), 0x1_0020_0000n | PS | LEAF);
  m.bench.setRoot();
  t.is(m.bench.ats(VA, { pasid: PASID }), 'rw 140167000/21');
});

test('five levels of first stage, three and five of second', (t) => {
  const bench = new Bench({ cap: { FS5LP: 1, SAGAW: 0xe, MGAW: 56 } });
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const high = 0xff12_3456_789a_b000n;
  const fs = tables.page();
  tables.map(fs, 5, high, OUT | LEAF, LINK);
  tables.pasid(directory, PASID, { fs, fspm: 1 });
  const three = tables.page();
  tables.map(three, 3, 0x7f_ffff_f000n, OUT | R | W, R | W);
  tables.pasid(directory, 6, { pgtt: 2, aw: 1, ss: three, did: 2 });
  const five = tables.page();
  tables.map(five, 5, 0x1ff_ffff_ffff_f000n, OUT | R | W, R | W);
  tables.pasid(directory, 7, { pgtt: 2, aw: 3, ss: five, did: 3 });
  bench.enable();
  t.is(bench.dma(high, { pasid: PASID }), Number(OUT));
  t.is(bench.dma(high, { pasid: PASID, write: true }), Number(OUT));
  t.is(bench.dma(0xfe12_3456_789a_b000n, { pasid: PASID }), -0x80);
  t.is(bench.dma(0x7f_ffff_f000n, { pasid: 6 }), Number(OUT));
  t.is(bench.dma(0x80_0000_0000n, { pasid: 6 }), -0x84);
  t.is(bench.dma(0x1ff_ffff_ffff_f000n, { pasid: 7, write: true }), Number(OUT));
});

test('accessed and dirty bits: reads set A, writes and translation requests set D', (t) => {
  const { bench, fsEntry, fs, directory } = first();
  const { tables } = bench;
  for (const level of [1, 2, 3, 4])
    tables.write(fsEntry(level), tables.read(fsEntry(level)) & ~(A | D));
  bench.dma(VA, { pasid: PASID });
  for (const level of [1, 2, 3, 4]) t.is(tables.read(fsEntry(level)) & (A | D), A);
  bench.ats(VA, { pasid: PASID, nw: true });
  t.is(tables.read(fsEntry(1)) & D, 0n);
  bench.ats(VA, { pasid: PASID });
  t.is(tables.read(fsEntry(1)) & D, D);
  tables.write(fsEntry(1), OUT | P | US);
  bench.setRoot();
  bench.ats(VA, { pasid: PASID });
  t.is(tables.read(fsEntry(1)) & D, 0n, 'not writable, so not dirty');
  tables.write(fsEntry(1), OUT | P | US | RW);
  bench.dma(VA, { pasid: PASID, write: true });
  t.is(tables.read(fsEntry(1)) & (A | D), A | D, 'a cached read-only translation is walked again');
  t.is(tables.read(fsEntry(2)) & D, 0n, 'D is for leaves');
  tables.pasid(directory, PASID, { fs, eafe: true });
  bench.setRoot();
  bench.dma(VA, { pasid: PASID });
  for (const level of [1, 2, 3, 4]) t.is(tables.read(fsEntry(level)) & EA, EA);
});

test('without NWFS the NW flag does not count', (t) => {
  const { bench, fsEntry } = first({ ecap: { NWFS: 0 } });
  drop({ bench } as Stage, fsEntry(1), D);
  t.is(bench.ats(VA, { pasid: PASID, nw: true }), 'rw 300000/12');
  t.is(bench.tables.read(fsEntry(1)) & D, D);
});

test('nested with SSADE: D of the page that holds a first-stage table whose bits are set', (t) => {
  const { bench, fsEntry, ssEntry } = nested({}, true);
  const { tables } = bench;
  const tablePage = ssEntry(0x10_4000n, 1);
  const output = ssEntry(OUT, 1);
  for (const at of [tablePage, output]) tables.write(at, tables.read(at) & ~(SS_A | SS_D));
  bench.dma(VA, { pasid: PASID });
  t.is(tables.read(tablePage) & (SS_A | SS_D), SS_A, 'nothing was written to it');
  t.is(tables.read(output) & (SS_A | SS_D), SS_A);
  tables.write(fsEntry(1), tables.read(fsEntry(1)) & ~D);
  bench.setRoot();
  bench.dma(VA, { pasid: PASID, write: true });
  t.is(tables.read(fsEntry(1)) & D, D);
  t.is(tables.read(tablePage) & SS_D, SS_D);
  t.is(tables.read(output) & SS_D, SS_D);
});

test('snoop: PGSNP or SNP of the second-stage leaf sets the N flag', (t) => {
  const f = first();
  f.bench.ats(VA, { pasid: PASID });
  t.false(f.bench.unit.result.noSnoop);
  f.bench.tables.pasid(f.directory, PASID, { fs: f.fs, pgsnp: true });
  f.bench.setRoot();
  f.bench.ats(VA, { pasid: PASID });
  t.true(f.bench.unit.result.noSnoop);
  f.bench.ats(VA, { pasid: PASID });
  t.true(f.bench.unit.result.noSnoop, 'from the IOTLB');
  const n = nested();
  n.bench.tables.or(n.ssEntry(OUT, 1), SNP);
  n.bench.ats(VA, { pasid: PASID });
  t.true(n.bench.unit.result.noSnoop);
});

test('pass-through: identity, any permission, a large range outside the interrupt window', (t) => {
  const { bench, directory } = first();
  bench.tables.pasid(directory, 0, { pgtt: 4 });
  t.is(bench.dma(0x1234_5000n, { write: true }), 0x1234_5000);
  t.is(bench.ats(0x1234_5000n), 'rw 12345000/21');
  t.is(bench.ats(0xfed0_0000n), 'rw fed00000/21');
  t.is(bench.ats(0xfef0_0000n), 'rw fef00000/12');
});

test('hits and misses are counted; a hit needs no loads', (t) => {
  const { bench } = nested();
  bench.dma(VA, { pasid: PASID });
  const { walks, loads } = bench.unit.stats;
  t.is(walks, 1);
  t.true(loads >= 4 + 4 + 4, `${loads} loads: structures, first and second stage`);
  for (let i = 0; i < 10; i++) bench.dma(VA, { pasid: PASID, write: true });
  t.like(bench.unit.stats, { walks, loads, iotlbHits: 10, translations: 11 });
  bench.unit.translate(SID, PASID, false, AT.TRANSLATION, vpn(VA), false, false);
  t.is(bench.unit.stats.iotlbHits, 11);
});
