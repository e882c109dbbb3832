import test from 'ava';
import {
  AtsCap,
  PasidCap,
  PciCap,
  PciExtCap,
  PcieCap,
  PciHeader,
  PriCap,
} from '../../../devices/spec/pci.ts';
import { Errno } from '../../../host/kernel/errno.ts';
import { enumeratePci, type PciDev } from '../../../host/kernel/pci.ts';
import type { Task } from '../../../host/syscall.ts';
import { FakeFunction, fakeKernel } from './support.ts';

const ECAM = { base: 0xb000_0000, startBus: 0, endBus: 0 };
const errno = (code: string) => ({ instanceOf: Errno, message: new RegExp(`^${code}`) });

function world() {
  const machine = fakeKernel();
  const [pdev] = enumeratePci(machine.root, ECAM) as [PciDev];
  const { fn } = machine;
  const ext = (id: number): number => pdev.findExtCap(id);
  const run = (task: Task): void => {
    machine.scheduler.spawn('test', task);
    machine.clock.run();
    machine.scheduler.rethrow();
  };
  return { ...machine, pdev, fn, ext, run };
}

test('enumeration finds the functions that answer, in order', (t) => {
  const { root } = world();
  root.attach(new FakeFunction(0x18));
  root.attach(new FakeFunction(0x10));
  root.attach(new FakeFunction(0x19));
  const found = enumeratePci(root, ECAM);
  t.deepEqual(
    found.map(({ name }) => name),
    ['0000:00:01.0', '0000:00:02.0', '0000:00:03.0'],
  );
});

test('all functions of a multi-function device are found', (t) => {
  const { root } = world();
  const first = new FakeFunction(0x20);
  first.config.setUint8(PciHeader.HEADER_TYPE, 0x80);
  root.attach(first);
  root.attach(new FakeFunction(0x25));
  t.deepEqual(
    enumeratePci(root, ECAM).map(({ rid }) => rid),
    [8, 0x20, 0x25],
  );
});

test('identity, BARs and capabilities are read from configuration space', (t) => {
  const { pdev, fn } = world();
  t.like(pdev, { vendor: 0x8086, device: 0x0b25, classCode: 0x088000, maxPasidBits: 20 });
  t.deepEqual(
    pdev.bars.map(({ size }) => size),
    [0x10000, 0, 0x4000, 0, 0, 0],
  );
  t.is(pdev.bars[0]!.address, 0x3800_0000_0000);
  t.is(fn.configRead(PciHeader.BAR1, 4), 0x3800);
  t.true(pdev.findCap(PciCap.PCIE) > 0);
  t.is(pdev.findCap(PciCap.MSI), 0);
  t.is(pdev.findExtCap(PciExtCap.AER), 0);
  t.true(pdev.hasPasid && pdev.hasAts && pdev.hasPri);
  t.is(pdev.atsQueueDepth, 32);
  t.true(pdev.prgResponsePasid);
  t.is(fn.configRead(PciHeader.COMMAND, 2), 0);
});

test('memory decoding and bus mastering are switched without touching each other', (t) => {
  const { pdev } = world();
  pdev.enableMemory();
  pdev.enableBusMaster();
  t.true(pdev.memoryEnabled && pdev.busMasterEnabled);
  pdev.disableMemory();
  t.false(pdev.memoryEnabled);
  t.true(pdev.busMasterEnabled);
  pdev.disableBusMaster();
  t.false(pdev.busMasterEnabled);
});

test('PASID is enabled with the features the function has, before ATS, once', (t) => {
  const { pdev, fn, ext } = world();
  const control = (): number => fn.configRead(ext(PciExtCap.PASID) + PasidCap.CONTROL, 2);
  t.throws(() => pdev.enablePasid(PasidCap.CONTROL_EXEC), errno('EINVAL'));
  pdev.enablePasid();
  t.is(control(), PasidCap.CONTROL_ENABLE | PasidCap.CONTROL_PRIVILEGED);
  t.true(pdev.pasidEnabled);
  t.throws(() => pdev.enablePasid(), errno('EBUSY'));
  pdev.disablePasid();
  t.is(control(), 0);
  pdev.enableAts();
  t.throws(() => pdev.enablePasid(), errno('EBUSY'));
});

test('PASID needs end-to-end prefixes', (t) => {
  const { pdev, fn } = world();
  fn.config.setUint32(pdev.findCap(PciCap.PCIE) + PcieCap.DEVCAP2, 0, true);
  t.throws(() => pdev.enablePasid(), errno('EINVAL'));
});

test('ATS is enabled with its unit, once', (t) => {
  const { pdev, fn, ext } = world();
  t.throws(() => pdev.enableAts(32), errno('EINVAL'));
  pdev.enableAts(1);
  t.is(fn.configRead(ext(PciExtCap.ATS) + AtsCap.CONTROL, 2), AtsCap.CONTROL_ENABLE | 1);
  t.throws(() => pdev.enableAts(), errno('EBUSY'));
  pdev.disableAts();
  t.false(pdev.atsEnabled);
});

