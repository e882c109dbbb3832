import test from 'ava';
import { type Command, VIEWS } from '../../../tui/keymap.ts';
import {
  type AppState,
  FIRST_STATE,
  reduce,
  rowOf,
  SPEEDS,
  selectedEvent,
  selectedIndex,
} from '../../../tui/state/app.ts';
import { rowCount } from '../../../tui/state/lists.ts';
import { recordRun } from '../events.ts';

const run = recordRun({ procs: 3 });

const after = (state: AppState, ...commands: Command[]): AppState =>
  commands.reduce((now, command) => reduce(now, { type: 'command', command, page: 10 }), state);

const selectedSeqOf = (state: AppState): number => selectedEvent(state)?.seq ?? 0;

const full = reduce(FIRST_STATE, { type: 'events', batch: run });

test('views: by number and in a circle', (t) => {
  t.is(after(full, 'trace').view, 'trace');
  t.is(after(full, 'next-view', 'next-view').view, 'objects');
  t.is(after(full, 'previous-view').view, 'walkthrough');
  t.is(after(full, ...VIEWS.map(() => 'next-view' as const)).view, 'overview');
});

test('pause, steps on and back; what has ended does not run again by itself', (t) => {
  t.is(after(full, 'pause').play.status, 'paused');
  t.is(after(full, 'pause', 'pause').play.status, 'running');
  t.like(after(full, 'step').play, { status: 'paused', want: { kind: 'event', by: 1 } });
  t.like(after(full, 'phase-back').play, { status: 'paused', want: { kind: 'phase', by: -1 } });
  t.deepEqual(after(full, 'newest').play.want, { kind: 'to', seq: Infinity });
  t.is(reduce(after(full, 'step'), { type: 'arrived' }).play.want, undefined);
  const ended = reduce(full, { type: 'ended' });
  t.like(after(ended, 'pause').play, { status: 'ended', want: undefined });
  t.like(after(ended, 'step-back').play, { want: { kind: 'event', by: -1 } });
  const failed = reduce(full, { type: 'failed', reason: 'why' });
  t.like(after(failed, 'pause', 'step').play, { status: 'failed', reason: 'why', want: undefined });
});

test('a step by cause begins with the selected event of the trace, else with the last', (t) => {
  const { seq } = full.model;
  t.deepEqual(after(full, 'cause-back').play.want, { kind: 'cause', by: -1, of: seq });
  const up = after(full, 'trace', 'up', 'up', 'cause');
  t.deepEqual(up.play.want, { kind: 'cause', by: 1, of: seq - 2 });
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
  t.is(typing.typing, 'filter');
  const typedOut = reduce(reduce(typing, { type: 'type', text: 'ioctlx' }), {
    type: 'command',
    command: 'erase',
    page: 1,
  });
  t.is(typedOut.model.trace.filter, 'ioctl');
  const kept = after(typedOut, 'accept');
  t.is(kept.typing, undefined);
  t.true(kept.model.trace.matches.length < run.length);
  t.is(after(kept, 'cancel').model.trace.matches.length, run.length);
  t.is(after(typedOut, 'cancel').typing, undefined);
  const long = reduce(typing, { type: 'type', text: 'x'.repeat(1000) });
  t.is(long.model.trace.filter.length, 80);
});

test('a filter that matches nothing leaves nothing selected', (t) => {
  const none = reduce(after(full, 'trace', 'filter'), { type: 'type', text: 'no such thing' });
  t.is(selectedIndex(none), -1);
  t.is(selectedIndex(after(none, 'down', 'up', 'follow')), -1);
});

test('rows of a list: never before the first, never past the last', (t) => {
  const pasids = after(full, 'pasids');
  t.is(rowOf(after(pasids, 'up')), 0);
  t.is(rowOf(after(pasids, 'down', 'down')), 2);
  t.is(rowOf(after(pasids, 'last')), 3);
  t.is(rowOf(after(pasids, 'last', 'page-down')), 3);
  t.is(rowOf(after(FIRST_STATE, 'pasids', 'down')), 0);
});

test('the end of the faults is followed until the selection moves up', (t) => {
  const half = reduce(FIRST_STATE, { type: 'events', batch: run.slice(0, 1300) });
  const later = { type: 'events', batch: run.slice(1300) } as const;
  const following = reduce(after(half, 'faults'), later);
  t.is(rowOf(following), rowCount('faults', following.model) - 1);
  const stays = after(half, 'faults', 'up');
  t.is(rowOf(reduce(stays, later)), rowOf(stays));
  t.true(rowOf(stays) < rowOf(following));
});

test('Enter opens an entry, goes to the event of a line, and to the moment of an event', (t) => {
  t.true(after(full, 'pasids', 'open').opened);
  t.false(after(full, 'pasids', 'open', 'cancel').opened);
  t.false(after(FIRST_STATE, 'pasids', 'open').opened);
  const fault = after(full, 'faults', 'first', 'open');
  t.is(fault.view, 'trace');
  t.is(selectedEvent(fault)?.def.name, 'dsa:page_response');
  const selected = selectedEvent(fault)!.seq;
  t.deepEqual(after(fault, 'open').play.want, { kind: 'to', seq: selected });
});

test('a search selects a match and steps through the others, around the end', (t) => {
  const typed = reduce(after(full, 'trace', 'search'), { type: 'type', text: 'replace_device' });
  t.is(selectedEvent(typed)?.def.name, 'iommu:replace_device_pasid');
  const matches = run.filter(({ def }) => def.name === 'iommu:replace_device_pasid');
  t.is(matches.length, 3);
  const seen = [1, 2, 3].map((times) =>
    selectedSeqOf(after(typed, ...Array.from({ length: times }, () => 'next-match' as const))),
  );
  t.is(new Set(seen).size, 3);
  t.is(seen.at(-1), selectedSeqOf(typed));
  t.is(selectedSeqOf(after(typed, 'next-match', 'previous-match')), selectedSeqOf(typed));
});

test('another moment takes the trace back with it, and its filter stays', (t) => {
  const filtered = reduce(after(full, 'trace', 'filter'), { type: 'type', text: 'ioctl' });
  const { model: moment } = reduce(FIRST_STATE, {
    type: 'events',
    batch: run.slice(0, 700),
  });
  const back = reduce(filtered, { type: 'moment', moment });
  t.is(back.model.seq, 700);
  t.is(back.model.trace.events.length, 700);
  t.is(back.model.trace.filter, 'ioctl');
  t.true(back.model.trace.matches.every(({ seq }) => seq <= 700));
  t.true(back.model.trace.matches.length > 0);
  t.is(back.play.status, 'running');
});

test('a tour is chosen with Enter, and begins with its first phase', (t) => {
  const tours = [
    { name: 'one', what: 'first' },
    { name: 'two', what: 'second' },
  ];
  const offered = reduce(full, { type: 'tours', tours, tour: -1 });
  const chosen = after(offered, 'walkthrough', 'tours', 'down', 'open');
  t.is(chosen.tour, 1);
  t.false(chosen.opened);
  const begun = reduce(chosen, { type: 'begin' });
  t.is(begun.model.seq, 0);
  t.like(begun.play, { status: 'paused', want: { kind: 'phase', by: 1 } });
});

test('help opens over a view and Esc closes it before anything else', (t) => {
  t.true(after(full, 'help').help);
  t.false(after(full, 'help', 'help').help);
  t.false(after(full, 'help', 'cancel').help);
  t.false(after(full, 'help', 'pasids').help);
  t.true(after(full, 'quit').quit);
});
