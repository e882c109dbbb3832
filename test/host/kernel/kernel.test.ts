import test from 'ava';
import { parseDmar } from '../../../devices/spec/dmar.ts';
import { Acpi } from '../../../host/kernel/acpi.ts';
import { Errno } from '../../../host/kernel/errno.ts';
import { errnoName } from '../../../host/uapi/errno.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { fakeKernel, runProcess } from './support.ts';

test('an Errno has its code, its number and its reason', (t) => {
  const error = new Errno('EBUSY', 'PASID 7 is attached');
  t.is(error.code, 'EBUSY');
  t.is(errnoName(-error.number), 'EBUSY');
  t.is(error.reason, 'PASID 7 is attached');
  t.is(error.message, 'EBUSY: PASID 7 is attached');
});

test("the firmware's tables are found through the root pointer", (t) => {
  const { kernel, root } = fakeKernel();
  t.is(parseDmar(kernel.acpi.table('DMAR')!).drhds.length, 1);
  t.is(kernel.acpi.table('SSDT'), null);
  t.throws(() => new Acpi(root, 0x1000), { instanceOf: RangeError });
});

test('leftovers add up the counters, pins and descriptors, and are told to the trace', (t) => {
  const { kernel, trace } = fakeKernel();
  kernel.addLeftover('objects', () => 2);
  kernel.addLeftover('objects', () => 3);
  kernel.addLeftover('pasidEntries', () => 1);
  const pfn = kernel.pages.alloc();
  kernel.pages.pin(pfn);
  const records: EventRecord[] = [];
  trace.listen((record) => records.push(record));
  const wanted = { objects: 5, pins: 1, pasidEntries: 1, fds: 0 };
  t.deepEqual(kernel.reportLeftovers(), wanted);
  t.is(records[0]!.def.name, 'host:leftovers');
  t.deepEqual(records[0]!.values, wanted);
});

test('descriptors of all processes count until they are closed', (t) => {
  const { kernel } = fakeKernel();
  let seen = 0;
  runProcess(kernel, function* (p) {
    yield* p.eventfd(0, 0);
    yield* p.eventfd(0, 0);
    seen = kernel.leftovers().fds;
  });
  t.is(seen, 2);
  t.is(kernel.leftovers().fds, 0);
});

test('a device path is given once', (t) => {
  const { kernel } = fakeKernel();
  kernel.registerDevice('/dev/a', () => ({ name: 'a' }));
  t.throws(() => kernel.registerDevice('/dev/a', () => ({ name: 'b' })));
  t.deepEqual(kernel.devicePaths(), ['/dev/a']);
});

test('what a device says at open is what open says', (t) => {
  const { kernel } = fakeKernel();
  kernel.registerDevice('/dev/busy', () => {
    throw new Errno('EBUSY', 'taken');
  });
  const { thread } = runProcess(kernel, (p) => p.open('/dev/busy', 0));
  t.is(errnoName(thread.result!), 'EBUSY');
});

test('options have defaults', (t) => {
  t.is(fakeKernel().kernel.options.replace, 'hitless');
});
