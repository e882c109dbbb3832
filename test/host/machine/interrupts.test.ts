import test from 'ava';
import { decodeMsi } from '../../../devices/spec/msi.ts';
import { VirtualClock } from '../../../host/machine/clock.ts';
import { InterruptController } from '../../../host/machine/interrupts.ts';
import type { EventRecord } from '../../../trace/event.ts';

function world() {
  const clock = new VirtualClock();
  return { clock, controller: new InterruptController(clock, clock.trace) };
}

test('a message calls its handler after a while, once each', (t) => {
  const { clock, controller } = world();
  const calls: string[] = [];
  const a = controller.allocate('a', () => calls.push(`a@${clock.now}`));
  const b = controller.allocate('b', () => calls.push('b'));
  t.is(a.vector, 0x20);
  t.is(a.address, 0xfee0_0000);
  t.is(a.data, 0x20);
  t.is(b.data, 0x21);
  controller.deliver(a.address, a.data);
  controller.deliver(a.address, a.data);
  t.deepEqual(calls, []);
  clock.run();
  t.deepEqual(calls, ['a@500', 'a@500']);
});

test('the handler runs in a span that descends from the sender', (t) => {
  const { clock, controller } = world();
  const records: EventRecord[] = [];
  clock.trace.listen((record) => records.push(record));
  let cause = 0;
  const line = controller.allocate('dev', () => {
    cause = clock.trace.cause;
  });
  clock.trace.cause = 77;
  controller.deliver(line.address, line.data);
  clock.trace.cause = 0;
  clock.run();
  t.is(records[0]!.def.name, 'irq:irq_handler_entry');
  t.deepEqual(records[0]!.values, { vector: 0x20, handler: 'dev' });
  t.is(records[0]!.cause, 77);
  t.is(cause, records[0]!.seq);
});

test('what names no handler is dropped: free vectors, other modes, other addresses', (t) => {
  const { clock, controller } = world();
  let calls = 0;
  const line = controller.allocate('x', () => calls++);
  controller.deliver(line.address, 0x55);
  controller.deliver(line.address, line.data | (4 << 8));
  controller.deliver(line.address | 0x10, line.data);
  controller.deliver(0x1000, line.data);
  t.false(clock.step());
  controller.deliver(line.address, line.data);
  controller.free(line.vector);
  clock.run();
  t.is(calls, 0);
  t.is(controller.allocated, 0);
});

test('a freed vector is used again, and a late message does not reach its new owner', (t) => {
  const { clock, controller } = world();
  const calls: string[] = [];
  const old = controller.allocate('old', () => calls.push('old'));
  controller.deliver(old.address, old.data);
  controller.free(old.vector);
  const next = controller.allocate('next', () => calls.push('next'));
  t.is(next.vector, old.vector);
  clock.run();
  t.deepEqual(calls, []);
});

test('when a processor has no vector left the next one gives its own', (t) => {
  const { clock, controller } = world();
  const ids = new Set<number>();
  let hit = -1;
  const lines = Array.from({ length: 300 }, (_, i) =>
    controller.allocate(`l${i}`, () => {
      hit = i;
    }),
  );
  for (const line of lines) ids.add(line.vector);
  t.is(ids.size, 300);
  const last = lines[299]!;
  t.is(decodeMsi(last.address, last.data)!.destination, 1);
  controller.deliver(last.address, last.data);
  clock.run();
  t.is(hit, 299);
});
