import test from 'ava';
import type { EventRecord } from '../../trace/event.ts';
import { phaseOf } from '../../trace/story/walkthrough.ts';
import type { Command } from '../../tui/keymap.ts';
import { Player, type Source } from '../../tui/player.ts';
import { EMPTY_MODEL, reduceModel } from '../../tui/state/model.ts';
import { Store } from '../../tui/store.ts';
import { recordRun } from './events.ts';

const run = recordRun();

/** Plays the recorded run; each event takes some real time, as told by a clock of its own. */
class Recording implements Source {
  at = 0;
  ms = 0;
  readonly events: readonly EventRecord[];
  failAt = Infinity;

  constructor(events: readonly EventRecord[] = run) {
    this.events = events;
  }

  get ended(): boolean {
    return this.at === this.events.length;
  }

  next(most: number): readonly EventRecord[] {
    if (this.at >= this.failAt) throw new Error('the world broke');
    const batch = this.events.slice(this.at, this.at + most);
    this.at += batch.length;
    this.ms += batch.length * 0.01;
    return batch;
  }
}

function setUp(source = new Recording()) {
  const store = new Store();
  const player = new Player(store, source, () => source.ms);
  const tick = (): void => {
    source.ms += 33;
    player.tick();
  };
  const press = (command: Command): void => {
    store.dispatch({ type: 'command', command, page: 10 });
  };
  const seen = (): number => store.get().model.run.events;
  return { store, player, source, tick, press, seen };
}

test('the speed says how many events pass in a second', (t) => {
  const { tick, seen } = setUp();
  for (let i = 0; i < 30; i++) tick();
  t.true(seen() > 450 && seen() < 550, String(seen()));
});

test('paused, the world stands still', (t) => {
  const { tick, press, seen, source } = setUp();
  tick();
  press('pause');
  const before = [seen(), source.at];
  for (let i = 0; i < 20; i++) tick();
  t.deepEqual([seen(), source.at], before);
});

test('a step is one event; a step by a phase ends before the next phase begins', (t) => {
  const { tick, press, seen, store } = setUp();
  press('step');
  tick();
  tick();
  t.is(seen(), 1);
  t.like(store.get().play, { status: 'paused', want: undefined });
  const begins = run.flatMap((record, i) => (phaseOf(record) === undefined ? [] : [i]));
  for (const end of begins.slice(1, 4)) {
    press('phase');
    for (let i = 0; i < 5; i++) tick();
    t.is(seen(), end);
    t.is(store.get().play.want, undefined);
  }
});

test('back by event, phase and to the beginning: every view shows that moment', (t) => {
  const { tick, press, store } = setUp();
  for (let i = 0; i < 10; i++) press('faster');
  for (let i = 0; i < 10; i++) tick();
  t.is(store.get().play.status, 'ended');
  const at = (): number => store.get().model.seq;
  press('step-back');
  tick();
  t.is(at(), run.length - 1);
  t.is(store.get().play.status, 'paused');
  t.deepEqual(store.get().model, reduceModel(EMPTY_MODEL, run.slice(0, -1)));
  press('phase-back');
  tick();
  const last = run.findLastIndex((record) => phaseOf(record) !== undefined);
  t.is(at(), last);
  t.deepEqual(store.get().model, reduceModel(EMPTY_MODEL, run.slice(0, last)));
  press('beginning');
  tick();
  t.is(at(), 1);
  press('newest');
  tick();
  tick();
  t.is(at(), run.length);
  t.deepEqual(store.get().model, reduceModel(EMPTY_MODEL, run));
});

test('by cause: back to what led to an event, on to what it leads to', (t) => {
  const { tick, press, store } = setUp();
  for (let i = 0; i < 10; i++) press('faster');
  for (let i = 0; i < 10; i++) tick();
  const attach = run.find(({ def }) => def.name === 'iommu:attach_device_pasid')!;
  store.dispatch({ type: 'play', play: { want: { kind: 'to', seq: attach.seq } } });
  tick();
  press('cause-back');
  tick();
  t.is(store.get().model.seq, attach.cause);
  press('cause');
  tick();
  const effect = run.find(({ cause }) => cause === attach.cause)!;
  t.is(store.get().model.seq, effect.seq);
  press('beginning');
  tick();
  press('cause-back');
  tick();
  t.is(store.get().play.note, 'nothing led to it');
});

test('it runs on from the past as it ran the first time', (t) => {
  const { tick, press, store } = setUp();
  for (let i = 0; i < 10; i++) press('faster');
  for (let i = 0; i < 10; i++) tick();
  for (const command of ['phase-back', 'phase-back', 'pause'] as const) {
    press(command);
    tick();
  }
  for (let i = 0; i < 10; i++) tick();
  t.is(store.get().play.status, 'ended');
  t.deepEqual(store.get().model, reduceModel(EMPTY_MODEL, run));
});

test('at full speed a look at the world has an end', (t) => {
  const many = Array.from({ length: 20_000 }, (_, i) => ({ ...run[i % run.length]!, seq: i + 1 }));
  const { tick, press, seen } = setUp(new Recording(many));
  for (let i = 0; i < 10; i++) press('faster');
  tick();
  t.true(seen() > 2000 && seen() < 3000, String(seen()));
});

test('the end is told after the last event', (t) => {
  const { tick, press, seen, store } = setUp();
  for (let i = 0; i < 10; i++) press('faster');
  for (let i = 0; i < 10; i++) tick();
  t.is(seen(), run.length);
  t.is(store.get().play.status, 'ended');
});

test('a world that fails is shown with its reason, and the error is kept', (t) => {
  const source = new Recording();
  source.failAt = 10;
  const { tick, press, player, store, seen } = setUp(source);
  for (let i = 0; i < 12; i++) {
    press('step');
    tick();
  }
  t.is(seen(), 10);
  t.like(store.get().play, { status: 'failed', reason: 'the world broke' });
  t.is(player.error?.message, 'the world broke');
});

test('a million events: the time of a picture and what is kept do not grow', (t) => {
  const total = 1_000_000;
  let seq = 0;
  const source: Source = {
    get ended() {
      return seq >= total;
    },
    next: (most) =>
      Array.from({ length: Math.min(most, total - seq) }, () => {
        seq++;
        return { ...run[seq % run.length]!, seq, ns: seq * 1000, cause: 0 };
      }),
  };
  const store = new Store();
  const player = new Player(store, source);
  for (let i = 0; i < 10; i++) store.dispatch({ type: 'command', command: 'faster', page: 1 });
  let pictures = 0;
  store.subscribe(() => pictures++);
  let ticks = 0;
  while (!source.ended && ticks < 4000) {
    player.tick();
    ticks++;
  }
  t.is(seq, total);
  t.true(pictures <= ticks + 1);
  const { model } = store.get();
  t.is(model.run.events, total);
  t.true(model.trace.events.length <= 20_000);
  t.true(model.trips.trips.length <= 512);
  t.true(model.known.entries.size <= 8192);
});
