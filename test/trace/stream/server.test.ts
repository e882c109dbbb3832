import { get } from 'node:http';
import test from 'ava';
import { WebSocket } from 'ws';
import { StreamServer } from '../../../trace/stream/server.ts';
import { DECODER, RawViewer, Run, SCHEMA, serve, upTo } from './rig.ts';

test('hello comes first: version, catalogue, clock, what is held, what is granted', async (t) => {
  const run = new Run();
  run.tell(7);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  const hello = await viewer.type('hello');
  t.is(viewer.messages[0]?.type, 'hello');
  t.is(hello.protocol, 1);
  t.deepEqual(hello.schema, JSON.parse(JSON.stringify(SCHEMA)));
  t.deepEqual(hello.clock, { unit: 'ns', now: 70 });
  t.deepEqual([hello.firstSeq, hello.lastSeq], [1, 7]);
  t.deepEqual(hello.granted, ['pause', 'resume', 'step', 'speed', 'seek']);
  t.is(hello.mode, 'live');
});

test('every event in order, each once, as they come', async (t) => {
  const run = new Run();
  run.tell(1000);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  t.deepEqual(await viewer.subscribe(), {
    type: 'reply',
    id: 1,
    request: 'subscribe',
    seq: 0,
  } as never);
  await viewer.settled(1000);
  run.tell(500);
  await viewer.settled(1500);
  t.deepEqual(
    viewer.events.map(({ seq }) => seq),
    upTo(1500),
  );
  const spans = viewer.events.filter((event) => 'span' in event).map(({ seq }) => seq);
  t.is(spans.length, 300);
  t.deepEqual(
    viewer.ends.map(({ end }) => end),
    spans,
  );
  const ranges = viewer.messages.filter((message) => message.type === 'events');
  ranges.forEach(({ from }, i) => t.is(from, i === 0 ? 1 : ranges[i - 1]!.to + 1));
});

test('without `after` a viewer begins now, with the state as it is', async (t) => {
  const run = new Run();
  run.tell(100);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.ask({ type: 'subscribe' });
  const snapshot = await viewer.type('snapshot');
  t.deepEqual([snapshot.why, snapshot.seq, snapshot.ns], ['join', 100, 1000]);
  t.is((snapshot.state['run'] as { events: number }).events, 100);
  run.tell(10);
  await viewer.settled(110);
  t.deepEqual(
    viewer.events.map(({ seq }) => seq),
    upTo(110, 101),
  );
});

test('a filter by layer, name, PASID, VM or words; ranges stay gap-free', async (t) => {
  const run = new Run();
  run.tell(100);
  const { url } = await serve(t, run);
  for (const [filter, name, count] of [
    [{ layers: ['engine'] }, 'engine:power_on', 60],
    [{ names: ['boot'] }, 'guest:boot', 20],
    [{ names: ['guest:dmar*'] }, 'guest:dmar_parse', 20],
    [{ vms: ['vm0'] }, 'guest:dmar_parse', 20],
    [{ text: 'COPY' }, 'guest:boot', 20],
    [{ layers: ['guest'], fromNs: 0, toNs: 100 }, undefined, 4],
    [{ pasids: [3] }, undefined, 0],
  ] as const) {
    const viewer = new RawViewer(t, url);
    await viewer.subscribe(filter as never);
    await viewer.settled(100);
    t.is(viewer.events.length, count, JSON.stringify(filter));
    if (name !== undefined) t.true(viewer.events.every((event) => event.name === name));
  }
});

test('a filter that names nothing is refused by name; the old one stays', async (t) => {
  const run = new Run();
  run.tell(20);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.subscribe({ layers: ['guest'] });
  await viewer.settled(20);
  const error = await viewer.ask({ type: 'subscribe', filter: { names: ['no:such', 'boot'] } });
  t.is(error['code'], 'bad_filter');
  t.regex(String(error['message']), /"no:such"/);
  t.notRegex(String(error['message']), /"boot"/);
  run.tell(20);
  await viewer.settled(40);
  t.true(viewer.events.every(({ name }) => name.startsWith('guest:')));
});

