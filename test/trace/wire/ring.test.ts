import { Worker } from 'node:worker_threads';
import test from 'ava';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { FrameDecoder } from '../../../trace/wire/decoder.ts';
import { FrameEncoder } from '../../../trace/wire/encoder.ts';
import { schemaOf } from '../../../trace/wire/layout.ts';
import { createRing, RingReader, RingWriter } from '../../../trace/wire/ring.ts';
import { flood } from '../runs.ts';

test('what is written in one end comes out of the other as copies, in order', (t) => {
  const ring = createRing(4);
  const [writer, reader] = [new RingWriter(ring), new RingReader(ring)];
  t.is(reader.take(), undefined);
  for (let round = 0; round < 3; round++) {
    for (const value of [1, 2, 3, 4]) {
      writer.take().fill(value + round);
      writer.publish(100 * value);
    }
    t.is(reader.waiting, 4);
    const first = reader.take()!;
    t.deepEqual([first.length, first[0]], [100, 1 + round]);
    for (const value of [2, 3, 4]) t.is(reader.take()?.length, 100 * value);
    writer.take().fill(99);
    t.is(first[0], 1 + round, 'a copy does not change with the ring');
  }
});

test('slots are a power of two, so that numbers may wrap around', (t) => {
  t.throws(() => createRing(3), { instanceOf: RangeError });
});

test('frame numbers wrap around 2^32', (t) => {
  const ring = createRing(2);
  new Int32Array(ring).fill(0x7fff_ffff, 0, 2);
  const [writer, reader] = [new RingWriter(ring), new RingReader(ring)];
  for (let i = 1; i <= 5; i++) {
    writer.take().fill(i);
    writer.publish(i);
    t.is(reader.waiting, 1);
    t.deepEqual([...reader.take()!], Array<number>(i).fill(i));
  }
});

test('an engine in another thread waits for a slow reader and loses nothing', async (t) => {
  const EVENTS = 200_000;
  const ring = createRing(2);
  const worker = new Worker(new URL('./ring-worker.ts', import.meta.url), {
    workerData: { ring, events: EVENTS },
  });
  const reader = new RingReader(ring);
  const decoder = new FrameDecoder(schemaOf(CATALOGUE), CATALOGUE);
  let next = 1;
  while (!reader.ended) {
    await reader.wait();
    for (let frame = reader.take(); frame !== undefined; frame = reader.take()) {
      const view = decoder.frame(frame);
      t.is(view.firstSeq, next);
      next += view.count;
    }
  }
  t.is(next, EVENTS + 1);
  await worker.terminate();
});

test('a wait ends when nothing will come any more, and after its time', async (t) => {
  const ring = createRing(2);
  const reader = new RingReader(ring);
  await reader.wait(1);
  const waiting = reader.wait();
  new RingWriter(ring).close();
  await waiting;
  t.true(reader.ended);
  await reader.wait();
});

test('an encoder writes straight into the ring', (t) => {
  const ring = createRing(8);
  const trace = new Tracer(() => 0);
  const encoder = new FrameEncoder(new RingWriter(ring), { hot: true });
  trace.attach(encoder);
  flood(trace, 5000);
  encoder.flush();
  const reader = new RingReader(ring);
  let count = 0;
  const decoder = new FrameDecoder(schemaOf(CATALOGUE), CATALOGUE);
  for (let frame = reader.take(); frame !== undefined; frame = reader.take()) {
    count += decoder.frame(frame).count;
  }
  t.is(count, 5000);
});
