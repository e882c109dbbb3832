import test from 'ava';
import { ConfigSpace } from '../../../devices/pci/config-space.ts';
import { addPcieCapability } from '../../../devices/pci/pcie.ts';
import {
  barSizeFromMask,
  findCapability,
  findExtCapability,
  listCapabilities,
  listExtCapabilities,
  PciBar,
  PciCap,
  PciCommand,
  PciExtCap,
  PcieCap,
  PciHeader,
} from '../../../devices/spec/pci.ts';
import { Rig } from '../dsa/rig.ts';

const identity = {
  vendor: 0x1234,
  device: 0x5678,
  revision: 3,
  classCode: 0x08_80_00,
  bars: [
    { bar: 0, bytes: 0x1000, is64: false, prefetchable: false },
    { bar: 2, bytes: 0x2_0000_0000, is64: true, prefetchable: true },
  ],
};

test('identity is read only; COMMAND keeps only its own bits', (t) => {
  const seen: number[][] = [];
  const config = new ConfigSpace(identity, (next, before) => seen.push([before, next]));
  config.write(PciHeader.VENDOR_ID, 4, 0xffff_ffff);
  t.is(config.read(PciHeader.VENDOR_ID, 4), 0x5678_1234);
  t.is(config.read(PciHeader.REVISION, 4), 0x0880_0003);
  t.is(config.read(PciHeader.HEADER_TYPE, 1), 0);
  t.false(config.busMaster);
  config.write(PciHeader.COMMAND, 2, 0xffff);
  t.is(config.read(PciHeader.COMMAND, 2) & PciCommand.IO, 0);
  t.true(config.busMaster);
  config.write(PciHeader.COMMAND, 1, 0);
  t.false(config.busMaster);
  t.is(config.read(PciHeader.COMMAND, 2), PciCommand.SERR | PciCommand.INTX_DISABLE);
  t.is(seen.length, 2);
});

test('BARs are sized by writing ones, of either width', (t) => {
  const config = new ConfigSpace(identity);
  for (const [bar, size] of [
    [0, 0x1000],
    [2, 0x2_0000_0000],
  ] as const) {
    t.is(config.barSize(bar), size);
    const at = PciHeader.BAR0 + 4 * bar;
    config.write(at, 4, 0xffff_ffff);
    config.write(at + 4, 4, 0xffff_ffff);
    t.is(barSizeFromMask(config.read(at, 4), config.read(at + 4, 4)), size);
  }
  t.is(config.read(PciHeader.BAR2, 4) & 0xf, PciBar.TYPE_64 | PciBar.PREFETCHABLE);
  t.is(config.read(PciHeader.BAR1, 4), 0, 'no BAR there');
  t.is(config.barSize(1), 0);
  t.is(config.barSize(3), 0);
  t.is(config.barSize(9), 0);
  config.write(PciHeader.BAR0, 4, 0xfeba_cafe);
  t.is(config.read(PciHeader.BAR0, 4), 0xfeba_c000);
  config.reset();
  t.is(config.read(PciHeader.BAR0, 4), 0);
});

test('accesses that are not naturally aligned, or outside, read ones and do nothing', (t) => {
  const config = new ConfigSpace(identity);
  t.is(config.read(1, 2), 0xffff);
  t.is(config.read(2, 4), 0xffff_ffff);
  t.is(config.read(4096, 1), 0xff);
  t.is(config.read(-4, 4), 0xffff_ffff);
  config.write(PciHeader.COMMAND + 1, 4, 0xffff_ffff);
  config.write(4096, 4, 1);
  t.is(config.read(PciHeader.COMMAND, 2), 0);
});

