import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { WebSocket } from 'ws';
import { Recording } from '../../../trace/record/reader.ts';
import { seal } from '../../../trace/wire/frame.ts';
import { RawViewer } from '../../trace/stream/rig.ts';
import { fileOf, MINUTES, refused, type T, test, vsva } from './processes.ts';
import { serving } from './serving.ts';

const SMALL = ['--mem', '64M', '--port', '0'];

/** A file of one page, served. */
const page = (t: T, ...options: string[]) =>
  serving(t, ['serve', fileOf(t, 4096).path, ...SMALL, ...options]);

test('a run from its first event to its end; Ctrl-C ends the server with 0', async (t) => {
  t.timeout(MINUTES);
  const server = await page(t);
  const viewer = new RawViewer(t, server.url);
  const { mode, session } = await viewer.type('hello');
  t.is(mode, 'live');
  t.regex(session, /^[0-9a-f]{16}$/);
  await viewer.subscribe();
  const { reason } = (await viewer.until(
    (message) => message.type === 'status' && message.state === 'ended',
  )) as { reason?: string };
  t.regex(reason ?? '', /^Verified\. .*4096 bytes, 1 copy/);
  t.is(viewer.events[0]?.name, 'engine:power_on');
  t.is(viewer.events.at(-1)?.name, 'host:leftovers');
  viewer.events.forEach(({ seq }, i) => t.is(seq, i + 1));
  await server.says('ended: Verified.');
  const { status, stderr } = await server.stop();
  t.deepEqual([status, stderr], [0, '']);
  t.is((await viewer.closed).code, 1001);
});

test('--paused waits for a viewer to resume; steps by phase and by event', async (t) => {
  t.timeout(MINUTES);
  const server = await page(t, '--paused');
  const viewer = new RawViewer(t, server.url);
  const hello = await viewer.type('hello');
  t.true(hello.lastSeq < hello.firstSeq, 'nothing has happened yet');
  await viewer.subscribe();
  await viewer.ask({ type: 'step', unit: 'event', count: 3 });
  await viewer.settled(3);
  t.is(viewer.events.length, 3);
  await viewer.ask({ type: 'step', unit: 'phase' });
  const paused = await viewer.until(
    (message) => message.type === 'status' && message.state === 'paused' && message.seq > 3,
  );
  t.is(viewer.events.length, paused['seq'] as number);
  await viewer.ask({ type: 'resume' });
  await viewer.until((message) => message.type === 'status' && message.state === 'ended');
  t.is((await server.stop()).status, 0);
});

test('--speed paces a run: a viewer may change it', async (t) => {
  t.timeout(MINUTES);
  const server = await page(t, '--speed', '20');
  const viewer = new RawViewer(t, server.url);
  t.is((await viewer.type('hello')).status.speed, 20);
  await viewer.subscribe();
  await viewer.settled(1);
  t.true(viewer.events.length < 200, `${viewer.events.length} events at once`);
  await viewer.ask({ type: 'speed', eventsPerSecond: null });
  await viewer.until((message) => message.type === 'status' && message.state === 'ended');
  t.true(viewer.events.length > 500);
  await server.stop('SIGTERM');
});

test('--scenario and --bug: what the sanitizer found is in the stream and in the verdict', async (t) => {
  t.timeout(MINUTES);
  const server = await page(t, '--scenario', 'two-processes', '--sanitize');
  await server.says('ended: Verified.');
  await server.stop();
  const bad = await page(t, '--bug', 'guest-munmap-no-flush');
  const viewer = new RawViewer(t, bad.url);
  await viewer.subscribe({ names: ['iommu_san:report'] });
  await bad.says('IOMMU sanitizer report');
  await viewer.until((message) => message.type === 'status' && message.state === 'ended');
  t.true(viewer.events.length > 0);
  await bad.stop();
});

test('--trace keeps a recording of what was streamed, which `vsva replay` serves with seek', async (t) => {
  t.timeout(2 * MINUTES);
  const path = join(t.context.folder, 'run.vsva');
  const live = await page(t, '--trace', path);
  const viewer = new RawViewer(t, live.url);
  await viewer.subscribe();
  await viewer.until((message) => message.type === 'status' && message.state === 'ended');
  t.is((await live.stop()).status, 0);
  const recording = Recording.open(path);
  const { events, whole } = recording.about;
  recording.close();
  t.deepEqual([events, whole], [viewer.events.length, true]);

  const replay = await serving(t, ['replay', path, '--port', '0']);
  await replay.says(`${events} events`);
  const second = new RawViewer(t, replay.url);
  t.is((await second.type('hello')).mode, 'replay');
  await second.subscribe();
  await second.settled(events);
  t.deepEqual(second.events, viewer.events);
  const half = Math.floor(events / 2);
  t.is((await second.ask({ type: 'seek', seq: half }))['seq'], half);
  t.is((await second.type('snapshot')).seq, half);
  await second.ask({ type: 'step', unit: 'event' });
  await second.until((message) => message.type === 'events' && message.to === half + 1);
  const { status, stderr } = await replay.stop();
  t.deepEqual([status, stderr], [0, '']);
});

