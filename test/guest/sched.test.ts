import test from 'ava';

import type { Exit } from '../../guest/cpu.ts';
import { Mutex, sleep, type Task, WaitQueue, waitAtMost, waitOn } from '../../guest/task.ts';
import { event } from '../../trace/event.ts';
import { Bench } from './machine/bench.ts';

const note = event('guest', 'test:note', { text: 'text' }, 'a test event', 'test');

test('threads take turns where they wait, not where they exit', (t) => {
  const bench = new Bench();
  const order: string[] = [];
  function* worker(name: string): Task {
    for (let i = 0; i < 2; i++) {
      order.push(`${name}${i}`);
      yield { kind: 'mmio-read', address: 0xfed9_0000, size: 4 };
      order.push(`${name}${i}'`);
      yield* sleep(0);
    }
  }
  bench.core.sched.spawn('a', worker('a'));
  bench.run(worker('b'));
  t.deepEqual(order, ['a0', "a0'", 'b0', "b0'", 'a1', "a1'", 'b1', "b1'"]);
});

test('an idle CPU pauses until the next deadline, and halts when there is none', (t) => {
  const bench = new Bench();
  const { cpu } = bench.machine;
  const queue = new WaitQueue();
  const line = bench.core.interrupts.allocate('test', () => {
    queue.wake();
  });
  function* task(): Task {
    yield* sleep(500);
    yield* waitOn(queue);
  }
  const exits: Exit[] = [];
  const guest = bench.core.sched.run(bench.core.sched.spawn('t', task()));
  for (let step = guest.next(0n); step.done !== true; step = guest.next(0n)) {
    exits.push(step.value);
    if (step.value.kind === 'pause') cpu.tsc += step.value.ns;
    else bench.machine.cpu.raise(line.vector);
  }
  t.deepEqual(exits, [{ kind: 'pause', ns: 500 }, { kind: 'hlt' }]);
});

test('a timed wait ends by whichever comes first, and only once', (t) => {
  const bench = new Bench();
  const queue = new WaitQueue();
  const woken: number[] = [];
  function* waiter(): Task {
    yield* waitAtMost(queue, 1_000_000);
    woken.push(bench.core.cpu.tsc);
    yield* sleep(2_000_000);
    woken.push(bench.core.cpu.tsc);
  }
  function* waker(): Task {
    yield* sleep(1000);
    queue.wake();
  }
  bench.core.sched.spawn('waker', waker());
  bench.run(waiter());
  t.is(woken.length, 2);
  t.true(woken[0]! < 1_000_000);
  t.true(woken[1]! >= woken[0]! + 2_000_000);
  t.is(queue.waiting, 0);
});

test('a mutex serves one at a time', (t) => {
  const bench = new Bench();
  const mutex = new Mutex();
  let inside = 0;
  let most = 0;
  function* worker(): Task {
    yield* mutex.lock();
    most = Math.max(most, ++inside);
    yield* sleep(100);
    inside--;
    mutex.unlock();
  }
  const threads = [1, 2, 3].map((n) => bench.core.sched.spawn(`w${n}`, worker()));
  bench.run(worker());
  bench.run(
    (function* (): Task {
      for (const thread of threads) while (!thread.done) yield* waitOn(thread.finished);
    })(),
  );
  t.is(most, 1);
});

test('a thread keeps its own cause across waits; one without a span descends from its waker', (t) => {
  const bench = new Bench();
  const { trace } = bench.core;
  const queue = new WaitQueue();
  function* spanned(): Task {
    using _span = trace.span(note, { text: 'outer' });
    yield* waitOn(queue);
    trace.emit(note, { text: 'inner' });
  }
  function* bare(): Task {
    yield* waitOn(queue);
    trace.emit(note, { text: 'adopted' });
  }
  function* waker(): Task {
    yield* sleep(10);
    using _span = trace.span(note, { text: 'waker' });
    queue.wake();
  }
  const threads = [spanned(), bare()].map((task, i) => bench.core.sched.spawn(`t${i}`, task));
  bench.core.sched.spawn('waker', waker());
  bench.run(
    (function* (): Task {
      for (const thread of threads) while (!thread.done) yield* waitOn(thread.finished);
    })(),
  );
  const seq = (text: string): number =>
    bench.machine.events.find((e) => e.values['text'] === text)!.seq;
  const cause = (text: string): number =>
    bench.machine.events.find((e) => e.values['text'] === text)!.cause;
  t.is(cause('inner'), seq('outer'));
  t.is(cause('adopted'), seq('waker'));
});

test('an error that escapes a thread ends the run', (t) => {
  const bench = new Bench();
  function* bad(): Task {
    yield* sleep(1);
    throw new Error('boom');
  }
  t.throws(() => bench.run(bad()), { message: 'boom' });
});

test('an interrupt nobody asked for is acknowledged and ignored', (t) => {
  const bench = new Bench();
  bench.machine.cpu.raise(0x99);
  bench.run(sleep(1));
  t.deepEqual(bench.machine.cpu.pending, []);
  const [taken] = bench.machine.named('guest:irq_handler_entry');
  t.is(taken!.values['handler'], 'spurious');
});
