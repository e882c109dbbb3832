import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { type PasidRow, phaseNow } from '../../trace/state/pasids.ts';
import { bytesText, cell, countText, momentText } from '../format.ts';
import { type AppState, rowOf } from '../state/app.ts';
import { hitRate } from '../state/entries.ts';
import { pasidRows } from '../state/lists.ts';
import type { Model } from '../state/model.ts';
import { PHASE_SIGNS } from '../theme.ts';
import { Entry } from './entry.ts';
import { Line, Rule, type Span, span } from './line.ts';
import { List } from './list.ts';
import { breadthOf, type Size } from './size.ts';
import { stepLine } from './steps.ts';

interface Column {
  readonly title: string;
  readonly width: number;
  readonly align?: 'right';
  /** Shown from 120 columns on only. */
  readonly wide?: true;
  readonly of: (row: PasidRow, model: Model) => Span;
}

const since = (row: PasidRow): string => {
  const last = row.steps.at(-1);
  return last === undefined ? '' : momentText(last.ns);
};

const COLUMNS: readonly Column[] = [
  { title: 'VM', width: 5, of: (row) => span(row.vm || '?', 'guest') },
  { title: 'pid', width: 5, of: (row) => span(row.pid === 0 ? '-' : String(row.pid)) },
  { title: 'PASID', width: 7, of: (row) => span(row.pasid === 0 ? '0 (RID)' : `${row.pasid}`) },
  { title: 'HWPT', width: 4, of: (row) => span(row.hwpt === 0 ? '-' : String(row.hwpt)) },
  { title: 'state', width: 10, of: stateSpan },
  { title: 'since (ms)', width: 12, align: 'right', wide: true, of: (row) => span(since(row)) },
  {
    title: 'PRs',
    width: 5,
    align: 'right',
    of: (row) => span(countText(row.pageRequests)),
  },
  { title: 'hits', width: 5, align: 'right', of: hitsSpan },
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
  if (state.opened) return h(Entry, { state, size });
  const { columns, rows } = size;
  const { model } = state;
  const all = pasidRows(model.pasids);
  const chosen = rowOf(state);
  const list = h(List, {
    size: { columns, rows: Math.max(2, rows - DETAIL_ROWS) },
    head: headLine(columns),
    count: all.length,
    chosen,
    line: (row) => rowLine(all[row]!, model, columns),
    empty: 'No PASID yet.',
  });
  return h(
    Box,
    { flexDirection: 'column', width: columns, height: rows, overflow: 'hidden' },
    list,
    ...detail(all[chosen], model.pasids.dropped, columns),
  );
}

function shown(columns: number): readonly Column[] {
  const wide = breadthOf(columns) === 'wide';
  return COLUMNS.filter((column) => wide || column.wide !== true);
}

const spaced = ({ width, align }: Column, text: string): string =>
  ` ${cell(text, width, align ?? 'left')}`;

const headLine = (columns: number): Span[] => [
  span(' '),
  ...shown(columns).map((column) => span(spaced(column, column.title), 'title')),
  ...(breadthOf(columns) === 'narrow' ? [] : [span('  through time', 'title')]),
];

function rowLine(row: PasidRow, model: Model, columns: number): Span[] {
  const cells = shown(columns).map((column) => {
    const { text, tone } = column.of(row, model);
    return span(spaced(column, text), tone);
  });
  if (breadthOf(columns) === 'narrow') return cells;
  const signs = row.steps.map(({ phase }) => span(`${PHASE_SIGNS[phase]} `, phase));
  const dots = row.stepCount > row.steps.length ? '…' : '';
  const used = [...cells, span(`  ${dots}`), ...signs];
  const width = used.reduce((sum, { text }) => sum + text.length, 0);
  return [...used, span(' '.repeat(Math.max(0, columns - width - 1)))];
}

/** A PASID that the guest took away while the host still has it: its requests are drained. */
function drains({ vm, device, pasid }: PasidRow, { entries }: Model): boolean {
  const guest = entries.writes.get(`${vm}//${pasid}`)?.at(-1);
  const host = entries.writes.get(`host/${device}/${pasid}`)?.at(-1);
  return guest?.change === 'clear' && host !== undefined && host.change !== 'clear';
}

function hitsSpan({ device, pasid }: PasidRow, { entries }: Model): Span {
  const rate = entries.rates.get(`${device}/${pasid}`);
  const part = rate === undefined ? undefined : hitRate(rate);
  return span(part === undefined ? '-' : `${Math.round(100 * part)}%`);
}

function stateSpan(row: PasidRow, model: Model): Span {
  const phase = phaseNow(row);
  if (phase !== undefined && phase !== 'detached' && drains(row, model)) {
    return span('◌ draining', 'waiting');
  }
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
