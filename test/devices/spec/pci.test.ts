import test from 'ava';
import {
  barSizeFromMask,
  barSizeMask,
  ecamAddress,
  ecamDecode,
  ecamOffset,
  extCapHeader,
  findCapability,
  findExtCapability,
  listCapabilities,
  listExtCapabilities,
  PciBar,
  PciCap,
  PciExtCap,
  PciHeader,
  PciStatus,
  parsePciAddress,
  rid,
  ridBus,
  ridDevfn,
  ridDevice,
  ridFunction,
  ridToString,
  ridToSysfsName,
} from '../../../devices/spec/pci.ts';

/** A configuration space as bytes, with the two readers the functions take. */
function configSpace() {
  const view = new DataView(new ArrayBuffer(4096));
  return {
    view,
    read8: (at: number) => view.getUint8(at),
    read32: (at: number) => view.getUint32(at, true),
    cap(at: number, id: number, next: number) {
      view.setUint8(at, id);
      view.setUint8(at + 1, next);
    },
    extCap(at: number, id: number, next: number) {
      view.setUint32(at, extCapHeader(id, 1, next), true);
    },
  };
}

test('a requester id packs bus, device and function', (t) => {
  const id = rid(0x12, 0x1f, 5);
  t.is(id, 0x12fd);
  t.deepEqual([ridBus(id), ridDevice(id), ridFunction(id), ridDevfn(id)], [0x12, 0x1f, 5, 0xfd]);
  t.is(ridToString(rid(0, 1, 0)), '00:01.0');
  t.is(ridToSysfsName(rid(0x6a, 1, 0), 1), '0001:6a:01.0');
});

test('names of functions read back, and impossible ones do not', (t) => {
  t.deepEqual(parsePciAddress('0001:6a:1f.7'), { domain: 1, rid: rid(0x6a, 0x1f, 7) });
  t.deepEqual(parsePciAddress('00:01.0'), { domain: 0, rid: 8 });
  for (const bad of ['', '00:20.0', '00:01.8', '0:01.0', '00:01.0 ', '0000:00:01']) {
    t.is(parsePciAddress(bad), null, bad);
  }
});

test('ECAM gives each function 4096 bytes', (t) => {
  t.is(ecamOffset(rid(1, 2, 3), 0x104), (1 << 20) | (2 << 15) | (3 << 12) | 0x104);
  t.is(ecamAddress(0x8_0000_0000, rid(255, 31, 7), 0xfff), 0x8_0fff_ffff);
  t.deepEqual(ecamDecode(ecamOffset(rid(255, 31, 7), 0xabc)), { rid: 0xffff, register: 0xabc });
});

test('sizing a BAR: mask and back', (t) => {
  const flags64 = PciBar.TYPE_64 | PciBar.PREFETCHABLE;
  t.is(flags64, 0xc);
  t.deepEqual(barSizeMask(0x1_0000, flags64), [0xffff_000c, 0xffff_ffff]);
  t.deepEqual(barSizeMask(2 ** 33, flags64), [0xc, 0xffff_fffe]);
  for (const size of [16, 4096, 0x2_0000, 2 ** 31, 2 ** 32, 2 ** 40]) {
    t.is(barSizeFromMask(...barSizeMask(size, flags64)), size);
  }
  t.is(barSizeFromMask(0xffff_f000, 0), 4096, 'a 32-bit BAR ignores the next register');
  t.is(barSizeFromMask(0, 0), 0, 'no BAR');
  t.is(barSizeFromMask(0xc, 0), 0, 'a 64-bit BAR that decodes nothing');
  t.is(barSizeFromMask(0xff0f_0000, 0), 0, 'not a power of two');
});

test('capabilities are found along the chain', (t) => {
  const config = configSpace();
  config.view.setUint8(PciHeader.CAP_PTR, 0x40);
  config.cap(0x40, PciCap.PCIE, 0x80);
  config.cap(0x80, PciCap.MSIX, 0);
  t.is(findCapability(config.read8, PciCap.MSIX), 0, 'STATUS says there is no list');
  config.view.setUint8(PciHeader.STATUS, PciStatus.CAP_LIST);
  t.is(findCapability(config.read8, PciCap.PCIE), 0x40);
  t.is(findCapability(config.read8, PciCap.MSIX), 0x80);
  t.is(findCapability(config.read8, PciCap.MSI), 0);
});

test('a hostile capability chain ends', (t) => {
  const config = configSpace();
  config.view.setUint8(PciHeader.STATUS, PciStatus.CAP_LIST);
  config.view.setUint8(PciHeader.CAP_PTR, 0x40);
  config.cap(0x40, PciCap.PM, 0x50);
  config.cap(0x50, PciCap.MSI, 0x40);
  t.deepEqual(
    listCapabilities(config.read8).map((cap) => cap.offset),
    [0x40, 0x50],
    'a loop',
  );
  config.cap(0x50, PciCap.MSI, 0x10);
  t.is(listCapabilities(config.read8).length, 2, 'a pointer into the header');
  t.deepEqual(
    listCapabilities(() => 0xff),
    [],
    'no device',
  );
  let reads = 0;
  const shifting = (at: number) => {
    reads++;
    return at === PciHeader.STATUS ? PciStatus.CAP_LIST : 0x40 + (reads % 0x2f) * 4;
  };
  listCapabilities(shifting);
  t.true(reads < 200, 'contents that change while they are read');
});

test('extended capabilities are found along the chain', (t) => {
  const config = configSpace();
  t.deepEqual(listExtCapabilities(config.read32), [], 'none');
  config.extCap(0x100, PciExtCap.ATS, 0x110);
  config.extCap(0x110, PciExtCap.PRI, 0x120);
  config.extCap(0x120, PciExtCap.PASID, 0);
  t.is(findExtCapability(config.read32, PciExtCap.ATS), 0x100);
  t.is(findExtCapability(config.read32, PciExtCap.PRI), 0x110);
  t.is(findExtCapability(config.read32, PciExtCap.PASID), 0x120);
  t.is(findExtCapability(config.read32, PciExtCap.ACS), 0);
  t.deepEqual(listExtCapabilities(config.read32)[1], { id: 0x13, version: 1, offset: 0x110 });
});

test('a hostile extended chain ends', (t) => {
  const config = configSpace();
  config.extCap(0x100, PciExtCap.ATS, 0x200);
  config.extCap(0x200, PciExtCap.PRI, 0x100);
  t.is(listExtCapabilities(config.read32).length, 2, 'a loop');
  config.extCap(0x200, PciExtCap.PRI, 0x40);
  t.is(listExtCapabilities(config.read32).length, 2, 'a pointer below 0x100');
  t.deepEqual(
    listExtCapabilities(() => 0xffff_ffff),
    [],
    'no device',
  );
  const all = (at: number) => extCapHeader(0x23, 1, at + 8);
  t.is(listExtCapabilities(all).at(-1)?.offset, 0xff8, 'every slot used');
});
