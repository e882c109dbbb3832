import test from 'ava';
import {
  barSizeFromMask,
  listCapabilities,
  listExtCapabilities,
  PciCap,
  PciCommand,
  PciExtCap,
  PciHeader,
} from '../../../../devices/spec/pci.ts';
import { errnoName } from '../../../../host/uapi/errno.ts';
import { bound } from '../iommufd/client.ts';
import { BAR0_BYTES } from '../iommufd/function.ts';
import type { World } from '../iommufd/world.ts';
import { makeWorld } from '../iommufd/world.ts';

const CONFIG = 7 * 2 ** 40;

interface Config {
  readonly world: World;
  readonly read: (offset: number, size: number) => number;
  readonly write: (offset: number, size: number, value: number) => void;
  /** The result of a transfer that may be refused. */
  readonly raw: (offset: number, count: number) => number;
}

function setup(): Config {
  const world = makeWorld();
  const user = world.user();
  const { device } = bound(user);
  const buffer = user.scratch + 0x2000;
  const raw = (offset: number, count: number): number =>
    user.run(user.process.pread(device.fd, buffer, count, CONFIG + offset));
  return {
    world,
    raw,
    read: (offset, size) => {
      if (raw(offset, size) !== size) throw new Error(`read of 0x${offset.toString(16)}`);
      return Number(user.process.memory.load(buffer, size));
    },
    write: (offset, size, value) => {
      user.process.memory.store(buffer, size, BigInt(value));
      const n = user.run(user.process.pwrite(device.fd, buffer, size, CONFIG + offset));
      if (n !== size) throw new Error(`write of 0x${offset.toString(16)}`);
    },
  };
}

test('identity is shown and cannot be written', (t) => {
  const { read, write } = setup();
  write(PciHeader.VENDOR_ID, 4, 0);
  t.is(read(PciHeader.VENDOR_ID, 4), 0x0b258086);
  t.is(read(PciHeader.REVISION, 4), 0x08800001);
});

test('the PASID capability is hidden and the chain relinked; ATS and PRI are read-only', (t) => {
  const { read, write, world } = setup();
  const real = world.pdevs[0]!;
  t.deepEqual(
    listExtCapabilities((offset) => read(offset, 4)).map(({ id, offset }) => [id, offset]),
    [
      [PciExtCap.ATS, 0x100],
      [PciExtCap.PRI, 0x120],
    ],
  );
  t.true(real.hasPasid && real.pasidEnabled);
  t.is(read(0x110, 4), 0);
  t.is(read(0x114, 4), 0);
  write(0x116, 2, 0);
  t.true(real.pasidEnabled, 'the write went nowhere');
  write(0x106, 2, 0x8000);
  t.false(real.atsEnabled);
  write(0x124, 2, 1);
  t.false(real.priEnabled);
  t.is(read(0x128, 4), 64, 'the PRI registers can be read');
});

test('unknown conventional capabilities are hidden', (t) => {
  const { read } = setup();
  const ids = listCapabilities((offset) => read(offset, 1)).map(({ id }) => id);
  t.deepEqual(ids, [PciCap.PCIE, PciCap.MSIX]);
  t.is(read(0x90, 4), 0);
});

test('BARs are sized and moved without moving the device', (t) => {
  const { read, write, world } = setup();
  const real = world.pdevs[0]!.bars[0]!.address;
  const low = read(PciHeader.BAR0, 4);
  const high = read(PciHeader.BAR1, 4);
  t.is(high * 2 ** 32 + ((low & ~0xf) >>> 0), real);
  write(PciHeader.BAR0, 4, 0xffff_ffff);
  write(PciHeader.BAR1, 4, 0xffff_ffff);
  t.is(barSizeFromMask(read(PciHeader.BAR0, 4), read(PciHeader.BAR1, 4)), BAR0_BYTES);
  t.is(read(PciHeader.BAR0, 4) & 0xf, low & 0xf, 'the type bits stay');
  write(PciHeader.BAR0, 4, 0xc000_1234);
  t.is(read(PciHeader.BAR0, 4), (0xc000_0000 | (low & 0xf)) >>> 0);
  t.is(world.pdevs[0]!.read32(PciHeader.BAR0) & ~0xf, low & ~0xf);
  write(PciHeader.ROM_BAR, 4, 0xffff_ffff);
  t.is(read(PciHeader.ROM_BAR, 4), 0);
});

test('COMMAND: decoding and bus mastering go through, INTx disable is virtual', (t) => {
  const { read, write, world } = setup();
  const real = world.pdevs[0]!;
  t.is(read(PciHeader.COMMAND, 2), PciCommand.MEMORY);
  const all = PciCommand.MEMORY | PciCommand.BUS_MASTER | PciCommand.INTX_DISABLE;
  write(PciHeader.COMMAND, 2, all);
  t.is(read(PciHeader.COMMAND, 2), all);
  t.true(real.busMasterEnabled);
  t.is(real.read16(PciHeader.COMMAND) & PciCommand.INTX_DISABLE, 0);
  write(PciHeader.COMMAND, 1, 0);
  t.false(real.memoryEnabled);
  t.is(read(PciHeader.COMMAND, 2), PciCommand.INTX_DISABLE);
  write(PciHeader.INT_LINE, 1, 11);
  t.is(read(PciHeader.INT_LINE, 1), 11);
  t.is(real.read8(PciHeader.INT_LINE), 0);
});

test('MSI-X cannot be enabled through configuration space', (t) => {
  const { read, write, world } = setup();
  const control = read(0x82, 2);
  write(0x82, 2, 0x8000);
  t.is(read(0x82, 2), control);
  t.false(world.pdevs[0]!.msix!.enabled);
});

test('a function level reset through DEVCTL is carried out', (t) => {
  const { read, write, world } = setup();
  const { resets } = world.functions[0]!;
  write(0x48, 2, 0x8000 | 0x10);
  t.is(world.functions[0]!.resets, resets + 1);
  t.is(read(0x48, 2), 0x10, 'the bit does not stay');
  t.true(world.pdevs[0]!.pasidEnabled, 'configuration survives');
});

test('transfers beyond the 4096 bytes are EFAULT', (t) => {
  const { raw } = setup();
  t.is(raw(0, 4096), 4096);
  t.is(raw(4095, 1), 1);
  t.is(errnoName(raw(4095, 2)), 'EFAULT');
  t.is(errnoName(raw(4096, 1)), 'EFAULT');
});
