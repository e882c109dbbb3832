import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { timeText } from '../../trace/story/text.ts';
import { cell, countText, momentText } from '../format.ts';
import { type AppState, rowOf } from '../state/app.ts';
import { type FaultRow, faultRows } from '../state/lists.ts';
import { isOpen, lastStage, STAGES, type Trip, tripNs, WAITS_FOR } from '../state/trips.ts';
import { lines, Rule, type Span, span } from './line.ts';
import { List, Panes, split } from './list.ts';
import { breadthOf, type Size } from './size.ts';

const TIME_COLUMNS = 12;
const DETAIL_ROWS = 8;

/** Page requests with how far each came, and errors with their reasons, as they happened. */
export function Faults({ state, size }: { state: AppState; size: Size }): ReactElement {
  const { model } = state;
  const rows = faultRows(model);
  const chosen = rowOf(state);
  const wide = breadthOf(size.columns) === 'wide';
  const { upper, lower } = split(size, wide, 0.62, DETAIL_ROWS);
  const open = model.trips.trips.filter(isOpen).length;
  const { expected } = model.errors;
  const told =
    `${cell('ms', TIME_COLUMNS + 1, 'right')} ${countText(model.trips.trips.length)} page requests,` +
    ` ${open} open; ${countText(model.errors.count - expected)} errors;` +
    ` ${countText(expected)} times not translated`;
  const list = h(List, {
    size: upper,
    head: [span(told, 'muted')],
    count: rows.length,
    chosen,
    line: (row) => rowSpans(rows[row]!, upper.columns - 1),
    empty: 'No page request and no error yet.',
  });
  return h(Panes, {
    size,
    wide,
    upper: list,
    lower: h(Detail, { row: rows[chosen], size: lower }),
  });
}

function rowSpans(row: FaultRow, width: number): Span[] {
  if (row.kind === 'problem') {
    const { ns, layer, what, why } = row.problem;
    const room = width - TIME_COLUMNS - 11;
    return [
      span(`${cell(momentText(ns), TIME_COLUMNS, 'right')} `, 'muted'),
      span('! ', 'bad'),
      span(cell(layer, 7), layer),
      span(cell(`${what}: ${why}`, room), 'bad'),
    ];
  }
  const { trip } = row;
  const { device, pasid, address, write, reached } = trip;
  const open = isOpen(trip);
  const end = open ? `waits for ${WAITS_FOR[lastStage(trip)]}` : trip.answer;
  const who = breadthOf(width) === 'narrow' ? `${pasid}` : `${device} PASID ${pasid}`;
  const room = width - TIME_COLUMNS - STAGES.length - 13;
  return [
    span(`${cell(momentText(reached[0]?.ns ?? 0), TIME_COLUMNS, 'right')} `, 'muted'),
    span(open ? '… ' : trip.answer === 'success' ? '✓ ' : '✗ ', open ? 'waiting' : 'good'),
    span(progress(trip), open ? 'waiting' : 'device'),
    span(cell(timeText(tripNs(trip)), 9, 'right'), 'muted'),
    span(cell(` ${who} ${address} ${write ? 'w' : 'r'} ${end}`, room)),
  ];
}

/** A sign for each stage: reached, or still to come. */
function progress(trip: Trip): string {
  const reached = new Set(trip.reached.map(({ stage }) => stage));
  return STAGES.map((_, stage) => (reached.has(stage) ? '●' : '·')).join('');
}

function Detail({ row, size }: { row: FaultRow | undefined; size: Size }): ReactElement {
  const frame = {
    flexDirection: 'column',
    width: size.columns,
    height: size.rows,
    overflow: 'hidden',
  } as const;
  if (row === undefined) return h(Box, frame);
  const { title, told } =
    row.kind === 'trip' ? tripDetail(row.trip, size) : problemDetail(row, size.columns);
  return h(
    Box,
    frame,
    h(Rule, { title, width: size.columns }),
    ...lines(told.slice(0, size.rows - 1)),
  );
}

function problemDetail(
  { problem }: Extract<FaultRow, { kind: 'problem' }>,
  width: number,
): { title: string; told: Span[][] } {
  const { what, why, seq } = problem;
  const cut = (text: string): string[] =>
    Array.from({ length: Math.ceil(text.length / (width - 2)) }, (_, i) =>
      text.slice(i * (width - 2), (i + 1) * (width - 2)),
    );
  return {
    title: `Error, event ${seq}`,
    told: [
      ...cut(what).map((text) => [span(` ${text}`, 'bad')]),
      ...cut(why).map((text) => [span(` ${text}`)]),
    ],
  };
}

/** The stages with the time each took: in columns where the pane is low. */
function tripDetail(trip: Trip, { columns, rows }: Size): { title: string; told: Span[][] } {
  const { pasid, address, prgi, vm, reached } = trip;
  const begin = reached[0]?.ns ?? 0;
  const cells = STAGES.map(({ told }, stage): Span[] => {
    const here = reached.find((one) => one.stage === stage);
    const time = here === undefined ? '' : `+${timeText(here.ns - begin)}`;
    const width = perColumn - 13;
    return [
      span(here === undefined ? ' · ' : ' ● ', here === undefined ? 'muted' : 'device'),
      span(cell(told, width), here === undefined ? 'muted' : 'plain'),
      span(cell(time, 10, 'right'), 'muted'),
    ];
  });
  const high = Math.max(1, rows - 1);
  const told =
    high >= cells.length
      ? cells
      : Array.from({ length: Math.ceil(cells.length / 2) }, (_, i) => [
          ...cells[i]!,
          ...(cells[i + Math.ceil(cells.length / 2)] ?? []),
        ]);
  const of = vm === '' ? '' : ` of ${vm}`;
  const title = `Page request ${prgi}, ${address}, PASID ${pasid}${of}`;
  return { title: title.slice(0, columns - 6), told };
}

/** Columns of a stage. */
const perColumn = 38;
