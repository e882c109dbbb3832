import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { momentText, speedText } from '../format.ts';
import { groupsFor, type KeyGroup, VIEW_TITLES, VIEWS, type View } from '../keymap.ts';
import type { AppState } from '../state/app.ts';
import { Colours, STATUS_SIGNS } from '../theme.ts';
import { Help } from './help.ts';
import { Line, type Span, span } from './line.ts';
import { Overview } from './overview.ts';
import { Pasids } from './pasids.ts';
import { FRAME_ROWS, LEAST, type Size } from './size.ts';
import { Trace } from './trace.ts';

interface ViewProps {
  readonly state: AppState;
  readonly size: Size;
}

const COMPONENTS: Readonly<Record<View, (props: ViewProps) => ReactElement>> = {
  overview: Overview,
  pasids: Pasids,
  trace: Trace,
};

export interface ScreenProps extends ViewProps {
  /** false: NO_COLOR. */
  readonly colours: boolean;
}

/** The whole screen, exactly as high and at most as wide as the terminal. */
export function Screen({ state, size, colours }: ScreenProps): ReactElement {
  const { columns, rows } = size;
  const fits = columns >= LEAST.columns && rows >= LEAST.rows;
  return h(
    Colours,
    { value: colours },
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
    h(Line, { key: 'views', spans: viewLine(state) }),
    h(
      Box,
      { key: 'body', height: size.rows, width: columns, overflow: 'hidden' },
      state.help ? h(Help, { size }) : h(COMPONENTS[state.view], { state, size }),
    ),
    h(Line, { key: 'keys', spans: keyLine(state, columns) }),
  ];
}

function statusLine({ model, play }: AppState): Span[] {
  const { run } = model;
  const tone = play.status === 'failed' ? 'alert' : play.status === 'running' ? 'good' : 'title';
  return [
    span(`${STATUS_SIGNS[play.status]} ${play.status}`, tone),
    span(play.reason === '' ? '' : `: ${play.reason}`, 'alert'),
    span(`  ${momentText(run.ns)} ms`, 'title'),
    span(`  seed ${run.seed ?? '-'}  ${run.events} events  ${speedText(play)}`),
    span(run.phases === 0 ? '' : `  ${run.phases}. ${run.phase}`, 'muted'),
  ];
}

const viewLine = ({ view }: AppState): Span[] =>
  VIEWS.flatMap((name, i) => {
    const here = name === view;
    const label = `${i + 1} ${VIEW_TITLES[name]}`;
    return [span(here ? `[${label}]` : ` ${label} `, here ? 'title' : 'muted'), span(' ')];
  });

/** The keys heard now, as many as fit; how to get help and how to leave are always among them. */
function keyLine({ view, typing }: AppState, columns: number): Span[] {
  const groups = groupsFor(view, typing).filter(({ short }) => short !== undefined);
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
