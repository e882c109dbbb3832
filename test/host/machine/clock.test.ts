import test from 'ava';
import fc from 'fast-check';
import { VirtualClock } from '../../../host/machine/clock.ts';

test('calls go by time, and first in first out at equal times', (t) => {
  const clock = new VirtualClock();
  const seen: string[] = [];
  clock.after(20, () => seen.push(`c@${clock.now}`));
  clock.after(10, () => {
    seen.push(`a@${clock.now}`);
    clock.after(10, () => seen.push(`d@${clock.now}`));
    clock.after(0, () => seen.push(`b@${clock.now}`));
  });
  clock.after(10, () => seen.push(`a2@${clock.now}`));
  clock.run();
  t.deepEqual(seen, ['a@10', 'a2@10', 'b@10', 'c@20', 'd@20']);
  t.is(clock.now, 20);
});

test('the order is that of a stable sort by time, whatever the mixture', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 300 }), (delays) => {
      const clock = new VirtualClock();
      const seen: { at: number; id: number }[] = [];
      delays.forEach((ns, id) => clock.after(ns, () => seen.push({ at: clock.now, id })));
      clock.run();
      const wanted = delays
        .map((at, id) => ({ at, id }))
        .sort((a, b) => a.at - b.at || a.id - b.id);
      return JSON.stringify(seen) === JSON.stringify(wanted);
    }),
  );
  t.pass();
});

test('nested scheduling keeps time monotonic and loses no call', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 9 })), {
        maxLength: 200,
      }),
      (pairs) => {
        const clock = new VirtualClock();
        let calls = 0;
        let last = 0;
        const note = (): void => {
          if (clock.now < last) throw new Error('time went back');
          last = clock.now;
          calls++;
        };
        for (const [first, second] of pairs) {
          clock.after(first, () => {
            note();
            clock.after(second, note);
          });
        }
        clock.run();
        return calls === 2 * pairs.length;
      },
    ),
  );
  t.pass();
});

test('a call is never made before `after` has returned', (t) => {
  const clock = new VirtualClock();
  let called = false;
  clock.after(0, () => {
    called = true;
  });
  t.false(called);
  t.true(clock.step());
  t.true(called);
  t.false(clock.step());
});

test('a cancelled call is not made, and time does not pass for it', (t) => {
  const clock = new VirtualClock();
  let calls = 0;
  const far = clock.timer(1000, () => calls++);
  const now = clock.timer(0, () => calls++);
  clock.after(5, () => calls++);
  far.cancel();
  now.cancel();
  clock.run();
  t.is(calls, 1);
  t.is(clock.now, 5);
});

test('run stops when its condition holds, and can go on', (t) => {
  const clock = new VirtualClock();
  let calls = 0;
  for (let i = 1; i <= 5; i++) clock.after(i, () => calls++);
  clock.run(() => calls === 2);
  t.is(clock.now, 2);
  clock.run();
  t.is(calls, 5);
});

test('the cause is captured with the call and put back after it', (t) => {
  const clock = new VirtualClock();
  const { trace } = clock;
  const seen: number[] = [];
  trace.cause = 7;
  clock.after(1, () => {
    seen.push(trace.cause);
    trace.cause = 99;
    clock.after(1, () => seen.push(trace.cause));
  });
  trace.cause = 3;
  clock.after(0, () => seen.push(trace.cause));
  clock.run();
  t.deepEqual(seen, [3, 7, 99]);
  t.is(trace.cause, 3);
});

test('an error in a call escapes from run, and the clock still works', (t) => {
  const clock = new VirtualClock();
  clock.trace.cause = 5;
  clock.after(1, () => {
    clock.trace.cause = 6;
    throw new Error('broken');
  });
  let later = false;
  clock.after(2, () => {
    later = true;
  });
  t.throws(() => clock.run(), { message: 'broken' });
  t.is(clock.trace.cause, 5);
  clock.run();
  t.true(later);
});

test('a delay must be an integer that is not negative', (t) => {
  const clock = new VirtualClock();
  for (const ns of [-1, 0.5, NaN, Infinity]) {
    t.throws(() => clock.after(ns, () => undefined), { instanceOf: RangeError });
  }
});

test('many immediate calls in a row keep their order', (t) => {
  const clock = new VirtualClock();
  const seen: number[] = [];
  for (let i = 0; i < 5000; i++) {
    clock.after(0, () => {
      seen.push(i);
      if (i < 100) clock.after(0, () => seen.push(10_000 + i));
    });
  }
  clock.run();
  t.deepEqual(seen, [
    ...Array.from({ length: 5000 }, (_, i) => i),
    ...Array.from({ length: 100 }, (_, i) => 10_000 + i),
  ]);
});

test('time is skipped only where nothing happens', (t) => {
  const clock = new VirtualClock();
  clock.after(100, () => undefined);
  t.true(clock.skip(99));
  t.is(clock.now, 99);
  t.false(clock.skip(1));
  t.is(clock.now, 99);
  t.true(clock.skip(0));
  t.false(clock.skip(-1));
  t.false(clock.skip(0.5));
  clock.run();
  t.is(clock.now, 100);
  t.true(clock.skip(1000));
  clock.after(0, () => undefined);
  t.false(clock.skip(0));
});
