/** Legacy mode (TTM 00): the context entry itself says how to translate. */

import { SID } from './bench.ts';
import { legacy, LEGACY_OUT as OUT, LEGACY_VA as VA } from './legacy-scenes.ts';
import { rule } from './rule.ts';
import { R, W } from './tables.ts';

rule(['LEG-1', 'FR-0D'], 'second stage with and without ATS, pass-through', (t) => {
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

rule(
  ['LEG-2', 'FR-04', 'FR-05', 'FR-06'],
  'pass-through beyond HAW is 4, an empty entry is a missing permission',
  (t) => {
    t.is(legacy(2n).bench.dma(1n << 46n), -4);
    const { bench } = legacy();
    t.is(bench.dma(VA + 0x1000n), -6);
    t.is(bench.dma(VA + 0x1000n, { write: true }), -5);
    t.is(bench.ats(VA + 0x1000n), '-- 6');
  },
);

rule('FR-31', '31h: a request with PASID; 32h is for page requests', (t) => {
  const { bench } = legacy();
  t.is(bench.dma(VA, { pasid: 5 }), -0x31);
  t.like(bench.takeFault(), { code: 0x31, pasid: 5, hasPasid: true });
  t.is(bench.ats(VA, { pasid: 5 }), 'UR 31');
});

rule(
  ['REG-CCMD-1', 'REG-CCMD-2', 'REG-CCMD-3', 'REG-IOTLB-1', 'REG-IOTLB-2'],
  'register-based invalidation, with what it did; queue on: ignored',
  (t) => {
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
  },
);

rule('CACHE-2', 'domain-selective cc drops by DID in legacy mode', (t) => {
  const { bench, context } = legacy();
  bench.enableQueue();
  t.true(bench.unit.translated(SID, 5, true));
  bench.tables.write(context, 0n);
  bench.submit([[0x21n | (8n << 16n), 0n]]);
  t.true(bench.unit.translated(SID, 5, true));
  bench.submit([[0x21n | (7n << 16n), 0n]]);
  t.false(bench.unit.translated(SID, 5, true));
});

rule('REG-CCMD-1', 'device-selective CCMD with every function mask, and global', (t) => {
  const { bench, context } = legacy();
  const { tables } = bench;
  const sound = tables.read(context);
  const command = (cirg: bigint, fm: bigint, sid: number): bigint => {
    bench.w64(0x28, (1n << 63n) | (cirg << 61n) | (fm << 32n) | (BigInt(sid) << 16n));
    return bench.r64(0x28) >> 59n;
  };
  for (let fm = 0n; fm < 4n; fm++) {
    for (let fn = 0; fn < 16; fn++) {
      tables.write(context, sound);
      command(1n, 0n, 0);
      t.true(bench.unit.translated(SID, 5, true));
      tables.write(context, 0n);
      t.is(command(3n, fm, SID ^ fn), (3n << 2n) | 3n);
      const masked = [0, 4, 6, 7][Number(fm)]!;
      t.is(bench.unit.translated(SID, 5, true), (fn & ~masked) !== 0, `FM ${fm}, ${fn}`);
      bench.takeFault();
    }
  }
  t.is(command(0n, 0n, 0), 0n, 'no granularity: ignored');
});
