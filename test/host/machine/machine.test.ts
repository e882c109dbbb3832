import test from 'ava';
import { AT, CPL, NO_PASID } from '../../../devices/pci/fabric.ts';
import { PciCommand, PciHeader } from '../../../devices/spec/pci.ts';
import { HOST_CAP, HOST_ECAP } from '../../../devices/spec/vtd/capabilities.ts';
import { Machine, type MachineOptions } from '../../../host/machine/machine.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { FakeFunction } from './fakes.ts';

const UNIT = 0xfed9_0000;

function make(options: Partial<MachineOptions> = {}) {
  const functions = [
    (rid: number) => new FakeFunction(rid),
    (rid: number) => new FakeFunction(rid),
  ];
  return new Machine({ ramBytes: 64 << 20, seed: 1, functions, ...options });
}

test('a machine has its functions on bus 0, BARs assigned, tables in place', (t) => {
  const machine = make();
  t.deepEqual(
    machine.root.functions().map(({ rid }) => rid),
    [0x08, 0x10],
  );
  t.is(machine.root.read(0xb000_8000, 2), 0x8086n);
  t.is(machine.root.read(0xb000_8000 + PciHeader.BAR1, 4), 0x3800n);
  const signature = machine.ram.bytes.subarray(machine.rsdp, machine.rsdp + 8);
  t.is(String.fromCharCode(...signature), 'RSD PTR ');
  t.deepEqual(machine.usable, [{ start: 1 << 20, end: 64 << 20 }]);
});

test('the unit is reached through its registers, and reports what was asked for', (t) => {
  const { root } = make();
  t.is(root.read(UNIT + 0x08, 8), HOST_CAP);
  t.is(root.read(UNIT + 0x10, 8), HOST_ECAP);
  const other = make({ ecap: HOST_ECAP & ~1n });
  t.is(other.root.read(UNIT + 0x10, 8), HOST_ECAP & ~1n);
});

test('before translation is switched on, requests go through as they are', (t) => {
  const machine = make();
  const [fn] = machine.root.functions();
  fn!.configWrite(PciHeader.COMMAND, 2, PciCommand.BUS_MASTER);
  const { fabric } = machine.root;
  const bytes = Uint8Array.of(1, 2, 3, 4);
  t.is(fabric.write(8, NO_PASID, false, AT.UNTRANSLATED, 0x300, 4, bytes, 0, 4), CPL.SUCCESS);
  t.is(machine.ram.read32(0x30_0004), 0x0403_0201);
});

test('clock, scheduler and trace belong together, also with a trace from outside', (t) => {
  const world: { machine?: Machine } = {};
  const trace = new Tracer(() => world.machine?.clock.now ?? 0);
  const machine = make({ trace });
  world.machine = machine;
  t.is(machine.trace, trace);
  t.is(machine.clock.trace, trace);
  t.is(machine.scheduler.trace, trace);
  trace.cause = 5;
  let cause = 0;
  machine.clock.after(3, () => {
    cause = trace.cause;
  });
  trace.cause = 0;
  machine.clock.run();
  t.is(cause, 5);
  t.is(make().trace.cause, 0);
});

test('the seed decides what chance decides', (t) => {
  const draw = (seed: number): number => make({ seed }).random.next();
  t.is(draw(1), draw(1));
  t.not(draw(1), draw(2));
});

test('machines that cannot be are refused', (t) => {
  t.throws(() => make({ haw: 38 }), { instanceOf: RangeError });
  t.throws(() => make({ haw: 53 }), { instanceOf: RangeError });
  const many = Array.from({ length: 32 }, () => (rid: number) => new FakeFunction(rid));
  t.throws(() => make({ functions: many }), { instanceOf: RangeError });
});
