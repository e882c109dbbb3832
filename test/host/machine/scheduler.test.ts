import test from 'ava';
import { VirtualClock } from '../../../host/machine/clock.ts';
import { Mutex, Scheduler, WaitQueue, waitAny } from '../../../host/machine/scheduler.ts';
import type { Task } from '../../../host/machine/task.ts';
import { event } from '../../../trace/event.ts';

const work = event('engine', 'test:work', { who: 'text' }, 'a test', 'test');

function world() {
  const clock = new VirtualClock();
  const scheduler = new Scheduler(clock, clock.trace);
  return { clock, scheduler, trace: clock.trace };
}

test('threads run in the order they were made, and sleep for what they yield', (t) => {
  const { clock, scheduler } = world();
  const seen: string[] = [];
  function* body(name: string, ns: number): Task {
    seen.push(`${name}@${clock.now}`);
    yield ns;
    seen.push(`${name}@${clock.now}`);
  }
  const a = scheduler.spawn('a', body('a', 30));
  const b = scheduler.spawn('b', body('b', 10));
  t.deepEqual(seen, []);
  clock.run();
  t.deepEqual(seen, ['a@0', 'b@0', 'b@10', 'a@30']);
  t.true(a.done && b.done);
});

test('wake wakes all in order of arrival, wakeOne the first', (t) => {
  const { clock, scheduler } = world();
  const queue = new WaitQueue();
  const seen: string[] = [];
  function* waiter(name: string): Task {
    yield queue;
    seen.push(name);
  }
  for (const name of ['a', 'b', 'c', 'd']) scheduler.spawn(name, waiter(name));
  clock.run();
  t.is(queue.waiting, 4);
  queue.wakeOne();
  clock.run();
  t.deepEqual(seen, ['a']);
  queue.wake();
  t.is(queue.waiting, 0);
  clock.run();
  t.deepEqual(seen, ['a', 'b', 'c', 'd']);
});

test('a thread may wait again at once: one wake-up, one look at the condition', (t) => {
  const { clock, scheduler } = world();
  const queue = new WaitQueue();
  let looks = 0;
  let open = false;
  scheduler.spawn(
    'w',
    (function* () {
      while (!open) {
        looks++;
        yield queue;
      }
    })(),
  );
  clock.run();
  queue.wake();
  clock.run();
  t.is(looks, 2);
  open = true;
  queue.wake();
  queue.wake();
  clock.run();
  t.is(looks, 2);
});

test('waitAny ends by a queue or by its timeout, and leaves nothing behind', (t) => {
  const { clock, scheduler } = world();
  const [a, b] = [new WaitQueue(), new WaitQueue()];
  const ends: number[] = [];
  function* body(): Task {
    yield waitAny([a, b], 100);
    ends.push(clock.now);
    yield waitAny([a, b], 100);
    ends.push(clock.now);
    yield waitAny([a, b]);
    ends.push(clock.now);
  }
  scheduler.spawn('w', body());
  clock.after(10, () => b.wake());
  clock.run();
  t.deepEqual(ends, [10, 110]);
  t.is(a.waiting + b.waiting, 2);
  a.wake();
  t.is(a.waiting + b.waiting, 0);
  clock.run();
  t.deepEqual(ends, [10, 110, 110]);
});

test('a thread that adopted a cause and has no span open has that of who wakes it next', (t) => {
  const { clock, scheduler, trace } = world();
  trace.listen(() => undefined);
  const queue = new WaitQueue();
  const causes: number[] = [];
  function* worker(): Task {
    for (;;) {
      yield queue;
      causes.push(trace.cause);
      trace.adopt('slots', 7);
      causes.push(trace.cause);
    }
  }
  scheduler.spawn('worker', worker());
  clock.run();
  trace.cause = 40;
  trace.mark('slots', 7);
  for (const waker of [10, 20, 30]) {
    trace.cause = waker;
    queue.wake();
    clock.run();
  }
  t.deepEqual(causes, [10, 40, 20, 20, 30, 30]);
  t.is(trace.depth, 0);
});

test('open spans are counted for each thread by itself, also where one fails', (t) => {
  const { clock, scheduler, trace } = world();
  trace.listen(() => undefined);
  const depths: number[] = [];
  function* deep(): Task {
    using _outer = trace.span(work, { who: 'outer' });
    using _inner = trace.span(work, { who: 'inner' });
    yield 10;
    depths.push(trace.depth);
    throw new Error('out');
  }
  function* flat(): Task {
    yield 5;
    depths.push(trace.depth);
    yield 10;
    depths.push(trace.depth);
  }
  scheduler.spawn('deep', deep());
  scheduler.spawn('flat', flat());
  clock.run();
  t.deepEqual(depths, [0, 2, 0]);
  t.is(trace.depth, 0);
  t.throws(() => scheduler.rethrow(), { message: 'out' });
});

