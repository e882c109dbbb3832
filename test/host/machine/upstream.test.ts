import test from 'ava';
import { AT, CPL, NO_PASID } from '../../../devices/pci/fabric.ts';
import { PciCommand, PciHeader } from '../../../devices/spec/pci.ts';
import { blankReply, FakeFunction, fakeMachine } from './fakes.ts';

const RID = 8;
const { UNSUPPORTED_REQUEST, COMPLETER_ABORT, SUCCESS } = CPL;

function world() {
  const machine = fakeMachine();
  const fn = new FakeFunction(RID);
  machine.root.attach(fn);
  fn.configWrite(PciHeader.COMMAND, 2, PciCommand.BUS_MASTER);
  machine.unit.pages.set(0x100, 0x20);
  const { fabric } = machine.root;
  const bytes = Uint8Array.from({ length: 64 }, (_, i) => i);
  return { ...machine, fn, fabric, bytes };
}

test('an untranslated request goes where the unit says', (t) => {
  const { fabric, ram, bytes, unit } = world();
  t.is(fabric.write(RID, 5, false, AT.UNTRANSLATED, 0x100, 0x40, bytes, 8, 16), SUCCESS);
  t.deepEqual([...ram.bytes.subarray(0x20040, 0x20050)], [...bytes.subarray(8, 24)]);
  const into = new Uint8Array(20);
  t.is(fabric.read(RID, 5, false, AT.UNTRANSLATED, 0x100, 0x40, into, 2, 16), SUCCESS);
  t.deepEqual([...into], [0, 0, ...bytes.subarray(8, 24), 0, 0]);
  t.deepEqual(unit.log, ['translate 8 5 0 256 true', 'translate 8 5 0 256 false']);
});

test('what the unit refuses is refused with its status, and nothing moves', (t) => {
  const { fabric, ram, bytes, unit } = world();
  t.is(fabric.write(RID, 5, false, AT.UNTRANSLATED, 0x999, 0, bytes, 0, 16), UNSUPPORTED_REQUEST);
  unit.allowed = new Set([0x20]);
  t.is(fabric.write(RID, 5, false, AT.TRANSLATED, 0x21, 0, bytes, 0, 16), COMPLETER_ABORT);
  t.is(fabric.write(RID, 5, false, AT.TRANSLATED, 0x20, 0, bytes, 0, 16), SUCCESS);
  t.is(ram.bytes[0x21001], 0);
  t.is(ram.bytes[0x20001], 1);
});

test('only RAM answers behind the unit', (t) => {
  const { fabric, bytes, unit, ram } = world();
  const outside = ram.size / 4096;
  unit.pages.set(1, outside);
  t.is(fabric.write(RID, 5, false, AT.UNTRANSLATED, 1, 0, bytes, 0, 4), UNSUPPORTED_REQUEST);
  t.is(fabric.read(RID, 5, false, AT.TRANSLATED, outside, 0, bytes, 0, 4), UNSUPPORTED_REQUEST);
  t.is(fabric.read(RID, 5, false, AT.TRANSLATED, 0x20, 4000, bytes, 0, 97), UNSUPPORTED_REQUEST);
});

test('copy checks both sides, moves like memmove, and moves nothing on a refusal', (t) => {
  const { fabric, ram, unit, bytes } = world();
  ram.write(0x20000, bytes);
  t.is(fabric.copy(RID, 0x20, 0, 0x21, 100, 64), SUCCESS);
  t.deepEqual([...ram.bytes.subarray(0x21064, 0x210a4)], [...bytes]);
  t.is(fabric.copy(RID, 0x20, 0, 0x20, 8, 56), SUCCESS);
  t.deepEqual([...ram.bytes.subarray(0x20008, 0x20040)], [...bytes.subarray(0, 56)]);
  unit.allowed = new Set([0x20]);
  t.is(fabric.copy(RID, 0x20, 0, 0x22, 0, 64), COMPLETER_ABORT);
  t.is(fabric.copy(RID, 0x22, 0, 0x20, 0, 64), COMPLETER_ABORT);
  t.is(ram.bytes[0x22001], 0);
  t.is(fabric.copy(RID, 0x20, 0, ram.size / 4096, 0, 64), COMPLETER_ABORT);
  unit.allowed = undefined;
  t.is(fabric.copy(RID, 0x20, 0, ram.size / 4096, 0, 64), UNSUPPORTED_REQUEST);
});

