import { Bench, type BenchOptions, SID } from './bench.ts';
import { rule } from './rule.ts';
import { A, D, P, PS, R, RW, US, W } from './tables.ts';

const VA = 0x7f00_0000_1000n;
const PAGE = Number(VA >> 12n);
const PPR = 1;
const PRO = 2;

function ready(options: BenchOptions = {}): { bench: Bench; ring: bigint; directory: bigint } {
  const bench = new Bench({ bytes: 1 << 25, ...options });
  const directory = bench.tables.context(bench.root, SID);
  bench.tables.pasid(directory, 5, { fs: bench.tables.page() });
  bench.tables.pasid(directory, 0, { pgtt: 4, did: 2 });
  const ring = bench.tables.page();
  bench.w64(0xd0, ring);
  bench.enable();
  return { bench, ring, directory };
}

const slot = (bench: Bench, ring: bigint, n: number): bigint[] =>
  [0n, 8n, 16n, 24n].map((at) => bench.tables.read(ring + BigInt(n) * 32n + at));

rule('PRQ-1', 'a request becomes a descriptor, PQT moves, PPR raises the event', (t) => {
  const { bench, ring } = ready();
  bench.w32(0xe4, 0x66);
  bench.w32(0xe8, 0xfee0_0000);
  bench.w32(0xe0, 0);
  bench.unit.pageRequest(SID, 5, false, PAGE, true, true, true, 3);
  const want = [0x5_0000_0101n | (BigInt(SID) << 16n), 0x7f00_0000_101fn, 0n, 0n];
  t.deepEqual(slot(bench, ring, 0), want);
  t.is(bench.r32(0xc8), 32);
  t.is(bench.r32(0xdc), PPR);
  t.deepEqual(bench.msis, [{ address: 0xfee0_0000, data: 0x66 }]);
  bench.unit.pageRequest(SID, -1, true, PAGE, true, false, false, 511);
  t.deepEqual(slot(bench, ring, 1), [1n | (BigInt(SID) << 16n), 0x7f00_0000_1ff9n, 0n, 0n]);
  bench.unit.pageRequest(SID, 5, true, PAGE, false, true, false, 0);
  t.is(slot(bench, ring, 2)[0]! >> 53n, 1n, 'privileged');
  t.is(bench.msis.length, 1);
  t.deepEqual(bench.responses, []);
  t.is(bench.unit.stats.pageRequests, 3);
});

rule('PRQ-2', 'the page tables do not matter; the ring wraps behind the head', (t) => {
  const { bench, ring } = ready();
  for (let n = 0; n < 300; n++) {
    bench.unit.pageRequest(SID, 5, false, n, true, false, true, n & 511);
    bench.w32(0xc0, bench.r32(0xc8));
  }
  t.is(bench.r32(0xc8), (300 * 32) % 4096);
  t.is(slot(bench, ring, 299 % 128)[1]! >> 12n, 299n);
  t.is(bench.r32(0xdc), PPR);
});

rule(
  ['PRQ-3', 'PRQ-5'],
  'overflow: PRO, automatic success for the last of a group, nothing queued until cleared',
  (t) => {
    const { bench } = ready();
    for (let n = 0; n < 127; n++) bench.unit.pageRequest(SID, 5, false, n, true, false, false, 1);
    t.is(bench.r32(0xc8), 127 * 32);
    t.is(bench.r32(0xdc), PPR);
    bench.unit.pageRequest(SID, 5, false, 500, true, false, false, 1);
    t.is(bench.r32(0xdc), PPR | PRO);
    t.deepEqual(bench.responses, [], 'not the last: no answer');
    bench.unit.pageRequest(SID, 5, false, 501, true, false, true, 1);
    t.deepEqual(bench.responses, [{ sid: SID, pasid: 5, prgi: 1, code: 0 }]);
    bench.unit.pageRequest(SID, 5, false, 501, false, false, true, 1);
    t.is(bench.responses.length, 1, 'a stop marker is never answered');
    bench.w32(0xc0, bench.r32(0xc8));
    bench.unit.pageRequest(SID, 5, false, 502, true, false, true, 2);
    t.is(bench.r32(0xc8), 127 * 32, 'room, but PRO is set');
    t.is(bench.responses.length, 2);
    bench.w32(0xdc, PRO);
    t.is(bench.r32(0xdc), PPR);
    bench.unit.pageRequest(SID, 5, false, 503, true, false, true, 2);
    t.is(bench.r32(0xc8), 0);
    t.is(bench.responses.length, 2);
  },
);

rule(
  ['PRQ-5', 'PRQ-6'],
  'stop marker: queued; without PASID the same bits are an ordinary request',
  (t) => {
    const { bench } = ready();
    bench.unit.pageRequest(SID, 5, false, 0, false, false, true, 9);
    t.is(bench.r32(0xc8), 32);
    const { bench: other } = ready();
    bench.tables.write(bench.tables.contextAddress(bench.root, SID), 0n);
    other.gcmd(0x8000_0000, false);
    other.unit.pageRequest(SID, 5, false, 0, false, false, true, 9);
    t.deepEqual(other.responses, []);
    other.unit.pageRequest(SID, -1, false, 0, false, false, true, 9);
    t.deepEqual(other.responses, [{ sid: SID, pasid: -1, prgi: 9, code: 1 }]);
  },
);

