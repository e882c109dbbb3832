import test from 'ava';
import { PciCommand, PciHeader } from '../../../devices/spec/pci.ts';
import { FakeFunction, fakeMachine } from './fakes.ts';

const ECAM = 0xb000_0000;
const UNIT = 0xfed9_0000;
const BAR0 = 0x3800_0000_0000;
const BAR2 = 0x3800_1000_0000;

function world() {
  const machine = fakeMachine();
  const fn = new FakeFunction(8);
  machine.root.attach(fn);
  fn.configWrite(PciHeader.BAR0, 4, BAR0 % 2 ** 32);
  fn.configWrite(PciHeader.BAR1, 4, BAR0 / 2 ** 32);
  fn.configWrite(PciHeader.BAR2, 4, BAR2 % 2 ** 32);
  fn.configWrite(PciHeader.BAR3, 4, Math.floor(BAR2 / 2 ** 32));
  fn.configWrite(PciHeader.COMMAND, 2, PciCommand.MEMORY);
  fn.log.length = 0;
  return { ...machine, fn };
}

test('RAM is read and written in every size', (t) => {
  const { root, ram } = world();
  root.write(0x2000, 8, 0x8877_6655_4433_2211n);
  t.is(root.read(0x2000, 8), 0x8877_6655_4433_2211n);
  t.is(root.read(0x2004, 4), 0x8877_6655n);
  t.is(root.read(0x2006, 2), 0x8877n);
  t.is(root.read(0x2001, 1), 0x22n);
  root.write(0x2004, 4, 0xdead_beefn);
  root.write(0x2002, 2, 0x1234n);
  root.write(0x2000, 1, 0xffn);
  t.is(ram.read64(0x2000), 0xdead_beef_1234_22ffn);
});

test("the unit's registers take 4- and 8-byte accesses, and only inside the window", (t) => {
  const { root, unit } = world();
  root.write(UNIT + 0x18, 4, 5n);
  t.is(root.read(UNIT + 0x18, 8), 5n);
  t.deepEqual(unit.log, ['write 24 4 5', 'read 24 8']);
  t.is(root.read(UNIT + 0x18, 2), 0xffffn);
  t.is(root.read(UNIT + 0x1000, 4), 0xffff_ffffn);
  root.write(UNIT + 0x1a, 4, 1n);
  t.is(unit.log.length, 2);
});

test('configuration space is reached through ECAM; empty places read all ones', (t) => {
  const { root, fn } = world();
  t.is(root.read(ECAM + 0x8000, 2), 0x8086n);
  t.is(root.read(ECAM + 0x8002, 2), 0x0b25n);
  t.is(root.read(ECAM + 0x8000, 8) & 0xffff_ffffn, 0x0b25_8086n);
  t.is(root.read(ECAM + 0x10000, 4), 0xffff_ffffn);
  t.is(root.read(ECAM + 0x10000, 8), 0xffff_ffff_ffff_ffffn);
  root.write(ECAM + 0x8000 + PciHeader.CACHE_LINE_SIZE, 1, 0x10n);
  t.is(fn.configRead(PciHeader.CACHE_LINE_SIZE, 1), 0x10);
  root.write(ECAM + 0x8000 + PciHeader.BAR0, 8, 0x5000_0000_0000n);
  t.is(fn.configRead(PciHeader.BAR1, 4), 0x5000);
  root.write(ECAM + 0x10000, 4, 0n);
  t.is(root.read(ECAM + 0x100000, 4), 0xffff_ffffn);
});

test('a BAR is decoded where its registers say, while memory decoding is on', (t) => {
  const { root, fn } = world();
  root.write(BAR0 + 0x100, 8, 0x1122_3344_5566_7788n);
  t.is(root.read(BAR0 + 0x104, 4), 0x1122_3344n);
  t.is(root.read(BAR0 + 0x10000, 4), 0xffff_ffffn);
  fn.configWrite(PciHeader.COMMAND, 2, 0);
  t.is(root.read(BAR0 + 0x104, 4), 0xffff_ffffn);
  root.write(BAR0 + 0x104, 4, 0n);
  fn.configWrite(PciHeader.COMMAND, 2, PciCommand.MEMORY);
  t.is(root.read(BAR0 + 0x104, 4), 0x1122_3344n);
});

test('a BAR that moved is no longer found where it was', (t) => {
  const { root, fn } = world();
  root.write(BAR0, 4, 9n);
  fn.configWrite(PciHeader.BAR1, 4, 0x3900);
  t.is(root.read(BAR0, 4), 0xffff_ffffn);
  t.is(root.read(0x3900_0000_0000, 4), 9n);
});

test('unaligned and unclaimed accesses do nothing', (t) => {
  const { root, fn, ram } = world();
  t.is(root.read(0x2001, 2), 0xffffn);
  root.write(0x2001, 4, 7n);
  t.is(ram.read64(0x2000), 0n);
  t.is(root.read(BAR0 + 1, 4), 0xffff_ffffn);
  root.write(0x7000_0000_0000, 8, 1n);
  t.is(root.read(0x7000_0000_0000, 1), 0xffn);
  t.deepEqual(fn.log, []);
});

test('64-byte stores reach RAM and BARs; ENQCMD only what accepts it', (t) => {
  const { root, fn, ram } = world();
  const bytes = new Uint8Array(64).fill(0xab);
  root.movdir64b(0x3000, bytes);
  t.is(ram.bytes[0x303f], 0xab);
  root.movdir64b(0x3010, bytes);
  t.is(ram.bytes[0x304f], 0);
  root.movdir64b(BAR2 + 0x1000, bytes);
  t.true(root.enqcmd(BAR2 + 0x40, bytes));
  fn.accepts = false;
  t.false(root.enqcmd(BAR2 + 0x40, bytes));
  t.false(root.enqcmd(BAR2 + 0x41, bytes));
  t.false(root.enqcmd(0x3000, bytes));
  t.false(root.enqcmd(0x7000_0000_0000, bytes));
  root.movdir64b(0x7000_0000_0000, bytes);
  t.deepEqual(fn.log, ['barWrite64 2 4096 171', 'barEnqueue 2 64 171', 'barEnqueue 2 64 171']);
});

test("the unit's messages arrive after a while, and only at functions that are there", (t) => {
  const { root, fn, clock } = world();
  t.true(root.world.deviceInvalidate(8, 3, 5, false, 0x77, 12));
  t.false(root.world.deviceInvalidate(16, 3, 5, false, 0x77, 12));
  root.world.pageGroupResponse(8, 5, 2, 0);
  root.world.pageGroupResponse(16, 5, 2, 0);
  t.deepEqual(fn.log, []);
  clock.run();
  t.deepEqual(fn.log, ['invalidate 3 5 false 119 12', 'pageGroupResponse 5 2 0']);
  t.true(clock.now > 0);
});

test("the unit's own interrupts go to the interrupt controller", (t) => {
  const { root, interrupts, clock } = world();
  let calls = 0;
  const line = interrupts.allocate('dmar', () => calls++);
  root.world.interrupt(line.address, line.data);
  clock.run();
  t.is(calls, 1);
});

test('two functions cannot have one requester id', (t) => {
  const { root, fn } = world();
  t.throws(() => root.attach(new FakeFunction(8)));
  t.deepEqual(root.functions(), [fn]);
});
