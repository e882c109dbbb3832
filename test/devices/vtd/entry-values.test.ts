/** Combinations of fields that are no reserved bits, yet invalid; and fields that do not count. */
import { type BenchOptions } from './bench.ts';
import { legacy } from './legacy-scenes.ts';
import { rule } from './rule.ts';
import { first, nested, OUT, PASID, SS_VA, type Stage, second, set, VA } from './stages.ts';

const code = (stage: Stage, va = VA): number => -stage.bench.dma(va, { pasid: PASID });

rule('ENT-CTX-3', 'PRE with and without DTE; RID_PASID against every PDTS', (t) => {
  for (const flags of [0n, 4n, 0x10n, 0x14n]) {
    const stage = first();
    const { tables } = stage.bench;
    tables.write(stage.context, (tables.read(stage.context) & ~0x14n) | flags);
    t.is(code(stage) === 0x43, flags === 0x10n);
  }
  for (let pdts = 0; pdts < 8; pdts++) {
    const capacity = 2 ** (pdts + 13);
    for (const rid of [capacity - 1, capacity]) {
      if (rid >= 2 ** 20) continue;
      const stage = first();
      const { tables } = stage.bench;
      const kept = tables.read(stage.context) & ~0xe00n;
      tables.write(stage.context, kept | (BigInt(pdts) << 9n));
      tables.write(stage.context + 8n, BigInt(rid));
      t.is(code(stage) === 0x43, rid === capacity, `PDTS ${pdts}, RID_PASID ${rid}`);
    }
  }
});

rule(['ENT-CTX-4', 'FR-46'], 'the first PASID beyond the directory, for every PDTS', (t) => {
  for (let pdts = 0; pdts < 7; pdts++) {
    const stage = first();
    const { tables } = stage.bench;
    tables.write(stage.context, (tables.read(stage.context) & ~0xe00n) | (BigInt(pdts) << 9n));
    const capacity = 2 ** (pdts + 13);
    t.is(stage.bench.dma(VA, { pasid: capacity }), -0x46);
    // The directory of the bench is one page: what lies behind it is empty or no memory.
    t.not(stage.bench.dma(VA, { pasid: capacity - 1 }), -0x46);
  }
});

const lacks = (make: typeof first, pgtt: number, options: BenchOptions): number => {
  const stage = make(options);
  stage.enter({ pgtt });
  return code(stage, make === second ? SS_VA : VA);
};

rule('ENT-PASID-3', 'every PGTT, with and without its capability', (t) => {
  for (const pgtt of [0, 5, 6, 7]) t.is(lacks(first, pgtt, {}), 0x5b, `PGTT ${pgtt}`);
  t.is(lacks(first, 1, { ecap: { FSTS: 0 } }), 0x5b);
  t.is(lacks(second, 2, { ecap: { SSTS: 0 } }), 0x5b);
  t.is(lacks(nested, 3, { ecap: { NEST: 0 } }), 0x5b);
  t.is(lacks(first, 4, { ecap: { PT: 0 } }), 0x5b);
});

rule('ENT-PASID-3', 'every AW against every SAGAW; every FSPM against FS5LP', (t) => {
  for (let SAGAW = 0; SAGAW < 16; SAGAW += 2) {
    for (let aw = 0; aw < 8; aw++) {
      for (const make of [second, nested]) {
        const stage = make({ cap: { SAGAW } });
        stage.enter({ aw });
        const has = aw >= 1 && aw <= 3 && ((SAGAW >> aw) & 1) === 1;
        t.is(code(stage, make === second ? SS_VA : VA) === 0x5b, !has, `${SAGAW} ${aw}`);
      }
    }
  }
  for (const FS5LP of [0, 1]) {
    for (let fspm = 0; fspm < 4; fspm++) {
      const stage = first({ cap: { FS5LP } });
      stage.enter({ fspm });
      t.is(code(stage) === 0x5b, fspm > FS5LP);
    }
  }
});