rule(
  ['PRQ-4', 'PRQ-6', 'FR-32'],
  'a request that fails its checks: invalid request if it is the last, else dropped',
  (t) => {
    const { bench } = ready();
    bench.unit.pageRequest(SID, 6, false, PAGE, true, false, false, 4);
    t.deepEqual(bench.responses, []);
    t.like(bench.takeFault(), { code: 0x59, type: 1, pasid: 6, address: VA });
    bench.unit.pageRequest(SID, 6, false, PAGE, true, false, true, 4);
    t.deepEqual(bench.responses, [{ sid: SID, pasid: 6, prgi: 4, code: 1 }]);
    t.is(bench.r32(0xc8), 0);
    const off = ready({ ecap: { PRS: 0 } });
    off.bench.unit.pageRequest(SID, 5, false, PAGE, true, false, true, 4);
    t.is(off.bench.responses[0]?.code, 1);
    const legacy = ready();
    legacy.bench.setRoot(0);
    legacy.bench.unit.pageRequest(SID, -1, false, PAGE, true, false, true, 4);
    t.is(legacy.bench.responses[0]?.code, 1);
    t.is(legacy.bench.takeFault()?.code, 0x32);
  },
);

rule('PRQ-6', 'a ring that is not in memory answers instead of writing', (t) => {
  const { bench } = ready();
  bench.w64(0xd0, 1n << 40n);
  bench.unit.pageRequest(SID, 5, false, PAGE, true, false, true, 4);
  t.deepEqual(bench.responses, [{ sid: SID, pasid: 5, prgi: 4, code: 1 }]);
  t.is(bench.r32(0xc8), 0);
});

rule('PRQ-7', 'implicit invalidation: page (first and second stage), domain (nested)', (t) => {
  const { bench, directory } = ready();
  const { tables } = bench;
  const LEAF = P | RW | US | A | D;
  const stage = tables.page();
  tables.map(stage, 4, 0n, PS | R | W, R | W, 3);
  const leaves: bigint[] = [];
  const second = [VA, VA + 0x10_0000n];
  for (const [pasid, pgtt] of [
    [1, 1],
    [2, 3],
  ] as const) {
    const fs = tables.page();
    for (const va of second) leaves.push(tables.map(fs, 4, va, 0x30_0000n | LEAF, LEAF));
    tables.pasid(directory, pasid, { pgtt, fs, ss: stage, did: 10 + pasid });
  }
  const ss = tables.page();
  for (const va of second) leaves.push(tables.map(ss, 4, va, 0x30_0000n | R | W, R | W));
  tables.pasid(directory, 3, { pgtt: 2, ss, did: 13 });
  const translations = (): string =>
    [1, 2, 3]
      .map((pasid) =>
        second.map((va) => (bench.dma(va, { pasid }) === 0x30_0000 ? 'o' : 'n')).join(''),
      )
      .join(' ');
  t.is(translations(), 'oo oo oo');
  leaves.forEach((at, i) => tables.write(at, 0x50_0000n | (i < 4 ? LEAF : R | W)));
  t.is(translations(), 'oo oo oo');
  bench.unit.pageRequest(SID, 1, false, PAGE, true, false, true, 1);
  t.is(translations(), 'no oo oo');
  bench.unit.pageRequest(SID, 2, false, PAGE, true, false, true, 1);
  t.is(translations(), 'no nn oo');
  bench.unit.pageRequest(SID, 3, false, PAGE, true, false, true, 1);
  t.is(translations(), 'no nn no');
});

rule(
  'PRQ-7',
  'implicit invalidation under nesting: the second-stage tables of the domain too',
  (t) => {
    const { bench, directory } = ready();
    const { tables } = bench;
    const far = 0x4030_0000n;
    const ss = tables.page();
    tables.map(ss, 4, 0n, PS | R | W, R | W, 3);
    tables.map(ss, 4, far, 0x30_0000n | R | W, R | W);
    const fs = tables.page();
    tables.map(fs, 4, VA, far | P | RW | US | A | D, P | RW | US | A);
    tables.pasid(directory, 2, { pgtt: 3, fs, ss, did: 12 });
    t.is(bench.dma(VA, { pasid: 2 }), 0x30_0000);
    const other = tables.page();
    const leaf = tables.entry(ss, 4, far, 1);
    tables.write(other + (leaf & 0xfffn), 0x50_0000n | R | W);
    tables.write(tables.entry(ss, 4, far, 2), other | R | W);
    t.is(bench.dma(VA, { pasid: 2 }), 0x30_0000);
    bench.unit.pageRequest(SID, 2, false, PAGE, true, false, true, 1);
    t.is(bench.dma(VA, { pasid: 2 }), 0x50_0000);
  },
);

rule('PRQ-2', '2^PQS pages: one slot less than 2^(PQS+7) requests fit', (t) => {
  for (const pqs of [0, 1, 2, 3, 5]) {
    const { bench } = ready();
    const ring = bench.tables.page(2 ** pqs);
    bench.w64(0xd0, ring | BigInt(pqs));
    const room = 2 ** (pqs + 7) - 1;
    for (let n = 0; n < room; n++) bench.unit.pageRequest(SID, 5, false, n, true, false, true, 1);
    t.is(bench.r32(0xdc), PPR);
    t.is(bench.r32(0xc8), room * 32);
    t.is(slot(bench, ring, room - 1)[1]! >> 12n, BigInt(room - 1));
    bench.unit.pageRequest(SID, 5, false, 0, true, false, true, 1);
    t.is(bench.r32(0xdc), PPR | PRO);
  }
});
