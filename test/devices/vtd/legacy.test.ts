/** Legacy mode (TTM 00): the context entry itself says how to translate. */
import test from 'ava';

import { Bench, type BenchOptions, SID } from './bench.ts';
import { PS, R, W } from './tables.ts';

const VA = 0x1234_5000n;
const OUT = 0x30_0000n;
const FAR = 1n << 40n;

interface Legacy {
  bench: Bench;
  root: bigint;
  context: bigint;
  ss: bigint;
}

function legacy(tt = 1n, options: BenchOptions = {}): Legacy {
  const bench = new Bench(options);
  const { tables } = bench;
  const table = tables.page();
  const root = bench.root + BigInt(SID >> 8) * 16n;
  tables.write(root, table | 1n);
  const ss = tables.page();
  tables.map(ss, 4, VA, OUT | R | W, R | W);
  const context = table + BigInt(SID & 0xff) * 16n;
  tables.write(context + 8n, 2n | (7n << 8n));
  tables.write(context, ss | (tt << 2n) | 1n);
  bench.enable(0);
  return { bench, root, context, ss };
}

test('second stage with and without ATS, pass-through', (t) => {
  const { bench } = legacy();
  t.is(bench.dma(VA, { write: true }), Number(OUT));
  t.is(bench.ats(VA), 'rw 300000/12');
  t.true(bench.unit.translated(SID, 5, true));
  const plain = legacy(0n).bench;
  t.is(plain.dma(VA), Number(OUT));
  t.is(plain.ats(VA), 'UR d');
  t.is(plain.takeFault()?.code, 0xd);
  t.false(plain.unit.translated(SID, 5, true));
  t.is(plain.takeFault()?.code, 0xd);
  const through = legacy(2n).bench;
  t.is(through.dma(0x777_7000n, { write: true }), 0x777_7000);
  t.is(through.ats(VA), 'UR d');
});

interface Row {
  name: string;
  code: number;
  ats: string;
  breakIt: (legacy: Legacy) => void;
  tt?: bigint;
  va?: bigint;
  write?: boolean;
  unqualified?: boolean;
  options?: BenchOptions;
}

const set = (l: Legacy, at: bigint, value: bigint): void => l.bench.tables.write(at, value);
const rows: Row[] = [
  {
    name: 'root not present',
    code: 1,
    ats: 'UR 1',
    unqualified: true,
    breakIt: (l) => set(l, l.root, 0n),
  },
  { name: 'context not present', code: 2, ats: 'UR 2', breakIt: (l) => set(l, l.context, 0n) },
  { name: 'context TT 3', code: 3, ats: 'CA 3', breakIt: (l) => l.bench.tables.or(l.context, 12n) },
  {
    name: 'context AW that CAP.SAGAW lacks',
    code: 3,
    ats: 'CA 3',
    breakIt: (l) => set(l, l.context + 8n, 3n),
  },
  {
    name: 'second-stage root out of reach',
    code: 3,
    ats: 'CA 3',
    breakIt: (l) => set(l, l.context, FAR | 5n),
  },
  {
    name: 'TT 1 without ECAP.DT',
    code: 3,
    ats: 'CA 3',
    options: { ecap: { DT: 0, PRS: 0 } },
    breakIt: () => undefined,
  },
  { name: 'address beyond AW', code: 4, ats: '-- 4', va: 1n << 48n, breakIt: () => undefined },
  {
    name: 'no write permission',
    code: 5,
    ats: 'r- 300000/12',
    write: true,
    breakIt: (l) => set(l, l.bench.tables.entry(l.ss, 4, VA, 1), OUT | R),
  },
  {
    name: 'no read permission',
    code: 6,
    ats: '-w 300000/12',
    breakIt: (l) => set(l, l.bench.tables.entry(l.ss, 4, VA, 1), OUT | W),
  },
  {
    name: 'table out of reach',
    code: 7,
    ats: 'CA 7',
    breakIt: (l) => set(l, l.bench.tables.entry(l.ss, 4, VA, 3), FAR | R | W),
  },
  {
    name: 'root out of reach',
    code: 8,
    ats: 'CA 8',
    unqualified: true,
    breakIt: ({ bench }) => {
      bench.w64(0x20, FAR);
      bench.w32(0x18, 0xc000_0000);
    },
  },
  {
    name: 'context out of reach',
    code: 9,
    ats: 'CA 9',
    unqualified: true,
    breakIt: (l) => set(l, l.root, FAR | 1n),
  },
  {
    name: 'root reserved',
    code: 0xa,
    ats: 'CA a',
    unqualified: true,
    breakIt: (l) => set(l, l.root + 8n, 1n),
  },
  {
    name: 'context reserved',
    code: 0xb,
    ats: 'CA b',
    breakIt: (l) => l.bench.tables.or(l.context + 8n, 1n << 24n),
  },
  {
    name: 'second-stage reserved',
    code: 0xc,
    ats: 'CA c',
    breakIt: (l) => set(l, l.bench.tables.entry(l.ss, 4, VA, 4), PS | R | W),
  },
  {
    name: 'output in the interrupt window',
    code: 0xe,
    ats: 'CA e',
    breakIt: (l) => set(l, l.bench.tables.entry(l.ss, 4, VA, 1), 0xfee0_0000n | R | W),
  },
];

