import test from 'ava';
import fc from 'fast-check';
import { guest } from '../../../trace/catalogue/guest.ts';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import { event, type FieldKind, KINDS } from '../../../trace/event.ts';
import { jsonLine } from '../../../trace/story/json-line.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { FrameError } from '../../../trace/wire/decoder.ts';
import { FrameEncoder, inlineSlots } from '../../../trace/wire/encoder.ts';
import { FRAME_BYTES } from '../../../trace/wire/frame.ts';
import { flood, framed, wholeRun } from '../runs.ts';

const run = wholeRun();

test('a whole run comes back from its frames: every event, every end, in order', (t) => {
  const { decoder } = framed();
  const back = run.frames.flatMap((frame) => [...decoder.frame(frame).items()]);
  const told = (items: readonly (typeof back)[number][]): string[] =>
    items.map((item) =>
      item.kind === 'event'
        ? jsonLine(item.record)
        : `${item.begin} ends after ${item.seq}, ${item.ns}`,
    );
  t.deepEqual(told(back), told(run.items));
  t.true(run.items.some(({ kind }) => kind === 'end'));
  t.true(run.frames.length > 1);
  for (const frame of run.frames) t.true(frame.length <= FRAME_BYTES);
});

test('spans are told as such, and every one of a whole run ends', (t) => {
  const { decoder } = framed();
  const open = new Set<number>();
  let spans = 0;
  for (const frame of run.frames) {
    for (const item of decoder.frame(frame).items()) {
      if (item.kind === 'end') t.true(open.delete(item.begin), `the end of ${item.begin}`);
      else if (item.record.span === true) {
        open.add(item.record.seq);
        spans++;
      }
    }
  }
  t.true(spans > 100);
  t.deepEqual([...open], []);
});

test('the same run gives the same frames, byte for byte', (t) => {
  t.deepEqual(wholeRun().frames, run.frames);
});

test('each frame is enough by itself', (t) => {
  const { decoder } = framed();
  const last = decoder.frame(run.frames.at(-1)!);
  const expected = run.records.filter(({ seq }) => seq >= last.firstSeq);
  t.deepEqual(last.records().map(jsonLine), expected.map(jsonLine));
  t.is(last.lastSeq, run.records.at(-1)!.seq);
  t.is(last.count, expected.length);
});

const VALUES: Readonly<Record<FieldKind, fc.Arbitrary<number | bigint | string>>> = {
  int: fc.maxSafeInteger(),
  count: fc.maxSafeNat(),
  bytes: fc.maxSafeNat(),
  ns: fc.maxSafeNat(),
  id: fc.nat(0xffff_ffff),
  pasid: fc.integer({ min: -1, max: 0xf_ffff }),
  flag: fc.constantFrom(0, 1),
  sid: fc.constantFrom('00:00.0', '00:01.0', 'ff:1f.6', ''),
  device: fc.constantFrom('00:01.0', 'iommufd_mock0', ''),
  perm: fc.constantFrom('--', 'r-', '-w', 'rw', 'r-x', 'rwxp', '--p'),
  hex: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  addr: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  gva: fc.maxSafeNat(),
  gpa: fc.maxSafeNat(),
  hpa: fc.maxSafeNat(),
  iova: fc.constantFrom(0, 2 ** 52 - 4096, 0x000f_ffff_ffff_f000),
  wide: fc.bigInt({ min: 0n, max: 2n ** 512n - 1n }),
  text: fc.string({ unit: 'binary', maxLength: 200 }),
};

test('any value of any kind survives', (t) => {
  const kinds = Object.keys(KINDS) as FieldKind[];
  const all = event(
    'engine',
    'test:all',
    Object.fromEntries(kinds.map((kind) => [kind, kind])),
    'all kinds',
    'this test',
  );
  const rows = fc.array(fc.record(VALUES), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(rows, (given) => {
      const { trace, decoded } = framed([all]);
      for (const values of given) trace.emit(all, values as never);
      const back = decoded().flatMap((item) => (item.kind === 'event' ? [item.record] : []));
      t.is(back.length, given.length);
      back.forEach(({ values }, i) => {
        for (const kind of kinds) {
          const expected = given[i]![kind];
          const same =
            typeof expected === 'string'
              ? values[kind] === expected.toWellFormed()
              : BigInt(values[kind]!) === BigInt(expected);
          if (!same) throw new Error(`${kind}: ${String(values[kind])} of ${String(expected)}`);
        }
      });
    }),
    { numRuns: 60 },
  );
});

test('a text beyond the limit is cut with an ellipsis, and the rest of the event is whole', (t) => {
  const { trace, decoded } = framed();
  trace.emit(guest.result, { vm: 'vm0', pid: 7, what: 'ä'.repeat(5000), value: 'end' });
  const [item] = decoded();
  if (item?.kind !== 'event') return t.fail('an event');
  const { what, value, pid } = item.record.values;
  t.is(value, 'end');
  t.is(pid, 7);
  t.regex(String(what), /^ä+…$/);
  t.true(new TextEncoder().encode(String(what)).length <= 4096);
  t.true(String(what).length > 2000);
});

