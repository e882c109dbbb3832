/** Caches that evict and prefetch: right answers, nothing told, and nothing that outlives a flush. */
import { Bench, SID } from './bench.ts';
import { rule } from './rule.ts';
import { drop, first, LEAF, LINK, nested, OUT, or, PASID, set, VA } from './stages.ts';
import { A, D, P, RW, US } from './tables.ts';

const NEW = 0x50_0000n;
const pages = Array.from({ length: 16 }, (_, i) => VA + BigInt(i) * 4096n);

/** Sixteen pages of a PASID. */
function world(seed: number): { bench: Bench; leaves: bigint[] } {
  const bench = new Bench({ restless: seed });
  const { tables } = bench;
  const fs = tables.page();
  const leaves = pages.map((va, i) =>
    tables.map(fs, 4, va, (OUT + BigInt(i) * 4096n) | LEAF, LINK),
  );
  tables.pasid(tables.context(bench.root, SID), PASID, { fs });
  bench.enable();
  bench.enableQueue();
  return { bench, leaves };
}

rule('CACHE-10', 'every translation stays right; entries go', (t) => {
  const { bench } = world(1);
  for (let round = 0; round < 50; round++) {
    for (const [i, va] of pages.entries()) {
      t.is(bench.dma(va, { pasid: PASID }), Number(OUT) + i * 4096);
    }
  }
  const { walks, translations } = bench.unit.stats;
  t.true(walks > 100 && walks < translations, `${walks} walks of ${translations}`);
});

rule('CACHE-11', 'a page that nobody asked for is fetched; p_iotlb reaches it', (t) => {
  for (const seed of [1, 2, 3]) {
    const { bench, leaves } = world(seed);
    const cached = new Set<number>();
    for (let i = 0; i < 40; i++) bench.dma(pages[8]!, { pasid: PASID });
    leaves.forEach((at, i) => bench.tables.write(at, (NEW + BigInt(i) * 4096n) | LEAF));
    for (const [i, va] of pages.entries()) {
      if (bench.dma(va, { pasid: PASID }) !== Number(NEW) + i * 4096) cached.add(i);
    }
    t.true(cached.size > 1, 'more than the page asked for was stale');
    bench.submit([[0x26n | (1n << 16n) | (BigInt(PASID) << 32n), 0n]]);
    for (const [i, va] of pages.entries()) {
      t.is(bench.dma(va, { pasid: PASID }), Number(NEW) + i * 4096);
    }
  }
});

rule(
  'CACHE-11',
  'prefetching sets no dirty bit, records no fault and leaves the answer alone',
  (t) => {
    for (const make of [first, nested]) {
      const stage = make({ restless: 5 });
      const { bench, fsEntry } = stage;
      // The neighbours: clean, and not present.
      set(stage, fsEntry(1) + 8n, (OUT + 0x1000n) | P | RW | US);
      drop(stage, fsEntry(1) + 16n, P);
      or(stage, fsEntry(1) + 24n, 1n << 51n);
      for (let i = 0; i < 200; i++) {
        t.is(bench.dma(VA, { pasid: PASID }) & 0xfff, 0);
        t.is(bench.unit.result.fault, 0);
      }
      t.is(bench.takeFault(), null);
      t.is(bench.tables.read(fsEntry(1) + 8n) & D, 0n);
      if (make === first) t.is(bench.tables.read(fsEntry(1) + 8n) & A, A, 'A may come by itself');
    }
  },
);

rule('CACHE-10', 'the same seed gives the same course', (t) => {
  const course = (seed: number): number[] => {
    const { bench } = world(seed);
    return pages.flatMap((va) => {
      bench.dma(va, { pasid: PASID });
      return [bench.unit.stats.walks, bench.unit.stats.loads];
    });
  };
  t.deepEqual(course(7), course(7));
  t.notDeepEqual(course(7), course(8));
});
