import test from 'ava';
import { DsaPci, DsaReg, Gencfg } from '../../../devices/spec/dsa/registers.ts';
import {
  decodeWqcfg,
  encodeWqcfg,
  Grpcfg,
  MsixPermission,
  Wqcfg,
} from '../../../devices/spec/dsa/tables.ts';
import { Rig } from './rig.ts';

test('capability registers read the same at every width and ignore writes', (t) => {
  const rig = new Rig();
  const { caps } = rig;
  t.is(rig.read32(DsaReg.VERSION), 0x100);
  for (const [offset, value] of [
    [DsaReg.GENCAP, caps.gencap],
    [DsaReg.WQCAP, caps.wqcap],
    [DsaReg.GRPCAP, caps.grpcap],
    [DsaReg.ENGCAP, caps.engcap],
    [DsaReg.OPCAP, caps.opcap & (2n ** 64n - 1n)],
    [DsaReg.OFFSETS, caps.offsets[0]],
  ] as const) {
    rig.write(offset, 2n ** 64n - 1n, 8);
    t.is(rig.read(offset, 8), value);
    t.is(rig.read(offset, 4) | (rig.read(offset + 4, 4) << 32n), value);
    t.is(rig.read(offset, 1), value & 0xffn);
    t.is(rig.read(offset + 2, 2), (value >> 16n) & 0xffffn);
  }
  t.is(rig.read32(DsaReg.CMDCAP), caps.cmdcap);
  t.is(rig.read32(DsaReg.CMD), 0, 'write only');
});

test('undefined offsets and impossible accesses read 0 and do nothing', (t) => {
  const rig = new Rig();
  for (const offset of [0x04, 0xe0, 0xf0, 0x180, 0x3fc, 0xe000, 0xfff8]) {
    rig.write(offset, 0xffff_ffff);
    t.is(rig.read32(offset), 0);
  }
  t.is(rig.dsa.barRead(0, 0x12, 4), 0n);
  t.is(rig.dsa.barRead(0, DsaPci.BAR0_BYTES, 4), 0n);
  t.is(rig.dsa.barRead(0, 0, 3), 0n);
  rig.dsa.barWrite(0, 0x82, 4, 0xffff_ffffn);
  t.is(rig.read32(DsaReg.GENCFG), 0);
});

test('GENCFG and GRPCFG can be written while the device is disabled only', (t) => {
  const rig = new Rig();
  const group = rig.caps.grpcfgOffset;
  rig.write(DsaReg.GENCFG, 0xffff_ffff);
  t.is(rig.read32(DsaReg.GENCFG), Gencfg.mask);
  for (let at = 0; at < Grpcfg.BYTES; at += 8) rig.write(group + at, 2n ** 64n - 1n, 8);
  t.is(rig.read(group, 8), 0xffn, 'eight queues exist');
  t.is(rig.read(group + 8, 8), 0n);
  t.is(rig.read(group + Grpcfg.ENGINE_BITMAP, 8), 0xfn);
  t.is(rig.read(group + Grpcfg.FLAGS, 8), 0x33_0ff0_ffbfn);
  t.is(rig.read(group + Grpcfg.FLAGS + 8, 8), 0n);
  const on = Rig.shared();
  on.write(DsaReg.GENCFG, Gencfg.mask);
  on.write(group, 0n, 8);
  t.is(on.read32(DsaReg.GENCFG), 0);
  t.is(on.read(group, 8), 1n);
  on.write(DsaReg.GENCTRL, 0xff);
  t.is(on.read32(DsaReg.GENCTRL), 7);
});

test('WQCFG: writable bits, narrow writes, and silence while the queue is enabled', (t) => {
  const rig = Rig.shared();
  const at = (wq: number, offset: number): number =>
    rig.caps.wqcfgOffset + wq * rig.caps.wqcfgStride + offset;
  for (let offset = 0; offset < rig.caps.wqcfgStride; offset += 4) {
    rig.write(at(1, offset), 0xffff_ffff);
    rig.write(at(0, offset), 0);
  }
  const words = Array.from({ length: 16 }, (_, i) => rig.read32(at(1, 4 * i)));
  const full = decodeWqcfg(words);
  t.deepEqual([...encodeWqcfg(full)], words, 'only defined bits stick');
  t.is(full.opConfig, 2n ** 256n - 1n);
  t.is(words[Wqcfg.STATE / 4], 0, 'read only');
  t.is(rig.read32(at(0, Wqcfg.SIZE)), 16, 'enabled: not written');
  rig.write(at(2, Wqcfg.SIZE) + 1, 0x12, 1);
  rig.write(at(2, Wqcfg.MODE) + 2, 0x1234, 2);
  t.is(rig.read32(at(2, Wqcfg.SIZE)), 0x1200);
  t.is(rig.read32(at(2, Wqcfg.MODE)), 0x1234_0000);
});

test('the permission table keeps its fields and may be written at any time', (t) => {
  const rig = Rig.shared();
  const at = rig.caps.msixPermissionOffset + 8;
  rig.write(at, 2n ** 64n - 1n, 8);
  t.is(rig.read(at, 8), BigInt(MsixPermission.mask >>> 0));
  rig.write(at, 0n, 8);
  t.is(rig.read(at, 8), 0n);
  rig.write(rig.caps.msixPermissionOffset + 9 * 8, 0xffff_ffff);
  t.is(rig.read32(rig.caps.msixPermissionOffset + 9 * 8), 0, 'there are nine');
});

test('narrow writes: CMD needs a whole dword, write-1-to-clear sees zeros elsewhere', (t) => {
  const rig = new Rig();
  rig.write(DsaReg.CMD + 2, 0x0050, 2);
  t.false(rig.active);
  rig.start(5);
  rig.start(5);
  t.is(rig.read32(DsaReg.INTCAUSE), 1);
  rig.write(DsaReg.INTCAUSE + 1, 0xff, 1);
  t.is(rig.read32(DsaReg.INTCAUSE), 1);
  rig.start(5);
  t.is(rig.read(DsaReg.SWERR, 8) & 3n, 3n, 'overflow');
  rig.write(DsaReg.SWERR, 2);
  t.is(rig.read(DsaReg.SWERR, 8) & 3n, 1n);
  rig.write(DsaReg.SWERR, 1n, 8);
  t.is(rig.read(DsaReg.SWERR, 8), 0n);
});
