import { HOST_CAP, HOST_ECAP } from '../../../devices/spec/vtd/registers.ts';
import { Bench } from './bench.ts';
import { rule } from './rule.ts';

rule(['REG-ACCESS-3', 'REG-CAP-1'], 'read-only registers keep their values', (t) => {
  const bench = new Bench();
  for (const offset of [0x000, 0x01c, 0x080, 0x0b0]) {
    const before = bench.r64(offset);
    bench.w32(offset, 0x1234_5678);
    t.is(bench.r64(offset), before, `${offset}`);
  }
  bench.w64(0x8, 0n);
  bench.w64(0x10, 0n);
  t.is(bench.r32(0x000), 0x10);
  t.is(bench.r64(0x008), HOST_CAP);
  t.is(bench.r64(0x010), HOST_ECAP);
  t.is(bench.unit.registerBytes, 0x1000);
});

rule(
  ['REG-ACCESS-2', 'REG-ACCESS-3'],
  '64-bit registers take one 64-bit or two 32-bit accesses',
  (t) => {
    const bench = new Bench();
    bench.w64(0x20, 0x1_2345_6000n | 0xc80n);
    t.is(bench.r64(0x20), 0x1_2345_6c80n);
    t.is(bench.r32(0x20), 0x2345_6c80);
    t.is(bench.r32(0x24), 1);
    bench.w32(0x24, 2);
    bench.w32(0x20, 0xffff_ffff);
    t.is(bench.r64(0x20), 0x2_ffff_fc80n, 'reserved bits do not stick');
    bench.w64(0xd0, ~0n);
    t.is(bench.r64(0xd0), 0xffff_ffff_ffff_f007n);
    bench.w64(0x90, ~0n);
    t.is(bench.r64(0x90), 0xffff_ffff_ffff_f807n);
    bench.w64(0xc0, ~0n);
    t.is(bench.r64(0xc0), 0x7ffe0n);
  },
);

rule('REG-ACCESS-1', 'accesses that are not aligned or not 4 or 8 bytes wide do nothing', (t) => {
  const bench = new Bench();
  t.is(bench.unit.readRegister(0x9, 4), 0n);
  t.is(bench.unit.readRegister(0xc, 8), 0n);
  t.is(bench.unit.readRegister(0x1000, 4), 0n);
  t.is(bench.unit.readRegister(-8, 8), 0n);
  t.is(bench.unit.readRegister(0x8, 2 as 4), 0n);
  bench.unit.writeRegister(0x22, 4, 0xffff_ffffn);
  bench.unit.writeRegister(0x24, 8, ~0n);
  bench.unit.writeRegister(0x1000, 8, ~0n);
  t.is(bench.r64(0x20), 0n);
});

rule('REG-GCMD-1', 'GCMD: one-shot bits act and do not stay, levels stay; GCMD reads 0', (t) => {
  const bench = new Bench();
  bench.w64(0x20, bench.root | (1n << 10n));
  bench.w32(0x18, 0x4000_0000);
  t.is(bench.r32(0x1c), 0x4000_0000);
  bench.w32(0x18, 0x8000_0000);
  t.is(bench.r32(0x1c), 0xc000_0000, 'RTPS is no level: it stays set');
  t.is(bench.r32(0x18), 0);
  bench.gcmd(0x0400_0000, true);
  t.is(bench.r32(0x1c), 0xc400_0000);
  bench.w32(0x18, 0x8480_0000);
  t.is(bench.r32(0x1c), 0xc480_0000);
  bench.w32(0x18, 0x8d80_0000);
  t.is(bench.r32(0x1c), 0xc580_0000, 'SIRTP acts; no RWBF: WBF does nothing');
  bench.w32(0x18, 0);
  t.is(bench.r32(0x1c), 0x4100_0000);
  t.deepEqual(bench.remapped, ['root', 'te', 'te']);
});

rule('REG-SRTP-1', 'RTADDR takes effect with SRTP only', (t) => {
  const bench = new Bench();
  bench.enable();
  const other = bench.tables.page();
  bench.w64(0x20, other | (1n << 10n));
  const directory = bench.tables.context(other, 0x0108);
  bench.tables.pasid(directory, 0, { pgtt: 4 });
  t.is(bench.dma(0x5000n), -0x39);
  bench.w32(0x18, 0xc000_0000);
  t.is(bench.dma(0x5000n), 0x5000);
});

rule('REG-CAP-2', 'registers of features that the unit lacks read 0 and keep nothing', (t) => {
  const bench = new Bench();
  for (const offset of [0x58, 0x64, 0x68, 0x70, 0xe00, 0xe08, 0xe10, 0x400]) {
    bench.w32(offset, 0xffff_ffff);
    t.is(bench.r32(offset), 0, offset.toString(16));
  }
});

rule(
  ['REG-CCMD-2', 'REG-IOTLB-2', 'REG-IVA-1'],
  'register-based invalidation outside legacy mode completes as ignored',
  (t) => {
    const bench = new Bench();
    bench.enable();
    bench.w64(0x28, (1n << 63n) | (1n << 61n));
    t.is(bench.r64(0x28), 1n << 61n);
    bench.w64(0x508, (1n << 63n) | (1n << 60n));
    t.is(bench.r64(0x508), 1n << 60n);
    bench.w64(0x500, 0x1234_5000n);
    t.is(bench.r64(0x500), 0n, 'IVA is write-only');
  },
);