test('a thread without a span has the cause of who woke it; one with a span keeps its own', (t) => {
  const { clock, scheduler, trace } = world();
  trace.listen(() => undefined);
  const queue = new WaitQueue();
  const seen: [string, number][] = [];
  const note = (what: string): void => void seen.push([what, trace.cause]);
  trace.cause = 1000;
  scheduler.spawn(
    'w',
    (function* () {
      note('creator');
      yield queue;
      note('woken');
      yield 5;
      note('slept');
      yield queue;
      note('woken again');
      {
        using _span = trace.span(work, { who: 'w' });
        yield queue;
        note('in span');
      }
      note('after span');
      yield queue;
      note('woken last');
    })(),
  );
  trace.cause = 0;
  clock.run();
  const wakeFrom = (cause: number): void => {
    trace.cause = cause;
    queue.wake();
    trace.cause = 0;
    clock.run();
  };
  for (const cause of [2000, 3000, 4000, 5000]) wakeFrom(cause);
  t.deepEqual(seen, [
    ['creator', 1000],
    ['woken', 2000],
    ['slept', 2000],
    ['woken again', 3000],
    ['in span', 1],
    ['after span', 3000],
    ['woken last', 5000],
  ]);
});

test('threads do not leak their cause into each other', (t) => {
  const { clock, scheduler, trace } = world();
  trace.listen(() => undefined);
  const causes: number[] = [];
  function* body(): Task {
    using _span = trace.span(work, { who: 'x' });
    const mine = trace.cause;
    for (let i = 0; i < 3; i++) {
      yield 1;
      causes.push(trace.cause - mine);
    }
  }
  scheduler.spawn('a', body());
  scheduler.spawn('b', body());
  clock.run();
  t.deepEqual(causes, [0, 0, 0, 0, 0, 0]);
  t.is(trace.cause, 0);
});

test('an error ends the thread, is kept, and is a failure until somebody joins', (t) => {
  const { clock, scheduler } = world();
  const thread = scheduler.spawn(
    'bad',
    (function* (): Task {
      yield 1;
      throw new Error('oh');
    })(),
  );
  clock.run();
  t.true(thread.done && thread.failed);
  t.is((thread.error as Error).message, 'oh');
  t.is(scheduler.failures.length, 1);
  let caught: unknown;
  scheduler.spawn(
    'parent',
    (function* (): Task {
      try {
        yield* thread.join();
      } catch (error) {
        caught = error;
      }
    })(),
  );
  clock.run();
  t.is(caught, thread.error);
  t.is(scheduler.failures.length, 0);
  t.notThrows(() => scheduler.rethrow());
});

test('rethrow throws what nobody observed', (t) => {
  const { clock, scheduler } = world();
  scheduler.spawn(
    'bad',
    (function* (): Task {
      throw new Error('unseen');
    })(),
  );
  clock.run();
  t.throws(() => scheduler.rethrow(), { message: 'unseen' });
  t.notThrows(() => scheduler.rethrow());
});

test('join gives the result, also of a thread that has ended', (t) => {
  const { clock, scheduler } = world();
  const child = scheduler.spawn(
    'child',
    (function* (): Task<number> {
      yield 3;
      return 42;
    })(),
  );
  const parent = scheduler.spawn('parent', child.join());
  clock.run();
  t.is(parent.result, 42);
  const late = scheduler.spawn('late', child.join());
  clock.run();
  t.is(late.result, 42);
});

test('a kill unwinds a waiting thread through its finally blocks, which may block', (t) => {
  const { clock, scheduler } = world();
  const queue = new WaitQueue();
  const seen: string[] = [];
  const thread = scheduler.spawn(
    'v',
    (function* () {
      try {
        yield queue;
        seen.push('not reached');
      } finally {
        seen.push('unwinding');
        yield 10;
        seen.push(`unwound@${clock.now}`);
      }
    })(),
  );
  clock.run();
  thread.kill();
  thread.kill();
  clock.run();
  t.deepEqual(seen, ['unwinding', 'unwound@10']);
  t.true(thread.done);
  t.false(thread.failed);
  t.is(queue.waiting, 0);
});

test('a thread that never ran ends without running; a done one ignores the kill', (t) => {
  const { clock, scheduler } = world();
  let ran = false;
  const thread = scheduler.spawn(
    'v',
    (function* () {
      ran = true;
    })(),
  );
  thread.kill();
  clock.run();
  t.true(thread.done);
  t.false(ran);
  thread.kill();
  t.false(clock.step());
});