for (const {
  name,
  code,
  ats,
  breakIt,
  va = VA,
  write = false,
  unqualified = false,
  options,
} of rows) {
  test(`${code.toString(16)}h ${name}`, (t) => {
    const state = legacy(1n, options);
    breakIt(state);
    t.is(state.bench.dma(va, { write }), -code);
    t.like(state.bench.takeFault(), { code, hasPasid: false, address: va, type: write ? 0 : 2 });
    t.is(state.bench.ats(va), ats);
    const fault = state.bench.takeFault();
    if (/^(UR|CA)/.test(ats)) t.is(fault?.code, code);
    else t.is(fault, null);
  });

  test(`${code.toString(16)}h ${name}: FPD`, (t) => {
    const state = legacy(1n, options);
    state.bench.tables.or(state.context, 2n);
    breakIt(state);
    state.bench.tables.or(state.context, 2n);
    t.is(state.bench.dma(va, { write }), -code);
    t.is(state.bench.takeFault()?.code, unqualified ? code : undefined);
  });
}

test('pass-through beyond HAW is 4, an empty entry is a missing permission', (t) => {
  t.is(legacy(2n).bench.dma(1n << 46n), -4);
  const { bench } = legacy();
  t.is(bench.dma(VA + 0x1000n), -6);
  t.is(bench.dma(VA + 0x1000n, { write: true }), -5);
  t.is(bench.ats(VA + 0x1000n), '-- 6');
});

test('31h: a request with PASID; 32h is for page requests', (t) => {
  const { bench } = legacy();
  t.is(bench.dma(VA, { pasid: 5 }), -0x31);
  t.like(bench.takeFault(), { code: 0x31, pasid: 5, hasPasid: true });
  t.is(bench.ats(VA, { pasid: 5 }), 'UR 31');
});

test('register-based invalidation, with what it did; queue on: ignored', (t) => {
  const { bench, ss, context } = legacy();
  const { tables } = bench;
  const leaf = tables.entry(ss, 4, VA, 1);
  t.is(bench.dma(VA), Number(OUT));
  const invalidate = (iirg: bigint, did: bigint, iva: bigint): bigint => {
    bench.w64(0x500, iva);
    bench.w64(0x508, (1n << 63n) | (iirg << 60n) | (did << 32n));
    return bench.r64(0x508) >> 57n;
  };
  tables.write(leaf, 0x50_0000n | R | W);
  t.is(invalidate(2n, 8n, 0n), (2n << 3n) | 2n);
  t.is(bench.dma(VA), Number(OUT), 'another domain');
  t.is(invalidate(3n, 7n, VA), (3n << 3n) | 3n);
  t.is(bench.dma(VA), 0x50_0000);
  tables.write(leaf, 0x60_0000n | R | W);
  t.is(invalidate(3n, 7n, VA | 19n) & 3n, 0n, 'AM beyond MAMV is ignored');
  t.is(invalidate(1n, 0n, 0n) & 3n, 1n);
  t.is(bench.dma(VA), 0x60_0000);

  tables.write(context, 0n);
  const command = (cirg: bigint, low: bigint): bigint => {
    bench.w32(0x28, Number(low));
    bench.w32(0x2c, Number(((1n << 63n) | (cirg << 61n)) >> 32n));
    return (bench.r64(0x28) >> 59n) & 0x13n;
  };
  t.true(bench.unit.translated(SID, 5, true));
  t.is(command(2n, 8n), 2n);
  t.true(bench.unit.translated(SID, 5, true), 'another domain');
  t.is(command(2n, 7n), 2n);
  t.false(bench.unit.translated(SID, 5, true));
  bench.enableQueue();
  t.is(command(1n, 0n), 0n);
});

test('domain-selective cc drops by DID in legacy mode', (t) => {
  const { bench, context } = legacy();
  bench.enableQueue();
  t.true(bench.unit.translated(SID, 5, true));
  bench.tables.write(context, 0n);
  bench.submit([[0x21n | (8n << 16n), 0n]]);
  t.true(bench.unit.translated(SID, 5, true));
  bench.submit([[0x21n | (7n << 16n), 0n]]);
  t.false(bench.unit.translated(SID, 5, true));
});
