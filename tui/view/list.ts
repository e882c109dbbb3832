import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { windowStart } from '../format.ts';
import { Line, type Span, span } from './line.ts';
import type { Size } from './size.ts';

export interface ListProps {
  readonly size: Size;
  readonly head: readonly Span[];
  /** Lines in all, and the one that is chosen. */
  readonly count: number;
  readonly chosen: number;
  /** Lines are made only where they are seen. */
  readonly line: (row: number, chosen: boolean) => readonly Span[];
  /** What is said where there is none. */
  readonly empty: string;
}

/** A list under its heading, scrolled so that the chosen line is seen. */
export function List({ size, head, count, chosen, line, empty }: ListProps): ReactElement {
  const { columns, rows } = size;
  const height = Math.max(1, rows - 1);
  const start = windowStart(count, chosen, height);
  const shown = Array.from({ length: Math.min(height, count - start) }, (_, i) => start + i);
  return h(
    Box,
    { flexDirection: 'column', width: columns, height: rows, overflow: 'hidden' },
    h(Line, { spans: head }),
    ...shown.map((row) =>
      h(Line, {
        key: row,
        selected: row === chosen,
        spans: [span(row === chosen ? '>' : ' ', 'key'), ...line(row, row === chosen)],
      }),
    ),
    count === 0 ? h(Line, { spans: [span(`  ${empty}`, 'muted')] }) : null,
  );
}

/** Two parts of a view: beside each other where it is wide, else one below the other. */
export function Panes({
  size,
  upper,
  lower,
  wide,
}: {
  readonly size: Size;
  readonly upper: ReactElement;
  readonly lower: ReactElement;
  readonly wide: boolean;
}): ReactElement {
  return h(
    Box,
    {
      flexDirection: wide ? 'row' : 'column',
      width: size.columns,
      height: size.rows,
      overflow: 'hidden',
      gap: wide ? 2 : 0,
    },
    upper,
    lower,
  );
}

/** Room for the two parts: `share` of the columns for the list, or so many rows for what is below. */
export function split(
  { columns, rows }: Size,
  wide: boolean,
  share: number,
  below: number,
): { readonly upper: Size; readonly lower: Size } {
  if (wide) {
    const left = Math.floor(columns * share);
    return { upper: { columns: left, rows }, lower: { columns: columns - left - 2, rows } };
  }
  const upper = Math.max(5, rows - below);
  return { upper: { columns, rows: upper }, lower: { columns, rows: rows - upper } };
}