test('a second subscribe replaces the filter and goes on where it was', async (t) => {
  const run = new Run();
  run.tell(20);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.subscribe({ layers: ['vtd'] });
  await viewer.settled(20);
  t.is((await viewer.ask({ type: 'subscribe', filter: { layers: ['engine'] } }))['seq'], 20);
  run.tell(10);
  await viewer.settled(30);
  t.deepEqual([viewer.events.length, viewer.events[0]!.seq], [6, 23]);
});

test('more than is held: a viewer that asks for it gets a snapshot with resync', async (t) => {
  const run = new Run({ limit: 1, segmentBytes: 20_000 });
  for (let i = 0; i < 40; i++) run.tell(100);
  const { firstSeq, lastSeq } = run.history;
  t.true(firstSeq > 1);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.subscribe(undefined, 1);
  const snapshot = await viewer.type('snapshot');
  t.deepEqual([snapshot.why, snapshot.seq], ['resync', lastSeq]);
  t.is((snapshot.state['run'] as { events: number }).events, lastSeq);
  const other = new RawViewer(t, url);
  await other.subscribe(undefined, firstSeq - 1);
  await other.settled(lastSeq);
  t.deepEqual(
    other.events.map(({ seq }) => seq),
    upTo(lastSeq, firstSeq),
  );
  t.is((await other.ask({ type: 'subscribe', after: lastSeq + 5 }))['code'], 'out_of_range');
});

test('what is no message is answered; eight of them end the connection', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.type('hello');
  const bad = [
    ['{', 'bad_message', /JSON/],
    ['[]', 'bad_message', /map/],
    ['{"type":"explode","id":1}', 'unknown_type', /"explode".*subscribe/],
    ['{"type":"seek","id":2}', 'bad_message', /seq or ns/],
    ['{"type":"step","id":3,"unit":"year"}', 'bad_message', /unit/],
    ['{"type":"subscribe","id":4,"filter":{"colour":1}}', 'bad_message', /colour/],
    ['{"type":"fetch","id":5,"from":1,"count":100000}', 'bad_message', /count/],
  ] as const;
  for (const [text, code, message] of bad) {
    viewer.socket.send(text);
    const error = await viewer.until((one) => one.type === 'error' && !seen.has(one));
    seen.add(error);
    t.is(error['code'], code, text);
    t.regex(String(error['message']), message);
  }
  viewer.socket.send('nonsense');
  t.is((await viewer.closed).code, 4400);
});
const seen = new Set<unknown>();

test('a message that is too large ends the connection, and no other', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run);
  const [viewer, other] = [new RawViewer(t, url), new RawViewer(t, url)];
  await Promise.all([viewer.type('hello'), other.type('hello')]);
  viewer.socket.send('x'.repeat(70_000));
  t.is((await viewer.closed).code, 1009);
  t.is((await other.subscribe()).type, 'reply');
});

test('events are fetched by number, as far as they are held', async (t) => {
  const run = new Run();
  run.tell(50);
  run.tell(50);
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  const reply = await viewer.ask({ type: 'fetch', seqs: [3, 77, 3, 4000, 0] });
  t.deepEqual(
    (reply['events'] as { seq: number }[]).map(({ seq }) => seq),
    [3, 77],
  );
  const range = await viewer.ask({ type: 'fetch', from: 49, count: 4 });
  t.deepEqual(
    (range['events'] as { seq: number }[]).map(({ seq }) => seq),
    [49, 50, 51, 52],
  );
});

test('200 viewers at once, each told everything', async (t) => {
  const run = new Run();
  run.tell(100);
  const { url, server } = await serve(t, run);
  const viewers = Array.from({ length: 200 }, () => new RawViewer(t, url));
  await Promise.all(viewers.map((viewer) => viewer.subscribe()));
  t.is(server.viewers, 200);
  run.tell(400);
  await Promise.all(viewers.map((viewer) => viewer.settled(500)));
  for (const viewer of viewers)
    t.deepEqual(
      viewer.events.map(({ seq }) => seq),
      upTo(500),
    );
});

test('a heartbeat when nothing happens, and silence ends a connection', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run, { heartbeatMs: 20 });
  const viewer = new RawViewer(t, url);
  t.like(await viewer.type('heartbeat'), { seq: 0, dropped: 0 });
  const dead = new WebSocket(url, ['vsva.v1.json'], { autoPong: false });
  const code = await new Promise((resolve) => dead.on('close', resolve));
  t.is(code, 1013);
});