test('registers: write 1 to clear, rules and reactions, on partial and wide writes', (t) => {
  const config = new ConfigSpace(identity);
  const seen: number[] = [];
  config.define({
    offset: 0x60,
    size: 2,
    reset: 0xff00,
    writable: 0x00ff,
    clearable: 0x0f00,
    rule: (next) => next & ~1,
    written: (next) => seen.push(next),
  });
  config.write(0x60, 4, 0xffff_01ff);
  t.is(config.read(0x60, 4), 0xfefe);
  config.write(0x61, 1, 0x02);
  t.is(config.read(0x60, 2), 0xfcfe);
  config.write(0x62, 2, 0xffff);
  t.deepEqual(seen, [0xfeff, 0xfcfe], 'the rule came after, and a neighbour is no reason');
  config.set(0x60, 2, 0x1234);
  t.is(config.read(0x60, 2), 0x1234);
});

test('capability chains link in the order of adding, and refuse bad places', (t) => {
  const config = new ConfigSpace(identity);
  config.addCapability(PciCap.PM, 0x40);
  config.addCapability(PciCap.MSI, 0x50);
  config.addExtCapability(PciExtCap.AER, 1, 0x100);
  config.addExtCapability(PciExtCap.ATS, 1, 0x200);
  const read8 = (at: number): number => config.read(at, 1);
  const read32 = (at: number): number => config.read(at, 4);
  t.deepEqual(listCapabilities(read8), [
    { id: PciCap.PM, offset: 0x40 },
    { id: PciCap.MSI, offset: 0x50 },
  ]);
  t.deepEqual(listExtCapabilities(read32), [
    { id: PciExtCap.AER, version: 1, offset: 0x100 },
    { id: PciExtCap.ATS, version: 1, offset: 0x200 },
  ]);
  t.throws(() => config.addCapability(1, 0x3c), { instanceOf: RangeError });
  t.throws(() => config.addCapability(1, 0x102), { instanceOf: RangeError });
  const empty = new ConfigSpace(identity);
  t.throws(() => empty.addExtCapability(1, 1, 0x104), { instanceOf: RangeError });
  t.throws(() => empty.addExtCapability(1, 1, 0x1000), { instanceOf: RangeError });
});

test('a function level reset is initiated by its bit, which reads 0', (t) => {
  const config = new ConfigSpace(identity);
  let resets = 0;
  addPcieCapability(config, 0x40, () => resets++);
  t.is(config.read(0x40 + PcieCap.FLAGS, 2), 0x0092);
  config.write(0x40 + PcieCap.DEVCTL, 2, 0x1000);
  t.is(resets, 0);
  config.write(0x40 + PcieCap.DEVCTL, 2, PcieCap.DEVCTL_INITIATE_FLR);
  t.is(resets, 1);
  t.is(config.read(0x40 + PcieCap.DEVCTL, 2), 0);
});

test('the accelerator: capabilities, BARs and identity', (t) => {
  const { dsa } = new Rig();
  const read8 = (at: number): number => dsa.configRead(at, 1);
  const read32 = (at: number): number => dsa.configRead(at, 4);
  t.is(dsa.configRead(0, 4), 0x0b25_8086);
  t.is(dsa.configRead(8, 4) >>> 8, 0x08_80_00);
  t.is(findCapability(read8, PciCap.PCIE), 0x40);
  t.is(findCapability(read8, PciCap.MSIX), 0x80);
  t.is(findExtCapability(read32, PciExtCap.ATS), 0x100);
  t.is(findExtCapability(read32, PciExtCap.PRI), 0x108);
  t.is(findExtCapability(read32, PciExtCap.PASID), 0x118);
  t.not(read32(0x40 + PcieCap.DEVCAP2) & PcieCap.DEVCAP2_END_END_TLP_PREFIX, 0);
  const sizes = [0, 1, 2, 3, 4, 5].map((bar) => dsa.barSize(bar));
  t.deepEqual(sizes, [0x1_0000, 0, 0x2_0000, 0, 0, 0]);
  t.is(dsa.configRead(PciHeader.BAR0, 4) & 0xf, 0xc);
});