test('a port in use: one line, which says what to do', async (t) => {
  t.timeout(MINUTES);
  const other = createServer();
  await new Promise<void>((resolve) => {
    other.listen(0, '127.0.0.1', resolve);
  });
  const { port } = other.address() as AddressInfo;
  const { path } = fileOf(t, 100);
  for (const args of [
    ['serve', path],
    ['serve', '--', 'exec', '/bin/true'],
  ]) {
    const [command = '', ...rest] = args;
    const ended = await vsva([command, '--port', String(port), ...rest]);
    refused(t, ended, 1, new RegExp(`port ${port} is in use: choose another with --port`));
  }
  other.close();
});

test('what the command line cannot have: one line and 2', async (t) => {
  t.timeout(MINUTES);
  const { path } = fileOf(t, 100);
  for (const [args, message] of [
    [['--host', '0.0.0.0', path], /give a token too: --token/],
    [[path, 'more'], /one FILE/],
    [['--speed', '0', path], /speed/],
    [['--port', '70000', path], /port/],
    [['--trace', join(t.context.folder, 'x.json'), '--port', '0', path], /PATH\.vsva/],
    [['--', 'exec', '--no-such-option', '/bin/true'], /unknown option/],
  ] as const) {
    refused(t, await vsva(['serve', ...args]), 2, message);
  }
});

test('an address of elsewhere, and a program that is not there', async (t) => {
  t.timeout(MINUTES);
  const { path } = fileOf(t, 100);
  const elsewhere = ['serve', '--host', '192.0.2.1', '--token', 'x', '--port', '0', path];
  refused(t, await vsva(elsewhere), 1, /192\.0\.2\.1 is no address of this machine/);
  const { status, stderr, stdout } = await vsva(['serve', '--', 'exec', '/no/such/program']);
  t.is(status, 127);
  t.regex(stderr, /^vsva: [^\n]+\n$/);
  t.is(stdout, '');
});

test('replay refuses what is no recording: foreign, newer, missing; a cut one it serves', async (t) => {
  t.timeout(2 * MINUTES);
  const path = join(t.context.folder, 'run.vsva');
  const { path: file } = fileOf(t, 4096);
  t.is((await vsva(['run', file, '--mem', '64M', '--quiet', '--trace', path])).status, 0);
  const whole = readFileSync(path);
  const write = (name: string, bytes: Uint8Array): string => {
    const to = join(t.context.folder, name);
    writeFileSync(to, bytes);
    return to;
  };
  const newer = Buffer.from(whole.toString('latin1').replace('"format":1', '"format":9'), 'latin1');
  seal(newer.subarray(8, 8 + newer.readUInt32LE(16)), (data) => crc32(data));
  for (const [name, message] of [
    [write('foreign', Buffer.from('PK\x03\x04 something else altogether')), /foreign/],
    [write('empty', Buffer.alloc(0)), /empty/],
    [write('newer', newer), /newer/],
    [join(t.context.folder, 'missing'), /no such file/],
    [t.context.folder, /not a file/],
  ] as const) {
    refused(t, await vsva(['replay', name, '--port', '0']), 1, message);
  }
  const cut = write('cut', whole.subarray(0, Math.floor(whole.length * 0.9)));
  const server = await serving(t, ['replay', cut, '--port', '0']);
  await server.says('the recording was cut off');
  const viewer = new RawViewer(t, server.url);
  await viewer.subscribe();
  const { lastSeq } = await viewer.type('hello');
  t.true(lastSeq > 100);
  await viewer.settled(lastSeq);
  t.is(viewer.events.length, lastSeq);
  t.is((await server.stop()).status, 0);
});

test('a viewer of another version, and a filter that names nothing, get one clear line', async (t) => {
  t.timeout(MINUTES);
  const server = await page(t);
  const newer = new WebSocket(server.url, ['vsva.v9.msgpack']);
  newer.on('error', () => undefined);
  const closed = await new Promise<[number, string]>((resolve) => {
    newer.on('close', (code, reason) => resolve([code, reason.toString()]));
  });
  t.deepEqual(closed, [4406, 'this server speaks vsva.v1.msgpack, vsva.v1.json']);
  const viewer = new RawViewer(t, server.url);
  const error = await viewer.subscribe({ names: ['vtd:wlak'], layers: ['hosts'] });
  t.is(error['code'], 'bad_filter');
  t.regex(String(error['message']), /^[^\n]*"hosts"[^\n]*"vtd:wlak"[^\n]*$/);
  await server.stop();
});
