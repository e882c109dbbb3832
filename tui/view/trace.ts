import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import type { EventRecord } from '../../trace/event.ts';
import { cell, countText, momentText, windowStart } from '../format.ts';
import { type AppState, selectedEvent, selectedIndex } from '../state/app.ts';
import { causeChain, eventText, MOST_EVENTS, matching, type TraceState } from '../state/trace.ts';
import { Line, Rule, type Span, span } from './line.ts';
import { breadthOf, causeRows, type Size, traceListRows } from './size.ts';

const LAYER_COLUMNS = 7;
const TIME_COLUMNS = 12;

/** The events one by one, and why the chosen one happened. */
export function Trace({ state, size }: { state: AppState; size: Size }): ReactElement {
  const { columns, rows } = size;
  const { trace } = state.model;
  const wide = breadthOf(columns) === 'wide';
  const listWidth = wide ? Math.floor(columns * 0.58) : columns;
  const listRows = traceListRows(size);
  const chosen = selectedIndex(state);
  const record = trace.matches[chosen] ?? selectedEvent(state);
  const causeSize: Size = wide
    ? { columns: columns - listWidth - 2, rows }
    : { columns, rows: causeRows(rows) };
  const list = h(
    Box,
    { flexDirection: 'column', width: listWidth, height: listRows + 1, overflow: 'hidden' },
    h(Line, { spans: headLine(state) }),
    ...listLines(trace, state.search, chosen, listRows, listWidth),
  );
  return h(
    Box,
    {
      flexDirection: wide ? 'row' : 'column',
      width: columns,
      height: rows,
      overflow: 'hidden',
      gap: wide ? 2 : 0,
    },
    list,
    h(Causes, { trace, record, size: causeSize }),
  );
}

function headLine(state: AppState): Span[] {
  const { events, filter, matches } = state.model.trace;
  const kept = events.length >= MOST_EVENTS ? `last ${countText(MOST_EVENTS)} events` : 'events';
  const count =
    filter === '' ? `${events.length} ${kept}` : `${matches.length} of ${events.length} ${kept}`;
  const mode = state.follow ? 'following' : 'staying';
  const { search, typing } = state;
  const line = (sign: string, text: string, open: boolean): Span[] =>
    text === '' && !open
      ? []
      : [span(`   ${sign} `, 'key'), span(text, 'title'), ...(open ? [span('▏')] : [])];
  return [
    span(`${cell('ms', TIME_COLUMNS + 1, 'right')} ${count}, ${mode}`, 'muted'),
    ...line('/', filter, typing === 'filter'),
    ...line('search', search, typing === 'search'),
  ];
}

function listLines(
  { matches }: TraceState,
  search: string,
  chosen: number,
  rows: number,
  width: number,
): ReactElement[] {
  if (matches.length === 0) {
    return [h(Line, { key: 'none', spans: [span('  No event to show.', 'muted')] })];
  }
  const found = search.trim() === '' ? () => false : matching(search);
  const start = windowStart(matches.length, chosen, rows);
  return matches.slice(start, start + rows).map((record, i) =>
    h(Line, {
      key: record.seq,
      selected: start + i === chosen,
      spans: listLine(record, start + i === chosen, found(record), width),
    }),
  );
}

function listLine(record: EventRecord, chosen: boolean, found: boolean, width: number): Span[] {
  const margin = `${chosen ? '>' : found ? '*' : ' '}${cell(momentText(record.ns), TIME_COLUMNS, 'right')} `;
  const layer = cell(record.def.layer, LAYER_COLUMNS);
  return [
    span(margin, 'muted'),
    span(layer, record.def.layer),
    span(
      cell(eventText(record), width - margin.length - layer.length),
      found ? 'changed' : 'plain',
    ),
  ];
}

interface CausesProps {
  readonly trace: TraceState;
  readonly record: EventRecord | undefined;
  readonly size: Size;
}

/** From the first cause down to the event, then what it led to. The event itself is never cut off. */
function Causes({ trace, record, size }: CausesProps): ReactElement {
  const { columns, rows } = size;
  const frame = {
    flexDirection: 'column',
    width: columns,
    height: rows,
    overflow: 'hidden',
  } as const;
  if (record === undefined) {
    return h(Box, frame, h(Rule, { title: 'Why it happened', width: columns }));
  }
  const room = rows - 2;
  const { causes, cut, effects } = causeChain(trace, record, Math.max(1, room >> 1));
  const upper = room - Math.min(effects.length, Math.max(1, room >> 2));
  const told = causes.slice(-upper);
  const hidden = causes.length - told.length;
  const from = cut || hidden > 0 ? ` (it begins earlier${hidden > 0 ? ` by ${hidden}` : ''})` : '';
  const led = effects.slice(0, room - told.length);
  return h(
    Box,
    frame,
    h(Rule, { title: `Why event ${record.seq} happened${from}`, width: columns }),
    ...told.map((cause, depth) =>
      h(Line, { key: cause.seq, spans: causeLine(cause, depth, cause === record) }),
    ),
    h(Line, { key: 'meaning', spans: [span(`  = ${record.def.meaning}`, 'muted')] }),
    ...led.map((effect) =>
      h(Line, { key: effect.seq, spans: causeLine(effect, told.length, false) }),
    ),
  );
}

/** Deeper causes would leave no room for the text. */
const DEEPEST = 12;

function causeLine(record: EventRecord, depth: number, self: boolean): Span[] {
  const branch = depth === 0 ? '' : `${'  '.repeat(Math.min(depth, DEEPEST) - 1)}└ `;
  return [
    span(` ${branch}`, 'muted'),
    span(`${record.def.layer} `, record.def.layer),
    span(eventText(record), self ? 'title' : 'plain'),
  ];
}
