import { Box, Text } from 'ink';
import { createElement as h, type ReactElement, useContext } from 'react';
import { printable } from '../format.ts';
import { Colours, lookOf, type Tone } from '../theme.ts';

/** A piece of a line. */
export interface Span {
  readonly text: string;
  readonly tone?: Tone;
  readonly bold?: boolean;
}

/** `text` in a tone: the short way to write a span. */
export const span = (text: string, tone?: Tone, bold?: boolean): Span => ({
  text,
  ...(tone !== undefined && { tone }),
  ...(bold !== undefined && { bold }),
});

export interface LineProps {
  readonly spans: readonly Span[];
  /** The chosen line of a list. */
  readonly selected?: boolean;
}

/** One line of the screen: always one row, cut where the screen ends. */
export function Line({ spans, selected = false }: LineProps): ReactElement {
  const palette = useContext(Colours);
  return h(
    Box,
    { height: 1, flexShrink: 0, overflow: 'hidden' },
    h(
      Text,
      { wrap: 'truncate-end', inverse: selected },
      ...spans.map(({ text, tone = 'plain', bold }, key) =>
        h(Text, { key, ...lookOf(tone, palette), ...(bold === true && { bold }) }, printable(text)),
      ),
    ),
  );
}

/** Lines, one below the other. */
export const lines = (all: readonly (readonly Span[])[]): ReactElement[] =>
  all.map((spans, key) => h(Line, { key, spans }));

/** A heading over a part of the screen: its title in a rule of the given width. */
export function Rule({ title, width }: { title: string; width: number }): ReactElement {
  const rest = Math.max(0, width - title.length - 4);
  return h(Line, {
    spans: [span('─ ', 'muted'), span(title, 'title'), span(` ${'─'.repeat(rest)}`, 'muted')],
  });
}