test('no address but loopback without a token', (t) => {
  const options = {
    engine: new Run().engine,
    decoder: DECODER,
    schema: SCHEMA,
    program: '',
    port: 0,
  };
  t.throws(() => new StreamServer({ ...options, host: '0.0.0.0' }), { instanceOf: RangeError });
  t.notThrows(() => new StreamServer({ ...options, host: '0.0.0.0', token: 'x' }));
});

test('a token that is missing or wrong: 4401; the right one, in the URL or as a header', async (t) => {
  const { url } = await serve(t, new Run(), { token: 'correct horse' });
  for (const wrong of [url, `${url}?token=wrong`, `${url}?token=`]) {
    t.is((await new RawViewer(t, wrong).closed).code, 4401);
  }
  await t.notThrowsAsync(new RawViewer(t, `${url}?token=correct%20horse`).type('hello'));
  const bearer = new RawViewer(t, url, { authorization: 'Bearer correct horse' });
  await t.notThrowsAsync(bearer.type('hello'));
});

test('control is for whoever shows its token, or for nobody', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run, { token: 'see', controlToken: 'do' });
  const watcher = new RawViewer(t, `${url}?token=see`);
  t.deepEqual((await watcher.type('hello')).granted, []);
  for (const request of [
    { type: 'pause' },
    { type: 'resume' },
    { type: 'step', unit: 'event' },
    { type: 'speed', eventsPerSecond: 1 },
    { type: 'seek', seq: 0 },
  ]) {
    t.is((await watcher.ask(request))['code'], 'not_granted', request.type);
  }
  t.deepEqual(run.commands, []);
  const controller = new RawViewer(t, `${url}?token=do`);
  t.is((await controller.type('hello')).granted.length, 5);
  t.is((await controller.ask({ type: 'pause' })).type, 'reply');
  t.deepEqual(run.commands, [{ type: 'pause' }]);
  const shut = await serve(t, new Run(), { viewOnly: true });
  t.deepEqual((await new RawViewer(t, shut.url).type('hello')).granted, []);
});

test('pages of other origins, and other names for this address, are refused', async (t) => {
  const { url, port } = await serve(t, new Run(), { origins: ['https://trace.example'] });
  const refused = (headers: Record<string, string>): Promise<unknown> =>
    new RawViewer(t, url, headers).type('hello');
  await t.throwsAsync(refused({ origin: 'https://evil.example' }), { message: /403/ });
  await t.throwsAsync(refused({ origin: `http://127.0.0.1:${port + 1}` }), { message: /403/ });
  await t.throwsAsync(refused({ host: 'evil.example' }), { message: /403/ });
  await t.notThrowsAsync(refused({ origin: `http://127.0.0.1:${port}` }));
  await t.notThrowsAsync(refused({ origin: 'https://trace.example' }));
});

test('no subprotocol in common: 4406', async (t) => {
  const { url } = await serve(t, new Run());
  const socket = new WebSocket(url);
  t.is(await new Promise((resolve) => socket.on('close', resolve)), 4406);
});

test('over HTTP: status, schema, and nothing else', async (t) => {
  const run = new Run();
  run.tell(3);
  const { port } = await serve(t, run);
  const fetched = async (path: string, init?: RequestInit): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
    return [response.status, await response.text()];
  };
  const [status, body] = await fetched('/status');
  t.is(status, 200);
  t.like(JSON.parse(body), { mode: 'live', lastSeq: 3, ns: 30, viewers: 0 });
  const schema = JSON.parse((await fetched('/schema'))[1]) as { requests: { oneOf: unknown[] } };
  t.is(schema.requests.oneOf.length, 9);
  t.is((await fetched('/../../etc/passwd'))[0], 404);
  t.is((await fetched('/status', { method: 'POST' }))[0], 405);
  const foreign = await new Promise((resolve) => {
    get({ port, path: '/status', headers: { host: 'evil.example' } }, ({ statusCode }) => {
      resolve(statusCode);
    });
  });
  t.is(foreign, 403);
});
