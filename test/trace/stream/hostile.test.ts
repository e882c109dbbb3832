// Viewers that mean harm, or are broken: the server stays up, bounded, and there for the others.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { Packr } from 'msgpackr';
import { WebSocket } from 'ws';
import { RawViewer, Run, serve, upTo } from './rig.ts';

const packr = new Packr({ useRecords: false });

/** A connection on which anything may be said. */
async function raw(t: ExecutionContext, port: number, text = ''): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

/** All that comes until the other end closes. */
async function rest(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('latin1').on('data', (more: string) => {
    text += more;
  });
  // Not `once`, which takes a connection that is cut for a failure.
  if (!socket.closed) {
    await new Promise<void>((resolve) => {
      socket.on('close', () => resolve());
    });
  }
  return text;
}

const UPGRADE = [
  'GET / HTTP/1.1',
  'Host: localhost',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  'Sec-WebSocket-Protocol: vsva.v1.json',
].join('\r\n');

/** A viewer that is well served, whatever the others do. */
async function isServed(t: ExecutionContext, run: Run, url: string): Promise<void> {
  const viewer = new RawViewer(t, url);
  await viewer.subscribe();
  run.tell(10);
  const { lastSeq } = run.history;
  await viewer.settled(lastSeq);
  t.deepEqual(
    viewer.events.map(({ seq }) => seq),
    upTo(lastSeq),
  );
}

test('requests that are no URL, no HTTP or no upgrade end their own connection only', async (t) => {
  const run = new Run();
  run.tell(20);
  const { url, port } = await serve(t, run);
  for (const [text, answer] of [
    ['GET // HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 404/],
    ['GET http://[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 404/],
    ['GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 404/],
    ['DELETE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 405/],
    ['\x00\x01\x02\x03\r\n\r\n', /^HTTP\/1\.1 400/],
    [`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`, /431/],
    [`${UPGRADE.replace(': 13', ': 7')}\r\n\r\n`, /^HTTP\/1\.1 400/],
    [`${UPGRADE.replace('AAAA==', '')}\r\n\r\n`, /^HTTP\/1\.1 400/],
    [`${UPGRADE.replace('GET / ', 'GET // ')}\r\nOrigin: null\r\n\r\n`, /^HTTP\/1\.1 403/],
  ] as const) {
    t.regex(await rest(await raw(t, port, text)), answer, text.slice(0, 60));
  }
  await isServed(t, run, url);
});

test('a head that does not come to its end is not waited for', async (t) => {
  const run = new Run();
  const { url, port } = await serve(t, run, { headMs: 100 });
  const slow = await raw(t, port, 'GET / HTTP/1.1\r\nHost: localhost\r\n');
  const half = await raw(t, port, UPGRADE);
  t.regex(await rest(slow), /^HTTP\/1\.1 408/);
  t.regex(await rest(half), /^HTTP\/1\.1 408/);
  await isServed(t, run, url);
});

test('connections that close in the middle of the handshake leave nothing', async (t) => {
  const run = new Run();
  const { server, url, port } = await serve(t, run);
  for (let i = 0; i < 50; i++) {
    const socket = await raw(t, port, `${UPGRADE}\r\n\r\n`);
    if (i % 2 === 0) socket.resetAndDestroy();
    else socket.destroy();
  }
  await isServed(t, run, url);
  while (server.viewers > 1) await new Promise(setImmediate);
  t.is(server.viewers, 1);
});

test('frames that break the websocket protocol close with its codes', async (t) => {
  const run = new Run();
  const { url, port } = await serve(t, run);
  const mask = '\x00\x00\x00\x00';
  for (const [frame, code] of [
    [`\x81\x05hello`, 1002],
    [`\xf1\x80${mask}`, 1002],
    [`\x81\x82${mask}\xff\xfe`, 1007],
    [`\x81\xff\x00\x00\x00\x00\x7f\xff\xff\xff${mask}`, 1009],
    [`\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff${mask}`, 1009],
    [`\x88\x81${mask}x`, 1002],
  ] as const) {
    const socket = await raw(t, port, `${UPGRADE}\r\n\r\n`);
    socket.write(Buffer.from(frame, 'latin1'));
    const bytes = Buffer.from(await rest(socket), 'latin1');
    const close = bytes.indexOf(Buffer.from([0x88]), bytes.lastIndexOf(0x7d));
    t.is(bytes.readUInt16BE(close + 2), code, JSON.stringify(frame));
  }
  await isServed(t, run, url);
});

test('a message in many fragments is one message; it may not grow beyond the limit', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.type('hello');
  const text = JSON.stringify({ type: 'subscribe', id: 7, after: 0 });
  for (let i = 0; i < text.length; i++) {
    viewer.socket.send(text.charAt(i), { fin: i === text.length - 1 });
  }
  await viewer.until((message) => message.type === 'reply' && message['id'] === 7);
  for (let i = 0; i < 70; i++) viewer.socket.send('x'.repeat(1024), { fin: false });
  t.is((await viewer.closed).code, 1009);
  await isServed(t, run, url);
});

test('what is no request in JSON is answered, and eight times closed with 4400', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run);
  const messages = [
    '',
    'null',
    '['.repeat(30_000) + ']'.repeat(30_000),
    `{"type":"subscribe","id":1,"filter":${'['.repeat(20_000)}${']'.repeat(20_000)}}`,
    '{"type":"constructor","id":1}',
    '{"type":"__proto__","id":1}',
    '{"type":"seek","id":1,"seq":1e999}',
  ];
  const viewer = new RawViewer(t, url);
  await viewer.type('hello');
  for (const text of messages) viewer.socket.send(text);
  viewer.socket.send(Buffer.from([0x80]));
  t.is((await viewer.closed).code, 4400);
  const errors = viewer.messages.filter(({ type }) => type === 'error');
  t.is(errors.length, 8);
  for (const { message } of errors as { message?: string }[]) t.regex(message ?? '', /^[^\n]+$/);
  await isServed(t, run, url);
});

test('keys of a prototype change nothing for anybody', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run);
  const viewer = new RawViewer(t, url);
  await viewer.type('hello');
  viewer.socket.send(
    '{"type":"subscribe","id":1,"after":0,"__proto__":{"type":"x"},"constructor":{"prototype":{}}}',
  );
  viewer.socket.send('{"type":"subscribe","id":2,"filter":{"__proto__":{"polluted":1}}}');
  viewer.socket.send('{"type":"subscribe","id":3,"filter":{"layers":["__proto__"]}}');
  for (const [id, type] of [
    [1, 'reply'],
    [2, 'error'],
    [3, 'error'],
  ] as const) {
    t.is((await viewer.until((message) => message['id'] === id)).type, type);
  }
  t.is(({} as { polluted?: number }).polluted, undefined);
  await isServed(t, run, url);
});

