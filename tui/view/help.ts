import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { cell } from '../format.ts';
import { KEYMAP, type KeyGroup, type Scope } from '../keymap.ts';
import { Line, Rule, type Span, span } from './line.ts';
import type { Size } from './size.ts';

const WHERE: Readonly<Record<Scope, string>> = {
  always: '',
  lists: 'lists',
  trace: 'Trace',
  typing: 'filter',
};

const KEY_COLUMNS = 15;
const WHERE_COLUMNS = 7;

/** All keys, as the keymap declares them. In a low window what is said for the filter line is cut. */
export function Help({ size }: { size: Size }): ReactElement {
  return h(
    Box,
    { flexDirection: 'column', width: size.columns, height: size.rows, overflow: 'hidden' },
    h(Rule, { title: 'Keys', width: size.columns }),
    ...KEYMAP.slice(0, size.rows - 1).map((group, key) =>
      h(Line, { key, spans: groupLine(group) }),
    ),
  );
}

const groupLine = ({ written, help, scope }: KeyGroup): Span[] => [
  span(`  ${cell(written, KEY_COLUMNS)}`, 'key'),
  span(cell(WHERE[scope], WHERE_COLUMNS), 'muted'),
  span(help),
];
