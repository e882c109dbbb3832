import test from 'ava';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { vtd } from '../../trace/catalogue/vtd.ts';
import type { ClientOptions } from '../../trace/stream/client.ts';
import type { Control, Hello, Status } from '../../trace/stream/protocol.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { ServerDriver } from '../../tui/server-driver.ts';
import { EMPTY_MODEL, reduceModel } from '../../tui/state/model.ts';
import { Store } from '../../tui/store.ts';
import { recordRun } from './events.ts';

const run = recordRun();
const schema = schemaOf(CATALOGUE);
const decoder = new FrameDecoder(schema, CATALOGUE);

const status: Status = { type: 'status', state: 'running', seq: 0, ns: 0, speed: null };

const hello = (granted: readonly Control[]): Hello => ({
  type: 'hello',
  protocol: 1,
  program: 'vsva test',
  session: 'abc',
  mode: 'live',
  granted,
  schema,
  clock: { unit: 'ns', now: 0 },
  firstSeq: 1,
  lastSeq: 0,
  heartbeatMs: 1000,
  maxMessageBytes: 65_536,
  status,
});

/** A server that only notes what it is asked. */
function setUp(granted: readonly Control[] = ['pause', 'resume', 'step', 'speed', 'seek']) {
  const store = new Store();
  const asked: string[] = [];
  let options: ClientOptions | undefined;
  const driver = new ServerDriver(store, 'ws://test/', (given) => {
    options = given;
    return {
      request: (type, body) => {
        asked.push(`${type} ${JSON.stringify(body)}`);
        return Promise.resolve({ type: 'reply', id: 1, request: type });
      },
      close: () => undefined,
    };
  });
  driver.open();
  options!.events.hello?.(hello(granted), false);
  const press = (command: 'pause' | 'step-back' | 'phase-back' | 'faster'): void => {
    store.dispatch({ type: 'command', command, page: 1 });
  };
  return { store, driver, asked, events: options!.events, press };
}

const soon = (ms = 60): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const encoderTo = (take: ClientOptions['events']['events']): FrameEncoder =>
  new FrameEncoder(
    inlineSlots((frame) => take(decoder.frame(frame.slice()), 0, 0)),
    { hot: true },
  );

test('what a server sends is what a world in this process would have shown', async (t) => {
  const { store, driver, events } = setUp();
  const encoder = encoderTo(events.events);
  for (const record of run) encoder.event(record);
  encoder.flush();
  await soon();
  const { model } = store.get();
  const { trace, ...moment } = reduceModel(EMPTY_MODEL, run);
  t.like(model, { seq: moment.seq, run: moment.run, trips: moment.trips, queues: moment.queues });
  t.deepEqual(
    model.trace.events.map(({ seq }) => seq),
    trace.events.map(({ seq }) => seq),
  );
  driver.close();
});

test('keys become requests', async (t) => {
  const { driver, asked, events, press } = setUp();
  const encoder = encoderTo(events.events);
  for (const record of run.slice(0, 900)) encoder.event(record);
  encoder.flush();
  await soon();
  press('pause');
  await soon();
  press('step-back');
  await soon();
  press('faster');
  await soon();
  t.is(asked[0], 'pause {}');
  t.is(asked[1], 'seek {"seq":899}');
  t.true(asked.length >= 2);
  driver.close();
});

test('what is not granted is said, and not asked for', async (t) => {
  const { store, driver, asked, press } = setUp([]);
  press('pause');
  await soon();
  t.deepEqual(asked, []);
  t.regex(store.get().play.note, /does not let its viewers pause/);
  t.is(store.get().play.status, 'running');
  driver.close();
});

test('a lost connection is announced with the next attempt', (t) => {
  const { store, driver, events } = setUp();
  events.lost?.('gone', 2000);
  t.like(store.get().play, { status: 'paused', note: 'connection lost: gone; again in 2.0 s' });
  driver.close();
});

test('a million events of the data path: counted all, listed a bounded few', async (t) => {
  const { store, driver, events } = setUp();
  let pictures = 0;
  store.subscribe(() => pictures++);
  const encoder = encoderTo(events.events);
  const source = { def: vtd.iotlbHit, text: 'host' };
  for (let seq = 1; seq <= 1_000_000; seq++)
    encoder.put(source, seq, seq, 0, 8, 1, seq & 0xfffff, 0);
  encoder.flush();
  await soon();
  const { model } = store.get();
  t.is(model.run.events, 1_000_000);
  t.is(model.hardware.units.get('host')?.hits, 1_000_000);
  t.true(model.trace.events.length > 0 && model.trace.events.length <= 20_000);
  t.true(pictures < 10, String(pictures));
  driver.close();
});
