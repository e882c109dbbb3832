import test from 'ava';
import { renderToString } from 'ink';
import { createElement as h } from 'react';
import { type Command, groupsFor, VIEWS } from '../../../tui/keymap.ts';
import { type AppState, FIRST_STATE, reduce } from '../../../tui/state/app.ts';
import type { Palette } from '../../../tui/theme.ts';
import { Screen } from '../../../tui/view/screen.ts';
import { recordRun } from '../events.ts';

const SIZES = [
  [60, 20],
  [79, 24],
  [80, 24],
  [120, 40],
  [200, 60],
] as const;

const run = recordRun({ vms: 2, procs: 3 });

const after = (state: AppState, ...commands: Command[]): AppState =>
  commands.reduce((now, command) => reduce(now, { type: 'command', command, page: 10 }), state);

const full = reduce(FIRST_STATE, { type: 'events', batch: run });
const middle = reduce(FIRST_STATE, { type: 'events', batch: run.slice(0, 2500) });

/** The picture as lines without escapes. */
function frame(
  state: AppState,
  columns: number,
  rows: number,
  palette: Palette = 'none',
): string[] {
  const text = renderToString(h(Screen, { state, size: { columns, rows }, palette }), { columns });
  return text.split('\n');
}

const WALK = { type: 'type', text: '0x7f00fc050000' } as const;
const TOURS = {
  type: 'tours',
  tours: [{ name: 'one', what: 'x'.repeat(300) }],
  tour: 0,
} as const;

const STATES: readonly (readonly [name: string, state: AppState])[] = [
  ['empty', FIRST_STATE],
  ...VIEWS.map((view) => [`empty ${view}`, after(FIRST_STATE, view)] as const),
  ...VIEWS.map((view) => [`midway ${view}`, after(middle, view)] as const),
  ...VIEWS.map((view) => [`whole ${view}`, after(full, view)] as const),
  ['help', after(full, 'help')],
  ['an entry', after(full, 'pasids', 'last', 'open')],
  ['a walk', reduce(after(middle, 'pasids', 'last', 'open', 'address'), WALK)],
  ['no address', reduce(after(middle, 'pasids', 'open', 'address'), { type: 'type', text: 'x' })],
  ['tours', after(reduce(full, TOURS), 'walkthrough', 'tours')],
  ['up in the trace', after(full, 'trace', 'page-up', 'page-up', 'up')],
  ['typing', reduce(after(full, 'trace', 'filter'), { type: 'type', text: 'x'.repeat(80) })],
  ['failed', reduce(full, { type: 'failed', reason: `a reason\n${'that is long '.repeat(40)}` })],
];

for (const [columns, rows] of SIZES) {
  test(`no picture is larger than ${columns}x${rows}`, (t) => {
    for (const [name, state] of STATES) {
      const drawn = frame(state, columns, rows);
      t.is(drawn.length, rows, `${name}: ${drawn.length} rows`);
      const widest = Math.max(...drawn.map((line) => Array.from(line).length));
      t.true(widest <= columns, `${name}: ${widest} columns`);
    }
  });

  test(`what each view is for is there at ${columns}x${rows}`, (t) => {
    const [overview, pasids, objects, faults, queues, trace, walkthrough] = VIEWS.map((view) =>
      frame(after(middle, view), columns, rows).join('\n'),
    ) as [string, string, string, string, string, string, string];
    for (const word of ['guest', 'VMM', 'host kernel', 'VT-d', 'device', 'VM exits', 'ioctls']) {
      t.true(overview.includes(word), word);
    }
    t.regex(overview, /seed 1/);
    t.regex(pasids, /vm0 +100 +1 +5 +[●◆◇]/);
    t.regex(pasids, /vm1 +102 +3 /);
    t.regex(trace, /^> +\d+\.\d{6} /m);
    t.regex(trace, /Why event 2500 happened/);
    t.regex(trace, /└ /);
    t.regex(objects, /process 1, the VMM of vm0/);
    t.regex(objects, /└ HWPT_NESTED/);
    t.regex(faults, /page requests/);
    t.regex(queues, /invalidation queue of host/);
    t.regex(walkthrough, /What happened/);
  });

  test(`the footer at ${columns}x${rows} ends with help and quit, whole`, (t) => {
    for (const view of VIEWS)
      t.regex(frame(after(full, view), columns, rows).at(-1) ?? '', /\? help {2}q quit$/);
  });

  test(`the help at ${columns}x${rows} has every key that is heard in the view`, (t) => {
    for (const view of VIEWS) {
      const help = frame(after(full, view, 'help'), columns, rows).join('\n');
      for (const group of groupsFor({ view, opened: false, typing: false })) {
        t.true(help.includes(group.written), group.written);
        t.true(help.includes(group.help), group.help);
      }
    }
  });
}

test('while a filter is typed the footer has the keys of that line', (t) => {
  const state = after(full, 'trace', 'filter');
  const footer = frame(state, 80, 24).at(-1) ?? '';
  for (const { short } of groupsFor({ view: 'trace', opened: false, typing: true })) {
    if (short !== undefined) t.true(footer.includes(short), short);
  }
  t.false(footer.includes('pause'));
});

test('a terminal too small says so, down to a single cell', (t) => {
  for (const [columns, rows] of [
    [59, 30],
    [80, 19],
    [20, 5],
    [1, 1],
  ] as const) {
    const drawn = frame(full, columns, rows);
    t.true(drawn.length <= rows);
    t.true(drawn.every((line) => Array.from(line).length <= columns));
    if (columns >= 20) t.regex(drawn.join(' '), /are needed/);
  }
});

test('what a guest says cannot move the cursor', (t) => {
  const record = run.find(({ def }) => def.name === 'guest:program')!;
  const values = { ...record.values, step: '\u001b[2J\u0007evil\nstep' };
  const state = reduce(FIRST_STATE, { type: 'events', batch: [{ ...record, values }] });
  for (const view of VIEWS) {
    const drawn = frame(after(state, view), 100, 30);
    t.is(drawn.length, 30);
    t.false(drawn.some((line) => /[\u0000-\u001f\u007f]/.test(line)));
  }
});

test.serial('React has nothing to warn of', (t) => {
  const { error } = console;
  const warnings: unknown[] = [];
  console.error = (...words: unknown[]) => warnings.push(words);
  try {
    for (const [columns, rows] of SIZES)
      for (const [, state] of STATES) frame(state, columns, rows);
  } finally {
    console.error = error;
  }
  t.deepEqual(warnings, []);
});

test('state is told by sign and word, not by colour alone', (t) => {
  const pasids = frame(after(full, 'pasids'), 80, 24).join('\n');
  t.regex(pasids, /○ detached/);
  t.regex(frame(after(full, 'pause'), 80, 24)[0] ?? '', /^‖ paused/);
});
