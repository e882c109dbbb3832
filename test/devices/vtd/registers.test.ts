import {
  CAP,
  capabilityConflict,
  ECAP,
  HOST_CAP,
  HOST_ECAP,
} from '../../../devices/spec/vtd/registers.ts';
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
  for (const offset of [
    0x58, 0x64, 0x68, 0x70, 0x100, 0x108, 0x120, 0x218, 0xe00, 0xe08, 0xe10, 0x400,
  ]) {
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

rule('REG-MTRR-1', 'MTRR registers keep what they may hold, with MTS only', (t) => {
  const bench = new Bench({ ecap: { MTS: 1 } });
  const all = 0xffff_ffff_ffff_ffffn;
  const kept = new Map<number, bigint>([
    [0x100, 0x50an],
    [0x108, 0xcffn],
    [0x110, 0n],
    [0x118, 0n],
    [0x178, 0n],
  ]);
  for (let at = 0x120; at < 0x178; at += 8) kept.set(at, all);
  for (let at = 0x180; at <= 0x218; at += 16) {
    kept.set(at, 0x3fff_ffff_f0ffn);
    kept.set(at + 8, 0x3fff_ffff_f800n);
  }
  for (const [offset, value] of kept) {
    bench.w64(offset, all);
    t.is(bench.r64(offset), value, offset.toString(16));
  }
  t.is(bench.r64(0x220), 0n);
  t.is((bench.r64(0x10) >> 25n) & 1n, 1n);
});

rule('REG-CAP-1', 'capability bits of features that are not modelled read 0', (t) => {
  const bench = new Bench({
    cap: { PLMR: 1, PHMR: 1, PI: 1, ECMDS: 1, SAGAW: 0x1f, SSLPS: 15, FS5LP: 1 },
    ecap: { ERS: 1, VCS: 1, TDXCS: 1, PMS: 1, SSIRWS: 1, RDTS: 1, ADMS: 1 },
  });
  const cap = bench.r64(0x008);
  const ecap = bench.r64(0x010);
  t.is(cap, HOST_CAP | (1n << 60n) | (0xen << 8n) | (3n << 34n));
  t.is(ecap, HOST_ECAP | (1n << 52n));
  for (const bit of [30n, 44n, 50n, 51n, 55n, 56n, 57n, 59n, 60n]) {
    t.is((ecap >> bit) & 1n, 0n, `ECAP ${bit}`);
  }
  for (const bit of [3n, 5n, 6n, 8n, 12n, 36n, 37n, 59n, 61n]) {
    t.is((cap >> bit) & 1n, 0n, `CAP ${bit}`);
  }
});

rule(
  'REG-CAP-2',
  'queue, page-request and interrupt-table registers come with their capability',
  (t) => {
    const registers = [
      { ecap: { QI: 0 }, offsets: [0x88, 0x90, 0x94, 0xa0, 0xa4, 0xa8, 0xac] },
      { ecap: { PRS: 0 }, offsets: [0xc0, 0xc8, 0xd0, 0xd4, 0xe0, 0xe4, 0xe8, 0xec] },
      { ecap: { IR: 0 }, offsets: [0xb8, 0xbc] },
    ];
    for (const { ecap, offsets } of registers) {
      const bench = new Bench({ ecap });
      const full = new Bench();
      for (const offset of offsets) {
        bench.w32(offset, 0xffff_ffff);
        t.is(bench.r32(offset), 0, offset.toString(16));
        full.w32(offset, 0xffff_ffff);
        t.not(full.r32(offset), 0, offset.toString(16));
      }
    }
    const narrow = new Bench({ ecap: { EIM: 0 } });
    narrow.w64(0xb8, ~0n);
    t.is(narrow.r64(0xb8), 0xffff_ffff_ffff_f00fn, 'EIME');
  },
);

rule('REG-ACCESS-3', 'reserved bits of the command registers do not stick', (t) => {
  const bench = new Bench();
  bench.w64(0x28, ~(1n << 63n));
  t.is(bench.r64(0x28), (3n << 61n) | (3n << 32n) | 0xffff_ffffn);
  bench.w64(0x508, ~(1n << 63n));
  t.is(bench.r64(0x508), (3n << 60n) | (3n << 48n) | (0xffffn << 32n));
});

rule('REG-CAP-3', 'each dependency between capabilities is named', (t) => {
  const cap = CAP.decode([HOST_CAP]);
  const ecap = ECAP.decode([HOST_ECAP]);
  t.is(capabilityConflict(cap, ecap), undefined);
  const without = [
    [{ FSTS: 0 }, 'NEST'],
    [{ SSTS: 0 }, 'NEST'],
    [{ DT: 0, NEST: 0 }, 'PRS'],
    [{ DT: 0, NEST: 0, PRS: 0 }, 'PDS'],
    [{ DT: 0, NEST: 0, PRS: 0, PDS: 0 }, 'NWFS'],
    [{ SMTS: 0, NEST: 0, PRS: 0 }, 'PASID'],
    [{ SMPWCS: 0 }, 'EAFS'],
    [{ SMPWCS: 0, EAFS: 0 }, 'SSADS'],
    [{ QI: 0 }, 'SMTS'],
  ] as const;
  for (const [change, name] of without) {
    t.true(capabilityConflict(cap, { ...ecap, ...change })?.startsWith(name), name);
  }
  t.true(capabilityConflict({ ...cap, RWBF: 1 }, ecap)?.startsWith('SMTS'));
});

rule('REG-GCMD-2', 'WBF: done at once with RWBF, no effect without', (t) => {
  for (const RWBF of [0, 1]) {
    const bench = new Bench({ cap: { RWBF } });
    bench.w32(0x18, 0x0800_0000);
    t.is(bench.r32(0x1c), 0);
  }
});

rule('REG-GCMD-3', 'QIE without QI, and IRE, SIRTP and CFI without IR, do nothing', (t) => {
  const bench = new Bench({ ecap: { QI: 0, IR: 0 } });
  bench.w32(0x18, 0x0780_0000);
  t.is(bench.r32(0x1c), 0);
  const full = new Bench();
  full.w32(0x18, 0x0780_0000);
  t.is(full.r32(0x1c), 0x0780_0000);
});

rule(
  'REG-TE-1',
  'TE off: memory passes untouched, translation and translated requests get UR',
  (t) => {
    const bench = new Bench();
    for (const pasid of [-1, 5]) {
      t.is(bench.dma(0x7000n, { pasid, write: true }), 0x7000);
      t.is(bench.ats(0x7000n, { pasid }), 'UR 0');
    }
    t.false(bench.unit.translated(0x108, 7, false));
    t.is(bench.unit.result.status, 1);
    t.is(bench.takeFault(), null);
  },
);