test('a shielded thread ends a plain wait before the kill takes it, but not a killable one', (t) => {
  const { clock, scheduler } = world();
  const queue = new WaitQueue();
  const seen: string[] = [];
  function* body(): Task {
    const self = scheduler.current!;
    self.shield++;
    try {
      yield queue;
      seen.push('plain wait over');
      yield 5;
      seen.push('sleep over');
      yield queue.killable;
      seen.push('not reached');
    } finally {
      self.shield--;
    }
  }
  const thread = scheduler.spawn('v', body());
  clock.run();
  thread.kill();
  clock.run();
  t.is(queue.waiting, 1);
  queue.wake();
  clock.run();
  t.deepEqual(seen, ['plain wait over', 'sleep over']);
  t.true(thread.done);
  t.is(thread.shield, 0);
});

test('a mutex is handed on in order of arrival', (t) => {
  const { clock, scheduler } = world();
  const mutex = new Mutex();
  const seen: string[] = [];
  function* body(name: string): Task {
    yield* mutex.lock();
    try {
      seen.push(`${name}+`);
      yield 10;
      seen.push(`${name}-`);
    } finally {
      mutex.unlock();
    }
  }
  for (const name of ['a', 'b', 'c']) scheduler.spawn(name, body(name));
  clock.run();
  t.deepEqual(seen, ['a+', 'a-', 'b+', 'b-', 'c+', 'c-']);
  t.false(mutex.locked);
  t.throws(() => mutex.unlock());
});

test('a killed waiter neither keeps nor loses the mutex', (t) => {
  const { clock, scheduler } = world();
  const mutex = new Mutex();
  const seen: string[] = [];
  function* body(name: string, ns: number): Task {
    yield* mutex.lock();
    try {
      seen.push(name);
      yield ns;
    } finally {
      mutex.unlock();
    }
  }
  scheduler.spawn('a', body('a', 10));
  const waiting = scheduler.spawn('b', body('b', 10));
  const granted = scheduler.spawn('c', body('c', 10));
  scheduler.spawn('d', body('d', 10));
  clock.after(5, () => waiting.kill());
  // At 10 the lock goes to c, which is killed before it runs.
  clock.after(10, () => granted.kill());
  clock.run();
  t.deepEqual(seen, ['a', 'd']);
  t.false(mutex.locked);
});

test('something the scheduler does not know fails the thread that waits for it', (t) => {
  const { clock, scheduler } = world();
  const thread = scheduler.spawn(
    'bad',
    (function* (): Task {
      yield { waitable: true };
    })(),
  );
  clock.run();
  t.true(thread.failed);
});

test('a driven thread runs at once, through pauses in which nothing else happens', (t) => {
  const { clock, scheduler } = world();
  const seen: string[] = [];
  function* body(): Task<string> {
    yield 10;
    seen.push(`driven@${clock.now}`);
    yield 50;
    seen.push(`driven@${clock.now}`);
    return 'result';
  }
  const alone = scheduler.drive('alone', body());
  t.true(alone.done);
  t.is(alone.result, 'result');
  t.deepEqual(seen, ['driven@10', 'driven@60']);

  seen.length = 0;
  clock.after(30, () => seen.push(`other@${clock.now}`));
  const beside = scheduler.drive('beside', body());
  t.false(beside.done);
  t.deepEqual(seen, ['driven@70']);
  clock.run();
  t.deepEqual(seen, ['driven@70', 'other@90', 'driven@120']);
  t.true(beside.done);
});

test('a driven thread that waits, fails or never ends its pauses comes back to its caller', (t) => {
  const { clock, scheduler, trace } = world();
  const queue = new WaitQueue();
  const waiting = scheduler.drive(
    'waiting',
    (function* (): Task {
      yield queue;
    })(),
  );
  t.false(waiting.done);
  queue.wake();
  clock.run();
  t.true(waiting.done);

  const failing = scheduler.drive(
    'failing',
    // biome-ignore lint/correctness/useYield: it fails before it would
    (function* (): Task {
      throw new Error('defect');
    })(),
  );
  t.true(failing.failed);
  t.throws(() => scheduler.rethrow(), { message: 'defect' });

  const endless = scheduler.drive(
    'endless',
    (function* (): Task {
      for (;;) yield 1;
    })(),
  );
  t.false(endless.done);
  t.is(trace.cause, 0);
  endless.kill();
  clock.run();
  t.true(endless.done);
});
