import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import {
  type ChainState,
  GAUGES,
  history,
  LINKS,
  ratePerMs,
  STOREYS,
  type Storey,
} from '../../trace/state/chain.ts';
import type { Notable, RunState } from '../../trace/state/run.ts';
import { wrap } from '../../trace/story/text.ts';
import { bytesText, cell, countText, momentText, sparkline } from '../format.ts';
import type { AppState } from '../state/app.ts';
import { WEIGHT_SIGNS } from '../theme.ts';
import { lines, Rule, type Span, span } from './line.ts';
import { machineLines } from './machines.ts';
import { breadthOf, type Size } from './size.ts';

const NAMES: Readonly<Record<Storey, string>> = {
  guest: 'guest',
  vmm: 'VMM',
  host: 'host kernel',
  vtd: 'VT-d',
  device: 'device',
};

const NAME_COLUMNS = 13;
const SECOND_PANE = 56;

/** Bars at most: as many as the history has. */
const MOST_BARS = 60;

/** The chain from the program to the silicon, what crosses each link, and what happened last. */
export function Overview({ state, size }: { state: AppState; size: Size }): ReactElement {
  const { columns, rows } = size;
  const { chain, run } = state.model;
  const wide = breadthOf(columns) === 'wide';
  const width = wide ? columns - SECOND_PANE - 2 : columns;
  const roomy = rows >= chainLines(chain, width, true).length + 4;
  const drawn = chainLines(chain, width, roomy);
  const below = wide ? [[span('')], ...machineLines(state.model, width)] : [];
  const left = h(
    Box,
    { flexDirection: 'column', width, height: rows, overflow: 'hidden' },
    lines([...drawn, ...below].slice(0, rows - 1)),
    h(Box, { flexGrow: 1 }),
    wide ? null : lately(run.lately, Math.max(1, rows - drawn.length - 1), width),
  );
  if (!wide) return left;
  return h(
    Box,
    { width: columns, height: rows, overflow: 'hidden', gap: 2 },
    left,
    h(Lately, { run, size: { columns: SECOND_PANE, rows } }),
  );
}

/** Storeys with the links to the next one below; the link from guest to device comes last. */
function chainLines(chain: ChainState, width: number, roomy: boolean): Span[][] {
  const all: Span[][] = [];
  STOREYS.forEach((storey, depth) => {
    if (roomy) all.push([span(`┌${'─'.repeat(width - 2)}┐`, storey)]);
    all.push(storeyLine(chain, storey, width, roomy));
    if (roomy) all.push([span(`└${'─'.repeat(width - 2)}┘`, storey)]);
    const below = STOREYS[depth + 1];
    LINKS.forEach((link, index) => {
      const down = link.from === storey && link.to === below;
      const up = link.to === storey && link.from === below;
      const straight = below === undefined && link.from === 'guest' && link.to === 'device';
      if (down || up || straight) {
        all.push(linkLine(chain, index, straight ? '⇓' : down ? '↓' : '↑', width));
      }
    });
  });
  return all;
}

function storeyLine(chain: ChainState, storey: Storey, width: number, roomy: boolean): Span[] {
  const counts: string[] = [];
  GAUGES.forEach((gauge, index) => {
    if (gauge.storey !== storey) return;
    const value = chain.gauges[index] ?? 0;
    counts.push(`${gauge.label} ${gauge.bytes === true ? bytesText(value) : countText(value)}`);
  });
  const inner = roomy ? width - 4 : width - 2;
  const events = breadthOf(width) === 'narrow' ? '' : `${countText(chain.events[storey])} events`;
  const body = cell(counts.join('   '), inner - NAME_COLUMNS - events.length - 1);
  return [
    span(roomy ? '│ ' : '■ ', storey),
    span(cell(NAMES[storey], NAME_COLUMNS), storey, true),
    span(`${body} `),
    span(events, 'muted'),
    span(roomy ? ' │' : '', storey),
  ];
}

function linkLine(chain: ChainState, index: number, arrow: string, width: number): Span[] {
  const link = LINKS[index]!;
  const label = arrow === '⇓' ? `${link.label} (from guest)` : link.label;
  const rate = ratePerMs(chain, index);
  const left = `    ${arrow} ${cell(label, 24)}${cell(countText(chain.links[index] ?? 0), 7, 'right')}`;
  const rateText = `${cell(countText(rate), 7, 'right')}/ms  `;
  const bars = Math.min(MOST_BARS, width - left.length - rateText.length);
  return [
    span(left),
    span(rateText, 'muted'),
    span(sparkline(history(chain, index, bars), bars), link.from),
  ];
}

/** The last notable things in at most so many lines, the newest below; each begins whole. */
function lately(all: readonly Notable[], rows: number, columns: number): ReactElement[] {
  if (all.length === 0) {
    return lines([[span('  Nothing has happened yet.', 'muted')]]);
  }
  if (rows === 1) return lines(all.slice(-1).map((last) => sentenceLine(last, told(last), true)));
  const shown: Span[][] = [];
  for (let i = all.length - 1; i >= 0; i--) {
    const sentence = sentenceLines(all[i]!, columns);
    if (shown.length > 0 && shown.length + sentence.length > rows) break;
    shown.unshift(...sentence);
  }
  return lines(shown.slice(0, rows));
}

/** The same in a pane of its own. */
function Lately({ run, size }: { run: RunState; size: Size }): ReactElement {
  return h(
    Box,
    { flexDirection: 'column', width: size.columns, height: size.rows, overflow: 'hidden' },
    h(Rule, { title: 'What happened (ms)', width: size.columns }),
    lately(run.lately, size.rows - 1, size.columns),
  );
}

const TIME_COLUMNS = 11;
const MARGIN = TIME_COLUMNS + 3;

/** The sentence, and how often it was said in a row. */
const told = ({ text, times }: Notable): string => (times === 1 ? text : `${text} (×${times})`);

/** A sentence with its time and sign; what is too long goes on in the next line. */
const sentenceLines = (notable: Notable, columns: number): Span[][] =>
  wrap(told(notable).split(/\s+/), columns - MARGIN, 0).map((part, i) =>
    sentenceLine(notable, part, i === 0),
  );

const sentenceLine = ({ ns, weight }: Notable, part: string, first: boolean): Span[] => [
  span(`${cell(first ? momentText(ns) : '', TIME_COLUMNS, 'right')} `, 'muted'),
  span(first ? `${WEIGHT_SIGNS[weight]} ` : '  ', weight),
  span(part, weight === 'bad' ? 'bad' : 'plain'),
];
