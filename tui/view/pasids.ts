import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { type PasidRow, type PasidStep, phaseNow } from '../../trace/state/pasids.ts';
import { bytesText, cell, countText, momentText, windowStart } from '../format.ts';
import type { AppState } from '../state/app.ts';
import { PHASE_SIGNS } from '../theme.ts';
import { Line, Rule, type Span, span } from './line.ts';
import { breadthOf, type Size } from './size.ts';

interface Column {
  readonly title: string;
  readonly width: number;
  readonly align?: 'right';
  /** Shown from 120 columns on only. */
  readonly wide?: true;
  readonly of: (row: PasidRow) => Span;
}

const since = (row: PasidRow): string => {
  const last = row.steps.at(-1);
  return last === undefined ? '' : momentText(last.ns);
};

const COLUMNS: readonly Column[] = [
  { title: 'VM', width: 5, of: (row) => span(row.vm || '?', 'guest') },
  { title: 'process', width: 7, of: (row) => span(row.pid === 0 ? '-' : String(row.pid)) },
  { title: 'PASID', width: 7, of: (row) => span(row.pasid === 0 ? '0 (RID)' : `${row.pasid}`) },
  { title: 'HWPT', width: 4, of: (row) => span(row.hwpt === 0 ? '-' : String(row.hwpt)) },
  { title: 'state', width: 10, of: stateSpan },
  { title: 'since (ms)', width: 12, align: 'right', wide: true, of: (row) => span(since(row)) },
  {
    title: 'page req',
    width: 8,
    align: 'right',
    of: (row) => span(countText(row.pageRequests)),
  },
  { title: 'open', width: 4, align: 'right', of: (row) => span(countText(row.open)) },
  {
    title: 'faults',
    width: 6,
    align: 'right',
    of: (row) => span(countText(row.faults), row.faults === 0 ? 'plain' : 'bad'),
  },
  {
    title: 'moved',
    width: 9,
    align: 'right',
    wide: true,
    of: (row) => span(bytesText(row.bytes)),
  },
];

/** Lines of the pane that tells of the chosen PASID, its heading included. */
const DETAIL_ROWS = 8;

/** Every PASID with who uses it, what it is attached to, and how it came to that. */
export function Pasids({ state, size }: { state: AppState; size: Size }): ReactElement {
  const { columns, rows } = size;
  const { pasids } = state.model;
  const all = [...pasids.rows.values()];
  const chosen = Math.min(state.row, all.length - 1);
  const listRows = Math.max(1, rows - 1 - DETAIL_ROWS);
  const start = windowStart(all.length, chosen, listRows);
  return h(
    Box,
    { flexDirection: 'column', width: columns, height: rows, overflow: 'hidden' },
    h(Line, { spans: headLine(columns) }),
    ...all
      .slice(start, start + listRows)
      .map((row, i) =>
        h(Line, { key: start + i, spans: rowLine(row, columns), selected: start + i === chosen }),
      ),
    all.length === 0 ? h(Line, { spans: [span('  No PASID yet.', 'muted')] }) : null,
    h(Box, { flexGrow: 1 }),
    ...detail(all[chosen], pasids.dropped, columns),
  );
}

function shown(columns: number): readonly Column[] {
  const wide = breadthOf(columns) === 'wide';
  return COLUMNS.filter((column) => wide || column.wide !== true);
}

const spaced = ({ width, align }: Column, text: string): string =>
  ` ${cell(text, width, align ?? 'left')}`;

const headLine = (columns: number): Span[] => [
  ...shown(columns).map((column) => span(spaced(column, column.title), 'title')),
  ...(breadthOf(columns) === 'narrow' ? [] : [span('  through time', 'title')]),
];

function rowLine(row: PasidRow, columns: number): Span[] {
  const cells = shown(columns).map((column) => {
    const { text, tone } = column.of(row);
    return span(spaced(column, text), tone);
  });
  if (breadthOf(columns) === 'narrow') return cells;
  const signs = row.steps.map(({ phase }) => span(`${PHASE_SIGNS[phase]} `, phase));
  const dots = row.stepCount > row.steps.length ? '…' : '';
  const used = [...cells, span(`  ${dots}`), ...signs];
  const width = used.reduce((sum, { text }) => sum + text.length, 0);
  return [...used, span(' '.repeat(Math.max(0, columns - width)))];
}

function stateSpan(row: PasidRow): Span {
  const phase = phaseNow(row);
  return phase === undefined ? span('-') : span(`${PHASE_SIGNS[phase]} ${phase}`, phase);
}

function detail(row: PasidRow | undefined, dropped: number, columns: number): ReactElement[] {
  const lost = dropped === 0 ? '' : ` (${dropped} older PASIDs let go)`;
  const title = row === undefined ? `Through time${lost}` : `${nameOf(row)}, through time${lost}`;
  const steps = row?.steps.slice(-(DETAIL_ROWS - 1)) ?? [];
  const empty = DETAIL_ROWS - 1 - steps.length;
  return [
    h(Rule, { key: 'rule', title, width: columns }),
    ...steps.map((step, i) => h(Line, { key: `step${i}`, spans: stepLine(step) })),
    ...Array.from({ length: empty }, (_, i) => h(Line, { key: `empty${i}`, spans: [span(' ')] })),
  ];
}

const nameOf = ({ vm, pasid, device }: PasidRow): string =>
  `${vm || 'unknown VM'} PASID ${pasid}${device === '' ? '' : ` of ${device}`}`;

const stepLine = ({ phase, ns, hwpt, seq }: PasidStep): Span[] => [
  span(`${cell(momentText(ns), 12, 'right')} ms  `, 'muted'),
  span(cell(`${PHASE_SIGNS[phase]} ${phase}`, 12), phase),
  span(hwpt === 0 ? 'no HWPT' : `HWPT ${hwpt}`),
  span(`   event ${seq}`, 'muted'),
];
