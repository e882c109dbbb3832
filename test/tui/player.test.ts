import test from 'ava';
import type { EventRecord } from '../../trace/event.ts';
import { phaseOf } from '../../trace/story/walkthrough.ts';
import type { Command } from '../../tui/keymap.ts';
import { Player, type Source } from '../../tui/player.ts';
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

test('a step is one event and a phase ends with the event that begins the next', (t) => {
  const { tick, press, seen, store } = setUp();
  press('step');
  tick();
  tick();
  t.is(seen(), 1);
  t.like(store.get().play, { status: 'paused', want: undefined });
  press('phase');
  for (let i = 0; i < 5; i++) tick();
  const second = run.findIndex((record, i) => i > 0 && phaseOf(record) !== undefined);
  t.is(seen(), second + 1);
  t.is(store.get().play.want, undefined);
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
