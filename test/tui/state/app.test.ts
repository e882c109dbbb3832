import test from 'ava';
import type { Command } from '../../../tui/keymap.ts';
import {
  type AppState,
  FIRST_STATE,
  reduce,
  SPEEDS,
  selectedIndex,
} from '../../../tui/state/app.ts';
import { recordRun } from '../events.ts';

const run = recordRun({ procs: 3 });

const after = (state: AppState, ...commands: Command[]): AppState =>
  commands.reduce((now, command) => reduce(now, { type: 'command', command, page: 10 }), state);

const full = reduce(FIRST_STATE, { type: 'events', batch: run });

test('views: by number and in a circle', (t) => {
  t.is(after(full, 'trace').view, 'trace');
  t.is(after(full, 'next-view', 'next-view').view, 'trace');
  t.is(after(full, 'previous-view').view, 'trace');
  t.is(after(full, 'next-view', 'next-view', 'next-view').view, 'overview');
});

test('pause, step and phase; what has ended stays ended', (t) => {
  t.is(after(full, 'pause').play.status, 'paused');
  t.is(after(full, 'pause', 'pause').play.status, 'running');
  t.like(after(full, 'step').play, { status: 'paused', want: 'event' });
  t.like(after(full, 'phase').play, { status: 'paused', want: 'phase' });
  t.is(reduce(after(full, 'step'), { type: 'arrived' }).play.want, undefined);
  const ended = reduce(full, { type: 'ended' });
  for (const command of ['pause', 'step', 'phase'] as const) {
    t.like(after(ended, command).play, { status: 'ended', want: undefined });
  }
  const failed = reduce(full, { type: 'failed', reason: 'why' });
  t.like(after(failed, 'pause').play, { status: 'failed', reason: 'why' });
});

test('speed stays within its ends', (t) => {
  const faster = Array.from({ length: 20 }, () => 'faster' as const);
  const slower = Array.from({ length: 20 }, () => 'slower' as const);
  t.is(SPEEDS[after(full, ...faster).play.speed], Infinity);
  t.is(SPEEDS[after(full, ...slower).play.speed], 1);
});

test('the trace follows until the selection moves up, and again from its end', (t) => {
  const trace = after(full, 'trace');
  const last = run.length - 1;
  t.is(selectedIndex(trace), last);
  const up = after(trace, 'up', 'up');
  t.false(up.follow);
  t.is(selectedIndex(up), last - 2);
  t.is(selectedIndex(after(up, 'page-up')), last - 12);
  t.is(selectedIndex(after(up, 'first')), 0);
  t.is(selectedIndex(after(up, 'first', 'up')), 0);
  const end = after(up, 'last');
  t.true(end.follow);
  t.false(after(end, 'follow').follow);
  t.is(selectedIndex(after(end, 'follow')), last);
});

test('the selected event stays while others come', (t) => {
  const half = reduce(FIRST_STATE, { type: 'events', batch: run.slice(0, 900) });
  const chosen = after(half, 'trace', 'up');
  const later = reduce(chosen, { type: 'events', batch: run.slice(900) });
  t.is(selectedIndex(later), selectedIndex(chosen));
});

test('typing a filter, erasing, keeping and dropping it', (t) => {
  const typing = after(full, 'trace', 'filter');
  t.true(typing.typing);
  const typedOut = reduce(reduce(typing, { type: 'type', text: 'ioctlx' }), {
    type: 'command',
    command: 'erase',
    page: 1,
  });
  t.is(typedOut.model.trace.filter, 'ioctl');
  const kept = after(typedOut, 'accept');
  t.false(kept.typing);
  t.true(kept.model.trace.matches.length < run.length);
  t.is(after(kept, 'cancel').model.trace.matches.length, run.length);
  t.is(after(typedOut, 'cancel').typing, false);
  const long = reduce(typing, { type: 'type', text: 'x'.repeat(1000) });
  t.is(long.model.trace.filter.length, 80);
});

test('a filter that matches nothing leaves nothing selected', (t) => {
  const none = reduce(after(full, 'trace', 'filter'), { type: 'type', text: 'no such thing' });
  t.is(selectedIndex(none), -1);
  t.is(selectedIndex(after(none, 'down', 'up', 'follow')), -1);
});

test('rows of the PASID table: never before the first, never past the last', (t) => {
  const pasids = after(full, 'pasids');
  t.is(after(pasids, 'up').row, 0);
  t.is(after(pasids, 'down', 'down').row, 2);
  t.is(after(pasids, 'last').row, 3);
  t.is(after(pasids, 'last', 'page-down').row, 3);
  t.is(after(FIRST_STATE, 'pasids', 'down').row, 0);
});

test('help opens over a view and Esc closes it before anything else', (t) => {
  t.true(after(full, 'help').help);
  t.false(after(full, 'help', 'help').help);
  t.false(after(full, 'help', 'cancel').help);
  t.false(after(full, 'help', 'pasids').help);
  t.true(after(full, 'quit').quit);
});
