import { styleText } from 'node:util';
import type { Layer } from '../../trace/event.ts';
import type { Line } from '../../trace/story/walkthrough.ts';

const COLOURS = {
  guest: 'green',
  vmm: 'yellow',
  host: 'cyan',
  vtd: 'magenta',
  device: 'blue',
  engine: 'gray',
} as const satisfies Record<Layer, string>;

/** Colour only where standard output is a terminal that has it; NO_COLOR and FORCE_COLOR decide. */
const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
  styleText(style, text, { stream: process.stdout });

/** A line of the walkthrough, ready for standard output. */
export function printed(line: Line): string {
  switch (line.kind) {
    case 'phase':
      return `\n${paint('bold', `${line.number}. ${line.text}`)}`;
    case 'event':
      return paint(COLOURS[line.layer], line.margin) + line.text;
    case 'more':
      return line.text;
    case 'fold':
      return paint('dim', line.text);
  }
}

export const bold = (text: string): string => paint('bold', text);

/** In a file or a pipe. */
export const DEFAULT_COLUMNS = 100;

/** As wide as the terminal, within reason. */
export function columns(): number {
  if (!process.stdout.isTTY) return DEFAULT_COLUMNS;
  return Math.min(Math.max(process.stdout.columns, 60), 160);
}
