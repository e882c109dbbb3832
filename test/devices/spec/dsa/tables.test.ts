import test from 'ava';
import {
  decodePortal,
  decodeWqcfg,
  encodeWqcfg,
  GrpcfgFlags,
  MsixPermission,
  portalBarBytes,
  portalOffset,
  WQCFG_WORDS,
  WqcfgState,
  WqState,
} from '../../../../devices/spec/dsa/tables.ts';

test('WQCFG: fields in their dwords, and back', (t) => {
  const words = encodeWqcfg({
    size: 16,
    threshold: 15,
    dedicated: 1,
    blockOnFault: 1,
    priority: 10,
    pasid: 0xabcde,
    pasidEnable: 1,
    maxTransferShift: 21,
    maxBatchShift: 5,
    opConfig: (1n << 255n) | 0x3n,
  });
  t.is(words.length, WQCFG_WORDS);
  t.deepEqual([...words.subarray(0, 4)], [16, 15, 0x1abc_dea3, 21 | (5 << 5)]);
  t.deepEqual([words[8], words[15]], [3, 0x8000_0000]);
  const config = decodeWqcfg(words);
  t.like(config, { size: 16, threshold: 15, dedicated: 1, pasid: 0xabcde, privileged: 0 });
  t.is(config.opConfig, (1n << 255n) | 3n);
  t.deepEqual(encodeWqcfg(config), words);
});

test('WQCFG: a 32-byte entry has no op-config; garbage decodes', (t) => {
  t.is(decodeWqcfg(new Uint32Array(8)).opConfig, 0n);
  const garbage = decodeWqcfg(new Uint32Array(16).fill(0xffff_ffff));
  t.like(garbage, { size: 0xffff, pasid: 0xf_ffff, maxTransferShift: 31, maxBatchShift: 15 });
  t.throws(() => encodeWqcfg({ priority: 16 }), { instanceOf: RangeError, message: /priority/ });
});

test('WQ state, group flags, MSI-X permissions', (t) => {
  t.is(WqcfgState.encode({ state: WqState.BUSY, occupancy: 3 }), 0x8000_0003);
  t.is(GrpcfgFlags.encode({ trafficClassB: 1, readBuffersAllowed: 64 }), 0x400_0008n);
  t.is(MsixPermission.encode({ pasidEnable: 1, pasid: 5 }), 0x5008);
});

test('portals: four pages for each WQ', (t) => {
  t.is(portalOffset(0), 0);
  t.is(portalOffset(0, { limited: true }), 0x1000);
  t.is(portalOffset(1, { ims: true }), 0x6000);
  t.is(portalOffset(7, { limited: true, ims: true }), 0x1_f000);
  t.deepEqual(decodePortal(0x1_ffc0), { wq: 7, limited: true, ims: true });
  for (let page = 0; page < 32; page++) {
    const { wq, ...kind } = decodePortal(page * 4096 + 64);
    t.is(portalOffset(wq, kind), page * 4096);
  }
});

test('BAR2 is the next power of two that holds all portals', (t) => {
  t.is(portalBarBytes(8), 128 * 1024);
  t.is(portalBarBytes(5), 128 * 1024);
  t.is(portalBarBytes(1), 16 * 1024);
});