test('PRI is reset before it is enabled, and asks for no more than there is', (t) => {
  const { pdev, fn, ext } = world();
  const at = ext(PciExtCap.PRI);
  pdev.resetPri();
  t.is(fn.configRead(at + PriCap.CONTROL, 2), PriCap.CONTROL_RESET);
  pdev.enablePri(1000);
  t.is(fn.configRead(at + PriCap.ALLOCATION, 4), 64);
  t.true(pdev.priEnabled);
  t.throws(() => pdev.enablePri(1), errno('EBUSY'));
  t.throws(() => pdev.resetPri(), errno('EBUSY'));
  pdev.disablePri();
  t.false(pdev.priEnabled);
  fn.config.setUint16(at + PriCap.STATUS, 0, true);
  t.throws(() => pdev.enablePri(1), errno('EBUSY'));
});

test('without the capabilities everything of them is refused', (t) => {
  const { root, fn } = world();
  fn.config.setUint32(0x100, 0, true);
  const [bare] = enumeratePci(root, ECAM) as [PciDev];
  t.is(bare.maxPasidBits, 0);
  t.is(bare.atsQueueDepth, 0);
  t.false(bare.pasidEnabled || bare.atsEnabled || bare.priEnabled || bare.prgResponsePasid);
  for (const refused of [
    () => bare.enablePasid(),
    () => bare.enableAts(),
    () => bare.enablePri(1),
    () => bare.resetPri(),
  ]) {
    t.throws(refused, errno('EINVAL'));
  }
  t.notThrows(() => {
    bare.disablePri();
    bare.disableAts();
    bare.disablePasid();
  });
});

test('an MSI-X vector is programmed in the table in memory', (t) => {
  const { pdev, fn } = world();
  const msix = pdev.msix!;
  t.is(msix.tableSize, 4);
  t.throws(() => msix.set(1, 0xfee0_0000, 0x31), errno('EIO'));
  pdev.enableMemory();
  msix.set(1, 0xfee0_1000, 0x31);
  const entry = [0, 4, 8, 12].map((at) => fn.bar0.getUint32(0x2010 + at, true));
  t.deepEqual(entry, [0xfee0_1000, 0, 0x31, 0]);
  msix.mask(1);
  t.is(fn.bar0.getUint32(0x201c, true), 1);
  msix.unmask(1);
  t.is(fn.bar0.getUint32(0x201c, true), 0);
  msix.clear(1);
  t.is(fn.bar0.getUint32(0x2018, true), 0);
  t.is(fn.bar0.getUint32(0x201c, true), 1);
  for (const index of [-1, 4, 0.5]) t.throws(() => msix.set(index, 0, 0), errno('EINVAL'));
  t.false(msix.enabled);
  msix.enable();
  t.true(msix.enabled);
  msix.disable();
  t.false(msix.enabled);
});

test('a function level reset takes its time and loses the configuration', (t) => {
  const { pdev, fn, run, clock } = world();
  pdev.enableMemory();
  pdev.enablePasid();
  fn.log.length = 0;
  run(pdev.flr());
  t.deepEqual(fn.log, ['reset']);
  t.true(clock.now >= 100_000_000);
  t.false(pdev.memoryEnabled || pdev.pasidEnabled);
});

test('a reset of the function keeps its configuration and its vectors', (t) => {
  const { pdev, fn, run, ext } = world();
  pdev.enableMemory();
  pdev.enableBusMaster();
  pdev.enablePasid();
  pdev.enableAts(2);
  pdev.enablePri(16);
  pdev.msix!.set(2, 0xfee0_0000, 0x44);
  pdev.msix!.mask(2);
  pdev.msix!.enable();
  run(pdev.reset());
  t.true(pdev.memoryEnabled && pdev.busMasterEnabled && pdev.pasidEnabled && pdev.priEnabled);
  t.is(fn.configRead(ext(PciExtCap.ATS) + AtsCap.CONTROL, 2), AtsCap.CONTROL_ENABLE | 2);
  t.is(fn.configRead(ext(PciExtCap.PRI) + PriCap.ALLOCATION, 4), 16);
  t.is(fn.configRead(PciHeader.BAR1, 4), 0x3800);
  t.true(pdev.msix!.enabled);
  t.is(fn.bar0.getUint32(0x2028, true), 0x44);
  t.is(fn.bar0.getUint32(0x202c, true), 1);
});

test('without FLR both resets are refused', (t) => {
  const { pdev, fn, run } = world();
  fn.config.setUint32(pdev.findCap(PciCap.PCIE) + PcieCap.DEVCAP, 0, true);
  t.throws(() => run(pdev.flr()), errno('ENOTTY'));
  t.throws(() => run(pdev.reset()), errno('ENOTTY'));
});

test('a reset waits for outstanding requests, but not for ever', (t) => {
  const { pdev, fn, run, clock } = world();
  const status = pdev.findCap(PciCap.PCIE) + PcieCap.DEVSTA;
  fn.config.setUint16(status, PcieCap.DEVSTA_TRANSACTIONS_PENDING, true);
  fn.log.length = 0;
  clock.after(300_000, () => fn.config.setUint16(status, 0, true));
  clock.after(299_999, () => t.deepEqual(fn.log, []));
  run(pdev.flr());
  t.deepEqual(fn.log, ['reset']);
  fn.config.setUint16(status, PcieCap.DEVSTA_TRANSACTIONS_PENDING, true);
  run(pdev.flr());
  t.is(fn.log.length, 2);
});
