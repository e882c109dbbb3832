import { createElement as h, type ReactElement } from 'react';
import { timeText } from '../../trace/story/text.ts';
import { cell } from '../format.ts';
import { type AppState, rowOf } from '../state/app.ts';
import { phasePage } from '../state/lists.ts';
import type { PageLine } from '../state/page.ts';
import { type Span, span } from './line.ts';
import { List } from './list.ts';
import type { Size } from './size.ts';

/** The run as a guided tour: one phase at a time, on and back. */
export function Walkthrough({ state, size }: { state: AppState; size: Size }): ReactElement {
  if (state.opened) return h(Tours, { state, size });
  const page = phasePage(state.model);
  const { number, title, events, ns, cut, lines } = page;
  const name = state.tours[state.tour]?.name;
  const tour = name === undefined ? '' : `${name}: `;
  const rest = ` (${events} events in ${timeText(ns)}${cut ? ', its beginning is not kept' : ''})`;
  const head =
    number === 0
      ? [span(` ${tour}${title}. Press n.`, 'title')]
      : [span(` ${tour}${number}. ${title}`, 'title'), span(rest, 'muted')];
  return h(List, {
    size,
    head,
    count: lines.length,
    chosen: rowOf(state),
    line: (row) => pageSpans(lines[row]!, size.columns - 1),
    empty: number === 0 ? 'n: the first phase; o: choose a tour.' : 'Nothing of note.',
  });
}

function pageSpans(line: PageLine, width: number): Span[] {
  const { kind, text, layer, bad } = line;
  const tone = layer ?? 'plain';
  switch (kind) {
    case 'heading':
      return [span(text, 'title')];
    case 'sentence':
      return [span(bad === true ? '  ! ' : '  · ', bad === true ? 'bad' : tone), span(text)];
    case 'change':
      return [span('  Δ ', 'changed'), span(text, tone)];
    case 'field':
      return [span(`      ${cell(text, width - 6)}`, text.startsWith('*') ? 'changed' : 'muted')];
    case 'event':
      return [span(`  ${cell(layer ?? '', 7)}`, tone), span(text)];
    case 'source':
      return [span('  » ', tone), span(text)];
    case 'more':
      return [span(`  ${text}`, 'muted')];
  }
}

function Tours({ state, size }: { state: AppState; size: Size }): ReactElement {
  const { tours, tour, rows } = state;
  const width = Math.max(0, ...tours.map(({ name }) => name.length));
  return h(List, {
    size,
    head: [span(' Tours: Enter takes one, Esc stays', 'title')],
    count: tours.length,
    chosen: Math.min(rows.walkthrough, tours.length - 1),
    line: (row) => {
      const { name, what } = tours[row]!;
      return [
        span(row === tour ? '▶ ' : '  ', 'good'),
        span(`${name.padEnd(width)}  `, 'key'),
        span(what),
      ];
    },
    empty: 'This run was given from outside: there is no other tour here.',
  });
}
