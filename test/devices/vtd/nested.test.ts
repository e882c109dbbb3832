/** First stage on second stage. */
import { type BenchOptions } from './bench.ts';
import { rule } from './rule.ts';
import {
  drop,
  first,
  GUEST_TABLES,
  LEAF,
  nested,
  OUT,
  or,
  PASID,
  type Stage,
  set,
  VA,
} from './stages.ts';
import { A, D, PS, R, SNP, SS_A, SS_D, W } from './tables.ts';

rule('ATS-4', 'the smaller page of the two stages', (t) => {
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

rule('NEST-1', 'tables and output beyond AW, and beyond MGAW', (t) => {
  const ask = (options: BenchOptions, breakIt: (s: Stage) => void): number => {
    const stage = nested(options);
    breakIt(stage);
    return stage.bench.dma(VA, { pasid: PASID });
  };
  const narrow = { cap: { MGAW: 38 } };
  t.is(
    ask({}, (s) => set(s, s.fsEntry(1), (1n << 45n) | LEAF)),
    -0x79,
    'within, but not mapped',
  );
  t.is(
    ask(narrow, (s) => set(s, s.fsEntry(1), (1n << 39n) | LEAF)),
    -0x74,
  );
  t.is(
    ask(narrow, (s) => set(s, s.fsEntry(3), (1n << 39n) | LEAF)),
    -0x74,
  );
  t.is(
    ask(narrow, (s) => set(s, s.fsEntry(1), ((1n << 39n) - 0x1000n) | LEAF)),
    -0x79,
  );
});

rule('NEST-2', 'table pages: R for the root, R below, and with SSADE W', (t) => {
  for (const ssade of [false, true]) {
    for (const [i, gpa] of GUEST_TABLES.entries()) {
      const unreadable = nested({}, { ssade });
      drop(unreadable, unreadable.ssEntry(gpa, 1), R);
      t.is(unreadable.bench.dma(VA, { pasid: PASID }), i === 0 ? -0x75 : -0x76);
      const readOnly = nested({}, { ssade });
      drop(readOnly, readOnly.ssEntry(gpa, 1), W);
      t.is(readOnly.bench.dma(VA, { pasid: PASID }) > 0, !ssade);
      if (ssade) t.is(readOnly.bench.takeFault()?.code, 0x77);
    }
  }
});

rule(
  ['NEST-3', 'NEST-5'],
  'with SSADE, D of the page whose first-stage bits are set, and of the output',
  (t) => {
    const { bench, fsEntry, ssEntry } = nested({}, { ssade: true });
    const { tables } = bench;
    const tablePage = ssEntry(GUEST_TABLES[3], 1);
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
  },
);

rule('NEST-3', 'setting a first-stage bit in a page without W: 77h, at every level', (t) => {
  for (const level of [1, 2, 3, 4]) {
    const stage = nested();
    drop(stage, stage.fsEntry(level), A);
    drop(stage, stage.ssEntry(GUEST_TABLES[4 - level]!, 1), W);
    t.is(stage.bench.dma(VA, { pasid: PASID }), -0x77, `level ${level}`);
    t.is(stage.bench.ats(VA, { pasid: PASID }), '-- 77');
  }
});

rule(
  'NEST-5',
  'a translation request with W granted sets D in both leaves; with NW in none',
  (t) => {
    const { bench, fsEntry, ssEntry } = nested({}, { ssade: true });
    const { tables } = bench;
    const leaves = [fsEntry(1), ssEntry(OUT, 1)];
    tables.write(leaves[0]!, tables.read(leaves[0]!) & ~D);
    tables.write(leaves[1]!, tables.read(leaves[1]!) & ~SS_D);
    const dirty = (): boolean[] => [
      (tables.read(leaves[0]!) & D) !== 0n,
      (tables.read(leaves[1]!) & SS_D) !== 0n,
    ];
    t.is(bench.ats(VA, { pasid: PASID, nw: true }), 'r- b00000/12');
    t.deepEqual(dirty(), [false, false]);
    t.is(bench.ats(VA, { pasid: PASID }), 'rw b00000/12');
    t.deepEqual(dirty(), [true, true]);
  },
);

rule('ATS-6', 'PGSNP, or SNP of the second-stage leaf, sets the N flag', (t) => {
  const f = first();
  f.bench.ats(VA, { pasid: PASID });
  t.false(f.bench.unit.result.noSnoop);
  f.enter({ pgsnp: true });
  f.bench.setRoot();
  for (const from of ['walk', 'IOTLB']) {
    f.bench.ats(VA, { pasid: PASID });
    t.true(f.bench.unit.result.noSnoop, from);
  }
  const n = nested();
  or(n, n.ssEntry(OUT, 1), SNP);
  n.bench.ats(VA, { pasid: PASID });
  t.true(n.bench.unit.result.noSnoop);
});

rule(
  'NEST-1',
  'every first-stage address goes through the second stage: the counted loads',
  (t) => {
    const { bench } = nested();
    bench.dma(VA, { pasid: PASID });
    const { walks, loads } = bench.unit.stats;
    t.is(walks, 1);
    // Structures 4, first stage 4; second stage 4 for the root, then what its cached tables leave.
    t.true(loads >= 4 + 4 + 4 + 4, `${loads} loads`);
  },
);
