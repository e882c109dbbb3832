import test from 'ava';
import { engine } from '../../../trace/catalogue/engine.ts';
import { guest } from '../../../trace/catalogue/guest.ts';
import { firstDivergence } from '../../../trace/record/diff.ts';
import { Recording } from '../../../trace/record/reader.ts';
import type { Tracer } from '../../../trace/tracer.ts';
import { framed, recorded } from '../runs.ts';

/** Where recordings of two stories part. */
function part(
  a: (trace: Tracer, time: { ns: number }) => void,
  b: (trace: Tracer, time: { ns: number }) => void,
  options = {},
) {
  const files = [a, b].map((story) => {
    const { trace, time, encoder, frames } = framed();
    story(trace, time);
    encoder.flush();
    return recorded(frames);
  });
  const [one, other] = files.map(({ path }) => Recording.open(path));
  try {
    return firstDivergence(one!, other!, options);
  } finally {
    for (const { remove } of files) remove();
  }
}

const on = (trace: Tracer, seed = 1): void => {
  trace.emit(engine.powerOn, { seed, ramBytes: 1, functions: 1 });
};
const exit = (trace: Tracer, code: number): void => {
  trace.emit(guest.exit, { vm: 'vm0', pid: 7, code });
};

test('the same story does not part', (t) => {
  const story = (trace: Tracer): void => {
    on(trace);
    exit(trace, 0);
  };
  t.is(part(story, story), undefined);
});

test('the first event that differs, with its fields and the last one alike', (t) => {
  const found = part(
    (trace) => {
      on(trace);
      exit(trace, 0);
      exit(trace, 1);
      exit(trace, 2);
    },
    (trace) => {
      on(trace);
      exit(trace, 0);
      exit(trace, -3);
      exit(trace, 9);
    },
  );
  t.is(found?.same, 2);
  t.is(found?.common?.seq, 2);
  t.is(found?.a?.seq, 3);
  t.deepEqual(found?.fields, [{ field: 'code', a: '1', b: '-3' }]);
});

test('another event, another cause, another time', (t) => {
  const other = part(
    (trace) => exit(trace, 0),
    (trace) => on(trace),
  );
  t.deepEqual(other?.fields, [
    { field: 'event', a: 'guest:sched_process_exit', b: 'engine:power_on' },
  ]);
  const cause = part(
    (trace) => {
      on(trace);
      exit(trace, 0);
    },
    (trace) => {
      on(trace);
      trace.cause = 1;
      exit(trace, 0);
    },
  );
  t.deepEqual(cause?.fields, [{ field: 'cause', a: '0', b: '1' }]);
  const late = (trace: Tracer, time: { ns: number }): void => {
    time.ns = 5;
    exit(trace, 0);
  };
  const early = (trace: Tracer): void => exit(trace, 0);
  t.deepEqual(part(early, late)?.fields, [{ field: 'ns', a: '0', b: '5' }]);
  t.is(part(early, late, { ignoreTime: true }), undefined);
});

test('one that ends before the other', (t) => {
  const found = part(
    (trace) => on(trace),
    (trace) => {
      on(trace);
      exit(trace, 4);
    },
  );
  t.is(found?.a, undefined);
  t.is(found?.b?.seq, 2);
});

test('what worlds were told differently is said, and is not where they part', (t) => {
  const same = part(
    (trace) => on(trace, 1),
    (trace) => on(trace, 2),
  );
  t.deepEqual(same?.told, [{ field: 'seed', a: '1', b: '2' }]);
  t.is(same?.a, undefined);
  const found = part(
    (trace) => {
      on(trace, 1);
      exit(trace, 0);
    },
    (trace) => {
      on(trace, 2);
      exit(trace, 1);
    },
  );
  t.is(found?.a?.seq, 2);
  t.deepEqual(found?.told, [{ field: 'seed', a: '1', b: '2' }]);
});
