import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { cell } from '../format.ts';
import { type Focus, groupsFor, KEYMAP, type KeyGroup, type Scope } from '../keymap.ts';
import { Line, Rule, type Span, span } from './line.ts';
import type { Size } from './size.ts';

const WHERE: Readonly<Record<Scope, string>> = {
  always: '',
  lists: 'lists',
  steps: 'views',
  trace: 'Trace',
  entry: 'entry',
  walkthrough: 'tour',
  typing: 'typing',
};

const KEY_COLUMNS = 19;
const WHERE_COLUMNS = 7;

/** So wide that two columns of keys fit, whole. */
const TWO_COLUMNS = 150;

/** The keys as the keymap declares them: first those that are heard here, then, with room, the others. */
export function Help({ size, focus }: { size: Size; focus: Focus }): ReactElement {
  const { columns, rows } = size;
  const heard = groupsFor(focus);
  const all = [...heard, ...KEYMAP.filter((group) => !heard.includes(group))];
  const room = rows - 1;
  const two = all.length > room && columns >= TWO_COLUMNS;
  const left = two ? Math.ceil(all.length / 2) : Math.min(room, all.length);
  const half = Math.floor(columns / 2);
  return h(
    Box,
    { flexDirection: 'column', width: columns, height: rows, overflow: 'hidden' },
    h(Rule, { title: 'Keys', width: columns }),
    ...all.slice(0, left).map((group, key) => {
      const beside = two ? all[left + key] : undefined;
      const spans = groupLine(group);
      if (beside === undefined) return h(Line, { key, spans });
      const width = spans.reduce((sum, { text }) => sum + text.length, 0);
      const gap = span(' '.repeat(Math.max(1, half - width)));
      return h(Line, { key, spans: [...spans, gap, ...groupLine(beside)] });
    }),
  );
}

const groupLine = ({ written, help, scope }: KeyGroup): Span[] => [
  span(`  ${cell(written, KEY_COLUMNS)}`, 'key'),
  span(cell(WHERE[scope], WHERE_COLUMNS), 'muted'),
  span(help),
];
