import test from 'ava';

import {
  CAP,
  capabilityConflict,
  ECAP,
  FSTS,
  faultRecordOffset,
  GCMD,
  GSTS,
  GSTS_PERSISTENT,
  GUEST_CAP,
  GUEST_ECAP,
  HOST_CAP,
  HOST_ECAP,
  IQA,
  ivaOffset,
  PQA,
  REG,
  REGISTERS,
  RTADDR,
  TTM,
} from '../../../../devices/spec/vtd/registers.ts';

/** Positions of the set bits of a 64-bit value. */
function setBits(value: bigint): number[] {
  return Array.from({ length: 64 }, (_, n) => n).filter((n) => ((value >> BigInt(n)) & 1n) === 1n);
}

test('the unit capabilities equal the reference values bit by bit', (t) => {
  t.deepEqual(setBits(HOST_CAP), setBits(0x81d2008c602f0606n));
  t.deepEqual(setBits(HOST_ECAP), setBits(0x0003ed9ea4f050dfn));
  t.deepEqual(setBits(GUEST_CAP), setBits(0x81d2008c222f0486n));
  t.deepEqual(setBits(GUEST_ECAP), setBits(0x00018d9a20f00f4fn));
});

test('the unit capabilities use only named bits and keep the dependencies', (t) => {
  for (const [cap, ecap] of [
    [HOST_CAP, HOST_ECAP],
    [GUEST_CAP, GUEST_ECAP],
  ] as const) {
    t.false(CAP.hasReserved([cap]));
    t.false(ECAP.hasReserved([ecap]));
    t.is(capabilityConflict(CAP.decode([cap]), ECAP.decode([ecap])), undefined);
  }
});

test('a broken dependency is named', (t) => {
  const cap = CAP.decode([HOST_CAP]);
  const ecap = ECAP.decode([HOST_ECAP]);
  t.is(capabilityConflict(cap, { ...ecap, SSTS: 0 }), 'NEST needs SMTS, FSTS and SSTS');
  t.is(capabilityConflict(cap, { ...ecap, DT: 0 }), 'PRS needs DT and SMTS');
  t.is(capabilityConflict({ ...cap, RWBF: 1 }, ecap), 'SMTS needs QI and no RWBF');
});

test('fault records and IOTLB registers lie where the capabilities say', (t) => {
  t.is(faultRecordOffset(CAP.decode([HOST_CAP]), 0), 0x600);
  t.is(faultRecordOffset(CAP.decode([GUEST_CAP]), 0), 0x220);
  t.is(ivaOffset(ECAP.decode([HOST_ECAP])), 0x500);
  t.is(ivaOffset(ECAP.decode([GUEST_ECAP])), 0xf0);
});

test('the register table names every offset once, aligned and without overlap', (t) => {
  t.deepEqual(
    REGISTERS.map((r) => r.name),
    Object.keys(REG) as (keyof typeof REG)[],
  );
  let end = 0;
  for (const r of REGISTERS) {
    t.is(r.offset, REG[r.name]);
    t.is(r.offset % (r.width / 8), 0, r.name);
    t.true(r.offset >= end, r.name);
    end = r.offset + r.width / 8;
  }
});

test('command and status bits stand at the same positions', (t) => {
  t.deepEqual(Object.values<number>(GCMD), Object.values<number>(GSTS));
  const oneShot = GCMD.SRTP | GCMD.SFL | GCMD.WBF | GCMD.SIRTP;
  t.is(GSTS_PERSISTENT, ~oneShot >>> 0);
  t.is<number, number>(FSTS.W1C, FSTS.PFO | FSTS.IQE | FSTS.ICE | FSTS.ITE);
});

test('address registers carry their size fields', (t) => {
  t.is(RTADDR.encode({ RTA: 0x3000, TTM: TTM.SCALABLE })[0], 0x3400n);
  t.is(IQA.encode({ BASE: 0x10000, DW: 1, QS: 1 })[0], 0x10801n);
  t.deepEqual(PQA.decode([0x20004n]), { BASE: 0x20000, PQS: 4 });
});
