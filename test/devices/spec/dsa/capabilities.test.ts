import test from 'ava';
import { dsaCapabilities } from '../../../../devices/spec/dsa/capabilities.ts';
import { opcap } from '../../../../devices/spec/dsa/opcodes.ts';
import {
  DsaCommand,
  Gencap,
  Grpcap,
  Offsets0,
  Wqcap,
} from '../../../../devices/spec/dsa/registers.ts';

test('the modelled device: DSA 1.0 with 8 WQs, 4 groups, 4 engines', (t) => {
  const caps = dsaCapabilities();
  t.is(caps.version, 0x100);
  t.like(Wqcap.decode(caps.wqcap), { totalWqSize: 128, wqCount: 8, sharedMode: 1 });
  t.like(Grpcap.decode(caps.grpcap), { groupCount: 4 });
  t.is(caps.engcap, 4n);
  t.like(Gencap.decode(caps.gencap), { maxTransferShift: 21, maxBatchShift: 5, blockOnFault: 1 });
  t.is(caps.opcap, 0x3_007fn, 'opcodes 0 to 6, 0x10 and 0x11');
  t.is(caps.msixVectors, 9);
  t.is(caps.bar2Bytes, 128 * 1024);
});

test('interrupt handles need not be requested', (t) => {
  const { cmdcap } = dsaCapabilities();
  t.is(cmdcap & (1 << DsaCommand.REQUEST_INTERRUPT_HANDLE), 0);
  t.is(cmdcap, 0x1ffe);
});

test('tables do not overlap and OFFSETS points at them', (t) => {
  for (const wqCount of [1, 8, 64, 255]) {
    for (const groupCount of [1, 4, 9]) {
      const caps = dsaCapabilities({ wqCount, groupCount });
      t.true(caps.grpcfgOffset + 64 * groupCount <= caps.wqcfgOffset);
      t.true(caps.wqcfgOffset + caps.wqcfgStride * wqCount <= caps.msixPermissionOffset);
      t.true(caps.msixPermissionOffset + 8 * caps.msixVectors <= 0xf000);
      const { grpcfg, wqcfg, msixPermissions } = Offsets0.decode(caps.offsets[0]);
      t.deepEqual(
        [grpcfg, wqcfg, msixPermissions].map((units) => units * 0x100),
        [caps.grpcfgOffset, caps.wqcfgOffset, caps.msixPermissionOffset],
      );
    }
  }
});

test('limits and operations are parameters, checked against their fields', (t) => {
  const caps = dsaCapabilities({ maxTransferShift: 31, maxBatchShift: 9, opcodes: [0, 3, 0x20] });
  t.like(Gencap.decode(caps.gencap), { maxTransferShift: 31, maxBatchShift: 9 });
  t.is(caps.opcap, 0x1_0000_0009n);
  t.is(opcap([255]), 1n << 255n);
  t.throws(() => dsaCapabilities({ maxTransferShift: 32 }), { message: /maxTransferShift is 32/ });
  t.throws(() => dsaCapabilities({ wqCount: 256 }), { instanceOf: RangeError });
});