/** What a server answers to one message in msgpack. */
async function packed(t: ExecutionContext, url: string, bytes: Uint8Array): Promise<unknown> {
  const socket = new WebSocket(url, ['vsva.v1.msgpack']);
  t.teardown(() => socket.terminate());
  await once(socket, 'open');
  socket.send(bytes);
  for (;;) {
    const [data] = (await once(socket, 'message')) as [Buffer];
    const message = packr.unpack(data) as { type: string; code?: string; id?: number };
    if (message.type === 'error') return message.code;
    if (message.type === 'reply') return message.id;
  }
}

test('MessagePack that claims much, nests deep or has extensions is refused unread', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run);
  const hex = (text: string): Buffer => Buffer.from(text, 'hex');
  for (const bytes of [
    hex('dd01ffffff'),
    hex('df7fffffff'),
    hex('c6ffffffff'),
    hex('db7fffffff00'),
    Buffer.alloc(60_000, 0x91),
    Buffer.alloc(60_000, 0x81),
    hex('d4724091a474797065'),
    hex('d6ff00000000'),
    hex('c1'),
    hex('8000'),
    hex('81a474797065'),
    Buffer.concat([hex('dcffff'), Buffer.alloc(60_000, 0xc0)]),
  ]) {
    t.is(await packed(t, url, bytes), 'bad_message', bytes.toString('hex').slice(0, 24));
  }
  const seqs = upTo(1000);
  for (const request of [
    {
      type: 'subscribe',
      id: 5,
      after: 0,
      filter: { layers: ['host'], fromNs: 0.5, toNs: 2 ** 40 },
    },
    { type: 'fetch', id: 5, seqs },
    { type: 'fetch', id: 5, seqs: seqs.map((seq) => seq + 2 ** 33), note: null, flag: true },
  ]) {
    t.is(await packed(t, url, packr.pack(request)), 5);
  }
  await isServed(t, run, url);
});

test('hundreds that never read cost a bounded amount each, and the run nothing', async (t) => {
  const run = new Run();
  const { url, port } = await serve(t, run);
  run.tell(1000);
  const subscribe = JSON.stringify({ type: 'subscribe', id: 1, after: 0 });
  const masked = Buffer.concat([
    Buffer.from([0x81, 0x80 | subscribe.length, 0, 0, 0, 0]),
    Buffer.from(subscribe),
  ]);
  for (let i = 0; i < 300; i++) {
    const socket = await raw(t, port, `${UPGRADE}\r\n\r\n`);
    socket.write(masked);
    socket.pause();
  }
  const text = 'x'.repeat(1000);
  const served = isServed(t, run, url);
  for (let i = 0; i < 40; i++) {
    run.tell(500, text);
    await new Promise(setImmediate);
  }
  await served;
  t.true(run.history.lastSeq > 20_000);
});

test('a flood of costly requests leaves time for the run and for other viewers', async (t) => {
  const run = new Run();
  for (let i = 0; i < 100; i++) run.tell(1000);
  const { url } = await serve(t, run);
  const { lastSeq } = run.history;
  const flood = new RawViewer(t, url);
  await flood.type('hello');
  const everywhere = Array.from({ length: 1000 }, (_, i) => 1 + Math.floor((i * lastSeq) / 1000));
  for (let i = 0; i < 200; i++) {
    flood.socket.send(JSON.stringify({ type: 'fetch', id: i, seqs: everywhere }));
    flood.socket.send(JSON.stringify({ type: 'seek', id: -i, seq: (i * 7919) % lastSeq }));
  }
  const other = new RawViewer(t, url);
  await other.subscribe(undefined, lastSeq);
  for (let i = 0; i < 20; i++) {
    run.tell(100);
    await other.settled(run.history.lastSeq);
  }
  const answered = flood.messages.filter((message) => message.type === 'reply').length;
  t.true(answered < 400, 'the flood was still there');
});

test('beyond the limit of viewers there is a clear refusal, and room again later', async (t) => {
  const run = new Run();
  const { url, port } = await serve(t, run, { mostViewers: 5 });
  const viewers = upTo(5).map(() => new RawViewer(t, url));
  await Promise.all(viewers.map((viewer) => viewer.type('hello')));
  const refused = await rest(await raw(t, port, `${UPGRADE}\r\n\r\n`));
  t.regex(refused, /^HTTP\/1\.1 503 .*there are 5 viewers already/s);
  viewers[0]!.socket.close();
  await viewers[0]!.closed;
  await isServed(t, run, url);
});
