import { createElement as h, type ReactElement } from 'react';
import { cell } from '../format.ts';
import { type AppState, rowOf } from '../state/app.ts';
import { objectsOf } from '../state/lists.ts';
import type { ObjectRow } from '../state/object-tree.ts';
import type { Tone } from '../theme.ts';
import { type Span, span } from './line.ts';
import { List } from './list.ts';
import { breadthOf, type Size } from './size.ts';

const TONES: Readonly<Record<ObjectRow['kind'], Tone>> = {
  process: 'title',
  kernel: 'title',
  object: 'host',
  area: 'muted',
  attachment: 'device',
};

const SIGNS: Readonly<Record<ObjectRow['kind'], string>> = {
  process: '',
  kernel: '',
  object: '└ ',
  area: '└ ',
  attachment: '└◄ ',
};

/** The iommufd objects of each process as the tree they are, with who refers to whom. */
export function Objects({ state, size }: { state: AppState; size: Size }): ReactElement {
  const rows = objectsOf(state.model);
  const { columns } = size;
  const wide = breadthOf(columns) === 'wide';
  const title = wide ? Math.floor(columns * 0.36) : Math.floor(columns * 0.52);
  const detail = wide ? Math.floor(columns * 0.28) : columns - title - 2;
  const users = columns - title - detail - 3;
  const line = (row: number): readonly Span[] => {
    const { depth, kind, title: name, detail: told, users: by } = rows[row]!;
    const text = `${'  '.repeat(Math.max(0, depth - 1))}${SIGNS[kind]}${name}`;
    if (!wide) {
      const rest = by === '' ? told : `${told} ← ${by}`;
      return [span(cell(text, title), TONES[kind]), span(` ${cell(rest, detail)}`)];
    }
    return [
      span(cell(text, title), TONES[kind]),
      span(` ${cell(told, detail)}`),
      span(` ${cell(by === '' ? '' : `← ${by}`, users)}`, 'muted'),
    ];
  };
  const head = wide
    ? ` ${cell('object', title)} ${cell('what', detail)} referred to by`
    : ` ${cell('object', title)} what ← referred to by`;
  return h(List, {
    size,
    head: [span(head, 'title')],
    count: rows.length,
    chosen: rowOf(state),
    line,
    empty: 'No object yet: no process has opened /dev/iommu.',
  });
}
