import test from 'ava';
import { type EventRecord, event } from '../../trace/event.ts';
import { Tracer } from '../../trace/tracer.ts';

const thing = event('engine', 'test:thing', { n: 'int' }, 'a thing', 'this test');

/** A tracer with a hand-set time, and everything it told. */
function listened() {
  const time = { ns: 0 };
  const trace = new Tracer(() => time.ns);
  const records: EventRecord[] = [];
  trace.listen((record) => records.push(record));
  const causes = (): number[] => records.map(({ cause }) => cause);
  return { trace, records, causes, time };
}

test('without a listener it is off and silent: no event, no cause, no mark', (t) => {
  const trace = new Tracer(() => {
    throw new Error('the time was asked for');
  });
  t.false(trace.on);
  t.is(trace.emit(thing, { n: 1 }), 0);
  {
    using _span = trace.span(thing, { n: 2 });
    t.is(trace.cause, 0);
    trace.cause = 7;
    trace.mark('host', 0x1000);
  }
  t.is(trace.cause, 7, 'an idle span restores nothing');
  trace.cause = 0;
  trace.adopt('host', 0x1000);
  t.is(trace.cause, 0);
});

test('marks left while nobody listened are not adopted later', (t) => {
  const trace = new Tracer(() => 0);
  trace.cause = 5;
  trace.mark('host', 1);
  trace.cause = 0;
  trace.listen(() => undefined);
  trace.adopt('host', 1);
  t.is(trace.cause, 0);
});

test('events are numbered from 1 and carry time, definition and values', (t) => {
  const { trace, records, time } = listened();
  t.true(trace.on);
  t.is(trace.emit(thing, { n: 10 }), 1);
  time.ns = 250;
  t.is(trace.emit(thing, { n: 11 }), 2);
  t.deepEqual(records, [
    { seq: 1, ns: 0, cause: 0, def: thing, values: { n: 10 } },
    { seq: 2, ns: 250, cause: 0, def: thing, values: { n: 11 } },
  ]);
});

test('every listener hears every event, in the order in which they came', (t) => {
  const { trace } = listened();
  const heard: string[] = [];
  trace.listen(({ seq }) => heard.push(`a${seq}`));
  trace.listen(({ seq }) => heard.push(`b${seq}`));
  trace.emit(thing, { n: 0 });
  trace.emit(thing, { n: 0 });
  t.deepEqual(heard, ['a1', 'b1', 'a2', 'b2']);
});

test('spans nest: what happens inside descends from the innermost', (t) => {
  const { trace, causes } = listened();
  {
    using _outer = trace.span(thing, { n: 1 });
    trace.emit(thing, { n: 2 });
    {
      using _inner = trace.span(thing, { n: 3 });
      trace.emit(thing, { n: 4 });
    }
    trace.emit(thing, { n: 5 });
  }
  trace.emit(thing, { n: 6 });
  t.deepEqual(causes(), [0, 1, 1, 3, 1, 0]);
});

test('a span ends when its block is left by an exception', (t) => {
  const { trace } = listened();
  trace.cause = 9;
  t.throws(() => {
    using _span = trace.span(thing, { n: 1 });
    t.is(trace.cause, 1);
    throw new Error('out');
  });
  t.is(trace.cause, 9);
});

test('a span is told to sinks with its end, once; spans that are open are counted', (t) => {
  const time = { ns: 3 };
  const trace = new Tracer(() => time.ns);
  const told: unknown[] = [];
  const sink = {
    event: ({ seq, span }: EventRecord) => told.push([seq, span]),
    end: (begin: number, ns: number, seq: number) => told.push({ begin, ns, seq }),
  };
  trace.attach(sink);
  t.true(trace.on);
  t.false(trace.hot);
  const outer = trace.span(thing, { n: 1 });
  const inner = trace.span(thing, { n: 2 });
  t.is(trace.depth, 2);
  trace.emit(thing, { n: 3 });
  time.ns = 9;
  inner[Symbol.dispose]();
  inner[Symbol.dispose]();
  t.is(trace.depth, 1);
  outer[Symbol.dispose]();
  t.is(trace.depth, 0);
  t.deepEqual(told, [
    [1, true],
    [2, true],
    [3, undefined],
    { begin: 2, ns: 9, seq: 3 },
    { begin: 1, ns: 9, seq: 3 },
  ]);
  t.is(trace.seq, 3);
  trace.detach(sink);
  trace.detach(sink);
  t.false(trace.on);
});

test('a span lasts across the yields of its generator', (t) => {
  const { trace, causes } = listened();
  function* thread() {
    using _span = trace.span(thing, { n: 1 });
    yield;
    trace.emit(thing, { n: 2 });
  }
  const running = thread();
  running.next();
  // The scheduler keeps a thread's cause while others run.
  const kept = trace.cause;
  trace.cause = 0;
  trace.emit(thing, { n: 3 });
  trace.cause = kept;
  running.next();
  t.deepEqual(causes(), [0, 0, 1]);
  t.is(trace.cause, 0);
});

test('a mark carries the cause to whoever takes the work from that place, once', (t) => {
  const { trace } = listened();
  trace.cause = 3;
  trace.mark('host', 0x2000);
  trace.cause = 4;
  trace.adopt('host', 0x2000);
  t.is(trace.cause, 3);
  trace.cause = 5;
  trace.adopt('host', 0x2000);
  t.is(trace.cause, 5, 'the mark is gone');
});

test('marks of different spaces and addresses are different; the latest at a place counts', (t) => {
  const { trace } = listened();
  const adopted = (space: string, address: number): number => {
    trace.cause = 99;
    trace.adopt(space, address);
    return trace.cause;
  };
  for (const [cause, space, address] of [
    [1, 'host', 0],
    [2, 'vm0', 0],
    [3, 'vm0', 16],
    [4, 'vm0', 0],
  ] as const) {
    trace.cause = cause;
    trace.mark(space, address);
  }
  t.is(adopted('host', 16), 99);
  t.is(adopted('vm1', 0), 99);
  t.is(adopted('vm0', 16), 3);
  t.is(adopted('vm0', 0), 4);
  t.is(adopted('host', 0), 1);
});

test('marks are bounded: the oldest go first, and marking anew makes young', (t) => {
  const { trace } = listened();
  const limit = 1 << 16;
  trace.cause = 1;
  trace.mark('host', 0);
  trace.mark('host', 1);
  for (let i = 2; i < limit; i++) trace.mark('host', i);
  trace.cause = 2;
  trace.mark('host', 0);
  for (let i = limit; i < 2 * limit; i++) trace.mark('host', i);
  const adopts = (address: number): boolean => {
    trace.cause = 0;
    trace.adopt('host', address);
    return trace.cause !== 0;
  };
  t.false(adopts(1), 'the oldest made room');
  t.true(adopts(0), 'marked anew, so no longer the oldest');
  t.false(adopts(2));
  t.true(adopts(limit));
  t.true(adopts(2 * limit - 1));
});