test('a translation request brings the answer of the unit', (t) => {
  const { fabric, unit } = world();
  const reply = blankReply();
  unit.result.shift = 21;
  fabric.translate(RID, 5, true, 0x100, true, reply);
  t.like(reply, { status: SUCCESS, pfn: 0x20, shift: 21, read: true, write: true });
  t.is(unit.log.at(-1), 'translate 8 5 1 256 false');
  fabric.translate(RID, 5, true, 0x100, false, reply);
  t.is(unit.log.at(-1), 'translate 8 5 1 256 true');
  fabric.translate(RID, 5, true, 0x777, false, reply);
  t.like(reply, { status: UNSUPPORTED_REQUEST, pfn: 0, read: false, write: false });
});

test('without bus mastering, memory requests and interrupts are refused; messages pass', (t) => {
  const { fabric, fn, bytes, unit, interrupts, clock } = world();
  fn.configWrite(PciHeader.COMMAND, 2, 0);
  let interrupted = 0;
  const line = interrupts.allocate('dev', () => interrupted++);
  const reply = blankReply();
  fabric.translate(RID, 5, false, 0x100, false, reply);
  t.is(reply.status, UNSUPPORTED_REQUEST);
  t.is(fabric.read(RID, 5, false, AT.UNTRANSLATED, 0x100, 0, bytes, 0, 4), UNSUPPORTED_REQUEST);
  t.is(fabric.write(RID, 5, false, AT.TRANSLATED, 0x20, 0, bytes, 0, 4), UNSUPPORTED_REQUEST);
  t.is(fabric.copy(RID, 0x20, 0, 0x21, 0, 4), UNSUPPORTED_REQUEST);
  fabric.msi(RID, line.address, line.data);
  t.deepEqual(unit.log, []);
  fabric.pageRequest(RID, 5, false, 0x100, true, true, true, 1);
  fabric.invalidateComplete(RID, 3);
  t.deepEqual(unit.log, ['pageRequest 8 5 256', 'invalidateComplete 8 3']);
  clock.run();
  t.is(interrupted, 0);
});

test('an interrupt message passes the unit first', (t) => {
  const { fabric, unit, interrupts, clock } = world();
  let interrupted = 0;
  const line = interrupts.allocate('dev', () => interrupted++);
  unit.interruptsPass = false;
  fabric.msi(RID, line.address, line.data);
  clock.run();
  t.is(interrupted, 0);
  unit.interruptsPass = true;
  fabric.msi(RID, line.address, line.data);
  clock.run();
  t.is(interrupted, 1);
});

test('a DWORD write without PASID into the window is an interrupt; with PASID it is not', (t) => {
  const { fabric, interrupts, clock, unit } = world();
  let interrupted = 0;
  const line = interrupts.allocate('dev', () => interrupted++);
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, line.data, true);
  const page = 0xfee00;
  t.is(fabric.write(RID, NO_PASID, false, AT.UNTRANSLATED, page, 0, data, 0, 4), SUCCESS);
  t.is(
    fabric.write(RID, NO_PASID, false, AT.UNTRANSLATED, page, 0, data, 0, 2),
    UNSUPPORTED_REQUEST,
  );
  clock.run();
  t.is(interrupted, 1);
  t.deepEqual(unit.log, []);
  t.is(fabric.write(RID, 5, false, AT.UNTRANSLATED, page, 0, data, 0, 4), UNSUPPORTED_REQUEST);
  t.is(unit.log.length, 1);
  clock.run();
  t.is(interrupted, 1);
});

test('a requester id that is not there may do nothing', (t) => {
  const { fabric, bytes } = world();
  t.is(fabric.read(0x99, 5, false, AT.TRANSLATED, 0x20, 0, bytes, 0, 4), UNSUPPORTED_REQUEST);
});
