import { Bench } from './bench.ts';
import { rule } from './rule.ts';

const PPF = 2;
const PFO = 1;

rule(
  ['LOG-2', 'LOG-3', 'LOG-4'],
  'records fill the ring; FRI is the first since PPF rose; overflow is sticky',
  (t) => {
    const bench = new Bench({ cap: { NFR: 2 } });
    bench.enable();
    bench.w32(0x3c, 0x30);
    bench.w32(0x38, 0);
    bench.dma(0x1000n);
    t.is(bench.r32(0x34), PPF);
    bench.dma(0x2000n);
    bench.dma(0x3000n);
    t.is(bench.r32(0x34), PPF);
    bench.dma(0x4000n);
    t.is(bench.r32(0x34), PPF | PFO, 'no room: overflow');
    t.is(bench.msis.length, 1);
    bench.w32(0x60c, 0x8000_0000);
    bench.dma(0x5000n);
    t.is(bench.r64(0x600), 0x1000n, 'nothing is recorded while PFO is set');
    bench.w32(0x34, PFO);
    bench.dma(0x6000n);
    t.is(bench.r64(0x600), 0x6000n);
    t.is(bench.r64(0x610), 0x2000n);
    t.is(bench.r64(0x620), 0x3000n);
    for (const offset of [0x60c, 0x61c]) bench.w32(offset, 0x8000_0000);
    t.is(bench.r32(0x34), PPF, 'one record is left');
    bench.w32(0x62c, 0x8000_0000);
    t.is(bench.r32(0x34) & PPF, 0);
    bench.dma(0x7000n);
    t.is(bench.r32(0x34), PPF | (1 << 8));
    t.is(bench.r64(0x610), 0x7000n);
    t.is(bench.msis.length, 2);
  },
);

rule(
  'LOG-5',
  'F is write-1-to-clear, by 64-bit access too; the rest of a record is read-only',
  (t) => {
    const bench = new Bench();
    bench.enable();
    bench.dma(0x1000n, { pasid: 5, write: true });
    const record = bench.r64(0x608);
    t.is(record >> 63n, 1n);
    bench.w64(0x608, 0n);
    bench.w64(0x600, ~0n);
    t.is(bench.r64(0x608), record);
    t.is(bench.r64(0x600), 0x1000n);
    bench.w64(0x608, 1n << 63n);
    t.is(bench.r64(0x608), record & ~(1n << 63n));
  },
);

rule('LOG-6', 'the write index starts again only when both kinds of remapping are off', (t) => {
  const bench = new Bench({ cap: { NFR: 3 } });
  bench.enable();
  bench.gcmd(0x0200_0000, true);
  bench.dma(0x1000n);
  bench.gcmd(0x8000_0000, false);
  bench.gcmd(0x8000_0000, true);
  bench.dma(0x2000n);
  t.is(bench.r64(0x610), 0x2000n);
  bench.gcmd(0x8000_0000, false);
  bench.gcmd(0x0200_0000, false);
  bench.w32(0x60c, 0x8000_0000);
  bench.gcmd(0x8000_0000, true);
  bench.dma(0x3000n);
  t.is(bench.r64(0x600), 0x3000n);
});

rule('LOG-7', 'the same fault of the same source takes a record each time', (t) => {
  const bench = new Bench({ cap: { NFR: 2 } });
  bench.enable();
  for (let i = 0; i < 3; i++) bench.dma(0x1000n);
  for (const offset of [0x600, 0x610, 0x620]) {
    t.is(bench.r64(offset), 0x1000n);
    t.is(bench.r64(offset + 8) >> 63n, 1n);
  }
});
