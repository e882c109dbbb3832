import test from 'ava';
import { engine as engineEvents } from '../../../trace/catalogue/engine.ts';
import { codecsOf } from '../../../trace/stream/codec.ts';
import type { Engine } from '../../../trace/stream/engine.ts';
import { Replay } from '../../../trace/stream/engine.ts';
import { CONTROLS, type ServerMessage } from '../../../trace/stream/protocol.ts';
import { Session } from '../../../trace/stream/session.ts';
import { FrameEncoder } from '../../../trace/wire/encoder.ts';
import { createRing, RingReader, RingWriter } from '../../../trace/wire/ring.ts';
import { DECODER, RawViewer, Run, serve, upTo } from './rig.ts';

/** A session whose viewer takes nothing unless it is told to. */
function slowViewer(engine: Engine) {
  const sent: string[] = [];
  const line = {
    waiting: 0,
    send(data: string | Uint8Array): void {
      sent.push(String(data));
      line.waiting += data.length;
    },
  };
  const clock = { now: 0 };
  const session = new Session({
    engine,
    decoder: DECODER,
    session: 'one',
    codec: codecsOf(DECODER).get('vsva.v1.json')!,
    line,
    granted: CONTROLS,
    now: () => clock.now,
  });
  const ask = (request: object): void => {
    session.receive(Buffer.from(JSON.stringify({ id: 1, ...request })), false);
  };
  const taken = (): ServerMessage[] => {
    line.waiting = 0;
    return sent.splice(0).map((text) => JSON.parse(text) as ServerMessage);
  };
  return { session, line, ask, taken, clock };
}

const seqs = (messages: readonly ServerMessage[]): number[] =>
  messages.flatMap((message) =>
    message.type === 'events' && 'events' in message
      ? message.events.flatMap((item) => ('name' in item ? item.seq : []))
      : [],
  );

test('a viewer that takes nothing costs a bounded amount, and learns exactly what it missed', (t) => {
  const run = new Run();
  const { session, line, ask, taken } = slowViewer(run.engine);
  ask({ type: 'subscribe', after: 0 });
  session.work();
  for (let i = 0; i < 100; i++) {
    run.tell(12_000);
    session.work();
  }
  t.true(line.waiting < 2 * 2 ** 20, `${line.waiting} bytes wait`);
  const first = taken();
  const last = seqs(first).at(-1)!;
  t.deepEqual(seqs(first), upTo(last));
  session.work();
  const second = taken();
  const dropped = second.find(({ type }) => type === 'dropped');
  t.deepEqual(dropped, {
    type: 'dropped',
    from: last + 1,
    to: 1_200_000,
    count: 1_200_000 - last,
    total: 1_200_000 - last,
  });
  t.like(
    second.find(({ type }) => type === 'snapshot'),
    { why: 'resync', seq: 1_200_000 },
  );
  run.tell(5);
  session.work();
  t.deepEqual(seqs(taken()), upTo(1_200_005, 1_200_001));
  run.engine.close();
});

test('lossless: a slow viewer reads the past instead', (t) => {
  const run = new Run();
  const { session, ask, taken } = slowViewer(run.engine);
  ask({ type: 'subscribe', after: 0, lossless: true });
  for (let i = 0; i < 40; i++) run.tell(5000, 'x'.repeat(200));
  const got: ServerMessage[] = [];
  for (let i = 0; i < 100; i++) {
    session.work();
    got.push(...taken());
  }
  t.false(got.some(({ type }) => type === 'dropped'));
  t.deepEqual(seqs(got), upTo(200_000));
  run.engine.close();
});

test('what even the history has lost is told of too', (t) => {
  const run = new Run({ limit: 1, segmentBytes: 50_000 });
  const { session, ask, taken } = slowViewer(run.engine);
  run.tell(10);
  ask({ type: 'subscribe', after: 0, lossless: true });
  session.work();
  t.deepEqual(seqs(taken()), upTo(10));
  for (let i = 0; i < 100; i++) run.tell(100);
  session.work();
  const { firstSeq } = run.history;
  const messages = taken();
  t.like(
    messages.find(({ type }) => type === 'dropped'),
    { from: 11, to: firstSeq - 1 },
  );
  t.like(
    messages.find(({ type }) => type === 'snapshot'),
    { seq: firstSeq - 1 },
  );
  t.deepEqual(seqs(messages), upTo(10_010, firstSeq));
  run.engine.close();
});

test('requests of a viewer that takes nothing wait, and are bounded', (t) => {
  const run = new Run();
  const { session, line, ask } = slowViewer(run.engine);
  line.waiting = 2 ** 21;
  for (let i = 0; i < 32; i++) ask({ type: 'fetch', from: 1 });
  t.true(session.full);
  session.work();
  t.is(line.waiting, 2 ** 21);
  line.waiting = 0;
  session.work();
  t.false(session.full);
});

