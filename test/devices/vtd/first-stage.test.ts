/** First stage alone: sizes, depths, addresses, and updates that fail. */
import { Bench, SID } from './bench.ts';
import { rule } from './rule.ts';
import { drop, first, LEAF, LINK, OUT, PASID, set, VA } from './stages.ts';
import { A, D, EA, P, PS, RW, US } from './tables.ts';

rule(
  ['FS-LEVEL-1', 'ATS-4'],
  '2 MiB and 1 GiB pages; the attribute bit is not an address bit',
  (t) => {
    const f = first();
    set(f, f.fsEntry(2), 0x40_0000n | PS | LEAF | (1n << 12n));
    t.is(f.bench.ats(VA, { pasid: PASID }), 'rw 567000/21');
    const g = first();
    set(g, g.fsEntry(3), 0x8000_0000n | PS | LEAF);
    const frame = (0x8000_0000n + (VA & 0x3fff_ffffn)).toString(16);
    t.is(g.bench.ats(VA, { pasid: PASID }), `rw ${frame}/30`);
  },
);

rule(['FS-LEVEL-1', 'FS-ADDR-1'], 'five levels; canonical addresses of 48 and 57 bits', (t) => {
  const bench = new Bench({ cap: { FS5LP: 1 } });
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const edges = {
    4: [0n, 0x7fff_ffff_f000n, 0xffff_8000_0000_0000n, 0xffff_ffff_ffff_f000n],
    5: [0n, 0xff_ffff_ffff_f000n, 0xff00_0000_0000_0000n, 0xffff_ffff_ffff_f000n],
  };
  for (const levels of [4, 5] as const) {
    const fs = tables.page();
    for (const va of edges[levels]) tables.map(fs, levels, va, OUT | LEAF, LINK);
    tables.pasid(directory, levels, { fs, fspm: levels - 4, did: levels });
  }
  bench.enable();
  for (const levels of [4, 5] as const) {
    for (const va of edges[levels]) t.is(bench.dma(va, { pasid: levels }), Number(OUT));
    const width = BigInt(levels === 5 ? 56 : 47);
    for (const va of [1n << width, -(1n << width) - 0x1000n, 1n << 63n, 1n << 60n]) {
      t.is(bench.dma(va, { pasid: levels }), -0x80, va.toString(16));
    }
  }
});

rule(
  ['FS-AD-1', 'FS-AD-2', 'ATS-2', 'ATS-3'],
  'reads set A, writes and translation requests D',
  (t) => {
    const { bench, fsEntry, fs, directory } = first();
    const { tables } = bench;
    for (const level of [1, 2, 3, 4]) {
      tables.write(fsEntry(level), tables.read(fsEntry(level)) & ~(A | D));
    }
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
    t.is(
      tables.read(fsEntry(1)) & (A | D),
      A | D,
      'a cached read-only translation is walked again',
    );
    t.is(tables.read(fsEntry(2)) & D, 0n, 'D is for leaves');
    tables.pasid(directory, PASID, { fs, eafe: true });
    bench.setRoot();
    bench.dma(VA, { pasid: PASID });
    for (const level of [1, 2, 3, 4]) t.is(tables.read(fsEntry(level)) & EA, EA);
  },
);

rule('FS-AD-3', 'without snooping only an update that is needed faults', (t) => {
  const stage = first({}, { pwsnp: false });
  const { bench, fsEntry } = stage;
  t.is(bench.dma(VA, { pasid: PASID, write: true }), Number(OUT));
  drop(stage, fsEntry(1), D);
  bench.setRoot();
  t.is(bench.dma(VA, { pasid: PASID }), Number(OUT));
  t.is(bench.dma(VA, { pasid: PASID, write: true }), -0x90);
  t.is(bench.ats(VA, { pasid: PASID, nw: true }), 'r- 300000/12');
  t.is(bench.ats(VA, { pasid: PASID }), '-- 90');
  const extended = first({}, { pwsnp: false, eafe: true });
  t.is(extended.bench.dma(VA, { pasid: PASID }), -0x90, 'EA is missing');
});

rule(
  ['FS-AD-4', 'LOG-8'],
  'an update that memory refuses: success without permissions, yet recorded',
  (t) => {
    const stage = first({ refusesUpdates: () => true });
    drop(stage, stage.fsEntry(3), A);
    t.is(stage.bench.ats(VA, { pasid: PASID }), '-- 91');
    t.like(stage.bench.takeFault(), { code: 0x91, at: 1 });
    t.is(stage.bench.tables.read(stage.fsEntry(3)) & A, 0n);
  },
);

rule('ATS-2', 'without NWFS the NW flag does not count', (t) => {
  const stage = first({ ecap: { NWFS: 0 } });
  drop(stage, stage.fsEntry(1), D);
  t.is(stage.bench.ats(VA, { pasid: PASID, nw: true }), 'rw 300000/12');
  t.is(stage.bench.tables.read(stage.fsEntry(1)) & D, D);
});

rule(
  'ATS-5',
  'privileged requests without SRE get no permission; with it PRIV is answered',
  (t) => {
    const without = first();
    t.is(without.bench.ats(VA, { pasid: PASID, priv: true }), '-- 5d');
    const { bench } = first({}, { sre: true });
    t.is(bench.ats(VA, { pasid: PASID, priv: true }), 'rw 300000/12');
    t.true(bench.unit.result.priv);
    bench.ats(VA, { pasid: PASID });
    t.false(bench.unit.result.priv);
    bench.ats(VA, { priv: true });
    t.false(bench.unit.result.priv, 'without PASID there is no privilege');
  },
);

rule('CACHE-1', 'hits and misses are counted; a hit needs no loads', (t) => {
  const { bench } = first();
  bench.dma(VA, { pasid: PASID });
  const { walks, loads } = bench.unit.stats;
  t.is(walks, 1);
  t.true(loads >= 4 + 4, `${loads} loads: structures and first stage`);
  for (let i = 0; i < 10; i++) bench.dma(VA, { pasid: PASID, write: true });
  t.like(bench.unit.stats, { walks, loads, iotlbHits: 10, translations: 11 });
  bench.ats(VA, { pasid: PASID });
  t.is(bench.unit.stats.iotlbHits, 11);
});
