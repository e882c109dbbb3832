import test from 'ava';
import { encodeMsi } from '../../devices/spec/msi.ts';
import type { Syscalls, Task } from '../../host/syscall.ts';
import { Tracer } from '../../trace/tracer.ts';
import { Heap } from '../../vmm/heap.ts';
import { InterruptSink } from '../../vmm/interrupt-sink.ts';
import { PendingInterrupts } from '../../vmm/interrupts.ts';
import { Event } from '../../vmm/threads.ts';
import { bootRig } from './scenario/rig.ts';

const { address, data } = encodeMsi({ destination: 0, vector: 0x30 });

/** A vCPU that pauses for a second; an interrupt comes after `after` ns. How long it paused. */
function paused(after: number): number {
  const rig = bootRig();
  const { clock } = rig.machine;
  const process = rig.kernel.createProcess('vmm');
  let ns = -1;
  const body = function* (sys: Syscalls): Task {
    const heap = yield* Heap.map(sys, 0x1_0000);
    const kick = yield* Event.create(sys, heap);
    const trace = new Tracer(() => clock.now);
    const sink = new InterruptSink('vm0', new PendingInterrupts('vm0', trace), kick, trace);
    yield* sys.clone('device', function* device() {
      yield after;
      sink.message(() => 'test', address, data);
      yield* sink.wakeUp();
    });
    yield 10;
    const start = clock.now;
    yield* sink.pause(1_000_000_000);
    ns = clock.now - start;
  };
  process.start(() => body(process));
  rig.settle();
  return ns;
}

test('a pause ends as soon as an interrupt is pending, or when its time is over', (t) => {
  t.true(paused(50_000) < 100_000, 'it comes meanwhile');
  t.true(paused(0) < 10_000, 'it is pending already');
  t.true(paused(2_000_000_000) >= 1_000_000_000, 'it comes too late');
});