test('more texts than a frame holds: the next one begins', (t) => {
  const { trace, decoded, frames } = framed();
  for (let i = 0; i < 400; i++) {
    trace.emit(guest.result, { vm: 'vm0', pid: i, what: `${i}-${'x'.repeat(1000)}`, value: '' });
  }
  const items = decoded();
  t.is(items.length, 400);
  t.true(frames.length > 6);
  for (const frame of frames) t.true(frame.length <= FRAME_BYTES);
});

test('hot events are told in the order of all, 32 bytes each, with what was packed', (t) => {
  const { trace, time, frames, decoded } = framed();
  time.ns = 5_000_000_000_000;
  trace.emit(guest.shutdown, { vm: 'vm0', code: 0 });
  flood(trace, 10_000);
  trace.cause = 1;
  flood(trace, 1, 'vm0');
  const items = decoded();
  t.is(items.length, 10_002);
  const bytes = frames.reduce((sum, { length }) => sum + length, 0);
  t.true(bytes / 10_002 < 33, `${bytes / 10_002} bytes each`);
  items.forEach((item, i) => {
    if (item.kind === 'event') t.is(item.record.seq, i + 1);
  });
  const at = (i: number) => {
    const item = items[i]!;
    return item.kind === 'event' ? item.record : undefined;
  };
  t.is(at(5000)?.def, vtd.iotlbHit);
  t.deepEqual(at(5000)?.values, {
    unit: 'host',
    sid: '01:01.0',
    pasid: 5,
    perm: 'rw',
    address: 4999 * 4096,
  });
  t.is(at(5000)?.cause, 0);
  t.is(at(10_001)?.values['unit'], 'vm0');
  t.is(at(10_001)?.cause, 1);
  t.is(at(10_001)?.ns, 5_000_000_000_000);
});

test('hot events are only for a sink that asks; others see a gap in the numbers', (t) => {
  const trace = new Tracer(() => 0);
  const seen: number[] = [];
  trace.attach({ event: ({ seq }) => seen.push(seq), end: () => undefined });
  t.false(trace.hot);
  const hot = { put: () => undefined };
  const sink = { event: () => undefined, end: () => undefined, hot };
  trace.attach(sink);
  t.true(trace.hot);
  trace.emit(guest.shutdown, { vm: 'vm0', code: 0 });
  flood(trace, 3);
  trace.emit(guest.shutdown, { vm: 'vm0', code: 0 });
  t.deepEqual(seen, [1, 5]);
  trace.detach(sink);
  t.false(trace.hot);
  t.true(trace.on);
});

test('two sinks that ask for hot events both have them all', (t) => {
  const trace = new Tracer(() => 0);
  const counts = [0, 0];
  for (const i of [0, 1]) {
    trace.attach(
      new FrameEncoder(
        inlineSlots((frame) => {
          counts[i]! += new DataView(frame.buffer, frame.byteOffset).getUint32(32, true);
        }),
        { hot: true },
      ),
    );
  }
  flood(trace, 4000);
  t.is(counts[0], counts[1]);
  t.true(counts[0]! > 1000);
});

test('time that passes between hot events is told', (t) => {
  const { trace, time, decoded } = framed();
  const source = trace.source(vtd.iotlbHit, 'host');
  const times = [0, 7, 7, 4_000_000_000, 4_294_967_295, 9_000_000_000, 9_000_000_001];
  for (const ns of times) {
    time.ns = ns;
    trace.emitHot(source, 1, 0, 0, 0);
  }
  t.deepEqual(
    decoded().map((item) => (item.kind === 'event' ? item.record.ns : -1)),
    times,
  );
});

test('an end that is the first in its frame names the event before it', (t) => {
  const { trace, encoder, decoded } = framed();
  const span = trace.span(guest.shutdown, { vm: 'vm0', code: 0 });
  encoder.flush();
  span[Symbol.dispose]();
  span[Symbol.dispose]();
  encoder.flush();
  t.deepEqual(
    decoded().map((item) => (item.kind === 'end' ? item : item.record.seq)),
    [1, { kind: 'end', begin: 1, ns: 0, seq: 1 }],
  );
});

test('damage to any byte of a frame yields other values or FrameError, never another exception', (t) => {
  const { decoder } = framed();
  const [frame] = run.frames;
  fc.assert(
    fc.property(
      fc.nat(frame!.length - 1),
      fc.integer({ min: 1, max: 255 }),
      fc.nat(frame!.length),
      (at, by, cut) => {
        const bytes = frame!.slice(0, cut % 3 === 0 ? cut : frame!.length);
        if (at < bytes.length) bytes[at]! ^= by;
        try {
          decoder.frame(bytes).records();
        } catch (error) {
          if (!(error instanceof FrameError)) throw error;
        }
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

test('an event that is not in the catalogue is refused', (t) => {
  const { trace } = framed();
  const stray = event('engine', 'test:stray', { n: 'int' }, 'a stray event', 'this test');
  t.throws(() => trace.emit(stray, { n: 1 }), { message: /test:stray is not in the catalogue/ });
});
