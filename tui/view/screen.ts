import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { countText, momentText, speedText } from '../format.ts';
import { groupsFor, type KeyGroup, VIEW_TITLES, VIEWS, type View } from '../keymap.ts';
import { type AppState, focusOf } from '../state/app.ts';
import { Colours, type Palette, STATUS_SIGNS } from '../theme.ts';
import { Faults } from './faults.ts';
import { Help } from './help.ts';
import { Line, type Span, span } from './line.ts';
import { Objects } from './objects.ts';
import { Overview } from './overview.ts';
import { Pasids } from './pasids.ts';
import { Queues } from './queues.ts';
import { FRAME_ROWS, LEAST, type Size } from './size.ts';
import { Trace } from './trace.ts';
import { Walkthrough } from './walkthrough.ts';

interface ViewProps {
  readonly state: AppState;
  readonly size: Size;
}

const COMPONENTS: Readonly<Record<View, (props: ViewProps) => ReactElement>> = {
  overview: Overview,
  pasids: Pasids,
  objects: Objects,
  faults: Faults,
  queues: Queues,
  trace: Trace,
  walkthrough: Walkthrough,
};

export interface ScreenProps extends ViewProps {
  readonly palette: Palette;
}

/** The whole screen, exactly as high and at most as wide as the terminal. */
export function Screen({ state, size, palette }: ScreenProps): ReactElement {
  const { columns, rows } = size;
  const fits = columns >= LEAST.columns && rows >= LEAST.rows;
  return h(
    Colours,
    { value: palette },
    h(
      Box,
      { flexDirection: 'column', width: columns, height: rows, overflow: 'hidden' },
      ...(fits ? framed(state, size) : tooSmall(size)),
    ),
  );
}

function framed(state: AppState, { columns, rows }: Size): ReactElement[] {
  const size = { columns, rows: rows - FRAME_ROWS };
  return [
    h(Line, { key: 'status', spans: statusLine(state) }),
    h(Line, { key: 'views', spans: viewLine(state, columns) }),
    h(
      Box,
      { key: 'body', height: size.rows, width: columns, overflow: 'hidden' },
      state.help
        ? h(Help, { size, focus: focusOf(state) })
        : h(COMPONENTS[state.view], { state, size }),
    ),
    h(Line, { key: 'keys', spans: keyLine(state, columns) }),
  ];
}

function statusLine({ model, play }: AppState): Span[] {
  const { run } = model;
  const { status, reason, note } = play;
  const tone = status === 'failed' ? 'alert' : status === 'running' ? 'good' : 'title';
  return [
    span(`${STATUS_SIGNS[status]} ${status}`, tone),
    span(reason === '' ? '' : `: ${reason}`, 'alert'),
    span(note === '' ? '' : `  ! ${note}`, 'waiting'),
    span(`  ${momentText(run.ns)} ms`, 'title'),
    span(`  seed ${run.seed ?? '-'}  event ${countText(model.seq)}  ${speedText(play)}`),
    span(run.phases === 0 ? '' : `  ${run.phases}. ${run.phase}`, 'muted'),
  ];
}

/** The views by number; titles are cut where not all of them fit. */
function viewLine({ view }: AppState, columns: number): Span[] {
  const whole = VIEWS.reduce((sum, name) => sum + VIEW_TITLES[name].length + 4, 0);
  const most = whole <= columns ? Infinity : Math.floor(columns / VIEWS.length) - 5;
  return VIEWS.flatMap((name, i) => {
    const here = name === view;
    const label = `${i + 1} ${VIEW_TITLES[name].slice(0, here ? 12 : most)}`;
    return [span(here ? `[${label}]` : ` ${label} `, here ? 'title' : 'muted')];
  });
}

/** The keys heard now, as many as fit; how to get help and how to leave are always among them. */
function keyLine(state: AppState, columns: number): Span[] {
  const focus = focusOf(state);
  const { typing } = focus;
  const groups = groupsFor(focus).filter(({ short }) => short !== undefined);
  const needed = ({ keys }: KeyGroup): boolean =>
    typing || Object.values(keys).some((command) => command === 'help' || command === 'quit');
  const widthOf = (group: KeyGroup): number =>
    firstKey(group).length + (group.short?.length ?? 0) + 3;
  let room = columns;
  for (const group of groups) if (needed(group)) room -= widthOf(group);
  const told = groups.filter((group) => {
    if (needed(group)) return true;
    if (widthOf(group) > room) return false;
    room -= widthOf(group);
    return true;
  });
  return told.flatMap((group) => [
    span(firstKey(group), 'key'),
    span(` ${group.short ?? ''}  `, 'muted'),
  ]);
}

const firstKey = ({ written }: KeyGroup): string => written.split(' ', 1)[0] ?? '';

function tooSmall({ columns, rows }: Size): ReactElement[] {
  const words = [
    `This terminal has ${columns}x${rows}.`,
    `${LEAST.columns}x${LEAST.rows} are needed.`,
    'q quits.',
  ];
  return words
    .slice(0, Math.max(1, rows))
    .map((text, key) => h(Line, { key, spans: [span(text)] }));
}