test('pause, step by event and resume: the viewer and the world', async (t) => {
  const run = new Run();
  run.tell(30);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.subscribe();
  await viewer.settled(30);
  await viewer.ask({ type: 'pause' });
  await viewer.ask({ type: 'step', unit: 'event', count: 2 });
  t.deepEqual(run.commands, [{ type: 'pause' }, { type: 'runTo', until: { seq: 32 } }]);
  run.tell(10);
  await viewer.settled(32);
  await viewer.ask({ type: 'step', unit: 'event' });
  await viewer.settled(33);
  // The world had made more events than were asked for: they are stepped through, not run again.
  t.is(run.commands.length, 2);
  t.is(viewer.events.at(-1)?.seq, 33);
  await viewer.ask({ type: 'resume' });
  await viewer.settled(40);
  t.deepEqual(
    viewer.events.map(({ seq }) => seq),
    upTo(40),
  );
  t.deepEqual(run.commands.at(-1), { type: 'resume' });
});

test('step by phase: to where the next one begins, in the past or in the world', async (t) => {
  const run = new Run();
  run.tell(10);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.ask({ type: 'seek', seq: 2 });
  await viewer.ask({ type: 'step', unit: 'phase' });
  await viewer.settled(3);
  t.deepEqual(
    viewer.events.map(({ seq }) => seq),
    [3],
  );
  await viewer.ask({ type: 'seek', seq: 10 });
  run.engine.report({ state: 'paused' });
  await viewer.ask({ type: 'step', unit: 'phase' });
  await viewer.ask({ type: 'fetch', from: 1 });
  t.deepEqual(run.commands, [{ type: 'runTo', until: 'phase' }]);
  run.tell(3);
  await viewer.settled(12);
  t.is(viewer.events.at(-1)?.seq, 12);
});

test('seek: by event and by time, back and forth; the state is that of then', async (t) => {
  const run = new Run();
  for (let i = 0; i < 20; i++) run.tell(500);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  for (const [request, seq] of [
    [{ seq: 4321 }, 4321],
    [{ ns: 70_007 }, 7000],
    [{ seq: 0 }, 0],
    [{ ns: 5 }, 0],
    [{ ns: 1e12 }, 10_000],
    [{ seq: 17 }, 17],
  ] as const) {
    const told = viewer.messages.length;
    t.like(await viewer.ask({ type: 'seek', ...request }), {
      type: 'reply',
      seq,
      ns: seq * 10,
    } as never);
    const snapshot = await viewer.until(
      (message) => message.type === 'snapshot' && viewer.messages.indexOf(message) >= told,
    );
    t.is(snapshot['why'], 'seek');
    const { events } = (snapshot['state'] as { run: { events: number } }).run;
    t.is(events, seq);
  }
  t.is((await viewer.ask({ type: 'seek', seq: 10_001 }))['code'], 'out_of_range');
  t.is(viewer.events.length, 0);
  await viewer.ask({ type: 'resume' });
  await viewer.settled(10_000);
  t.deepEqual(
    viewer.events.map(({ seq }) => seq),
    upTo(10_000, 18),
  );
});

test('a viewer in the past is paused, others are not', async (t) => {
  const run = new Run();
  run.tell(10);
  const { url } = await serve(t, run);
  const [back, other] = [new RawViewer(t, url), new RawViewer(t, url)];
  await other.subscribe();
  await back.ask({ type: 'seek', seq: 3 });
  t.like(await back.until((m) => m.type === 'status' && m.state === 'paused'), { seq: 3, ns: 30 });
  run.tell(10);
  await other.settled(20);
  t.false(other.messages.some((m) => m.type === 'status' && m.state === 'paused'));
});

test('a replay: each viewer has a clock of its own, with a speed', (t) => {
  const run = new Run();
  run.tell(1000);
  const { session, ask, taken, clock } = slowViewer(new Replay(run.history, 100));
  ask({ type: 'subscribe' });
  session.work();
  t.like(taken()[1], { type: 'snapshot', seq: 0 });
  clock.now = 500;
  session.work();
  t.deepEqual(seqs(taken()), upTo(50));
  ask({ type: 'pause' });
  session.work();
  clock.now = 5000;
  session.work();
  t.deepEqual(seqs(taken()), []);
  ask({ type: 'speed', eventsPerSecond: null });
  ask({ type: 'resume' });
  session.work();
  session.work();
  session.work();
  const rest = taken();
  t.deepEqual(seqs(rest), upTo(1000, 51));
  session.work();
  t.is([...rest, ...taken()].findLast(({ type }) => type === 'status')?.type, 'status');
  t.is(session.status().state, 'ended');
  run.engine.close();
});

test('a run ends for viewers when all of its events are there; one that cannot be kept has failed', async (t) => {
  const run = new Run();
  const ring = createRing(2);
  const collected = run.engine.collect(new RingReader(ring));
  run.engine.report({ state: 'ended', reason: 'well' });
  t.is(run.engine.state, 'running');
  new RingWriter(ring).close();
  await collected;
  t.deepEqual([run.engine.state, run.engine.reason], ['ended', 'well']);

  const other = new Run();
  other.history.append = () => {
    throw new Error('no space left');
  };
  const second = createRing(2);
  const writer = new FrameEncoder(new RingWriter(second));
  other.trace.attach(writer);
  const drained = other.engine.collect(new RingReader(second));
  other.trace.emit(engineEvents.powerOn, { seed: 1, ramBytes: 1, functions: 1 });
  writer.flush();
  new RingWriter(second).close();
  await drained;
  t.is(other.engine.state, 'failed');
  t.is(other.engine.reason, 'the trace cannot be kept: no space left');
});