rule(
  'ENT-PASID-4',
  'a nested root beyond AW or MGAW is invalid, beyond HAW alone it is not',
  (t) => {
    const widths = nested({ haw: 39 });
    widths.enter({ fs: 1n << 45n });
    t.is(code(widths), 0x79, 'a guest address: not mapped');
    widths.enter({ fs: 1n << 48n });
    widths.bench.setRoot();
    t.is(code(widths), 0x5b);
    const narrow = nested({ cap: { MGAW: 38 } });
    narrow.enter({ fs: 1n << 39n });
    t.is(code(narrow), 0x5b);
    const host = first({ haw: 39 });
    host.enter({ fs: 1n << 45n });
    t.is(code(host), 0x5a, 'of the first stage alone it is a host address');
  },
);

rule('ENT-PASID-5', 'fields of the other stage do not count', (t) => {
  const f = first();
  for (let aw = 0; aw < 8; aw++) {
    f.enter({ aw, ss: 1n << 50n });
    f.bench.setRoot();
    t.is(f.bench.dma(VA, { pasid: PASID }), Number(OUT));
  }
  const s = second();
  for (let fspm = 0; fspm < 4; fspm++) {
    s.enter({ fspm, fs: 1n << 50n });
    s.bench.setRoot();
    t.is(s.bench.dma(SS_VA, { pasid: PASID }), Number(OUT));
    s.enter({ pgtt: 4, fspm, fs: 1n << 50n });
    s.bench.setRoot();
    t.is(s.bench.dma(SS_VA, { pasid: PASID }), Number(SS_VA));
  }
});

rule('ENT-LEG-2', 'every TT and AW of a legacy context', (t) => {
  for (let tt = 0n; tt < 4n; tt++) {
    for (let aw = 0n; aw < 8n; aw++) {
      const { bench, context } = legacy(tt);
      bench.tables.write(context + 8n, aw | (7n << 8n));
      const valid = tt !== 3n && (aw === 1n || aw === 2n);
      t.is(bench.dma(0x1234_5000n) === -3, !valid, `TT ${tt} AW ${aw}`);
    }
  }
});

rule('ENT-LEG-1', 'bits 6:3 of the second word of a legacy context are ignored', (t) => {
  const { bench, context } = legacy();
  bench.tables.or(context + 8n, 0x78n);
  t.true(bench.dma(0x1234_5000n) > 0);
});

rule('FPD-2', 'FPD of entries that are not present', (t) => {
  const stage = first();
  set(stage, stage.context, 2n);
  t.is(code(stage), 0x41);
  t.is(stage.bench.takeFault(), null);
  const { bench, context } = legacy();
  bench.tables.write(context, 2n);
  t.is(bench.dma(0x1234_5000n), -2);
  t.is(bench.takeFault(), null);
});

rule('ENT-PASID-6', 'memory types: the same translation, and the walk shows them', (t) => {
  const types = { CD: 1n << 25n, EMTE: 1n << 26n, PAT: 0x0007_0406n << 32n };
  const stage = first({ ecap: { MTS: 1 } });
  const { bench, directory } = stage;
  const address = bench.tables.pasidAddress(directory, PASID) + 8n;
  const sound = bench.tables.read(address);
  const plain = bench.dma(VA, { pasid: PASID });
  t.true(plain >= 0);
  const shown: string[] = [];
  bench.trace.listen(({ values }) => {
    if (values['table'] === 'PASID') shown.push(String(values['decoded']));
  });
  for (const word of [types.CD, types.EMTE | types.PAT, types.CD | types.EMTE | types.PAT]) {
    bench.tables.write(address, sound | word);
    bench.w32(0x18, 0xc000_0000);
    t.is(bench.dma(VA, { pasid: PASID }), plain);
  }
  const ends = shown.map((text) => text.slice(text.indexOf('PWSNP') + 6));
  t.deepEqual(ends, ['CD', 'EMTE PAT=0x70406', 'CD EMTE PAT=0x70406']);
});
