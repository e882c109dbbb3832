import type { PlayState } from './state/app.ts';
import { SPEEDS } from './state/app.ts';

/** Text that does nothing to a terminal: what guests and devices say ends up on the screen. */
export const printable = (text: string): string => text.replace(/\p{C}/gu, '·');

/** Text in exactly `width` columns: cut with a sign that it was, or padded. */
export function cell(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  if (width <= 0) return '';
  if (text.length > width) return width === 1 ? '…' : `${text.slice(0, width - 1)}…`;
  return align === 'left' ? text.padEnd(width) : text.padStart(width);
}

/** A count in at most five columns: 999, 12.3k, 4.56M. */
export function countText(count: number): string {
  if (count < 10_000) return String(Math.round(count));
  if (count < 1_000_000) return `${digits(count / 1000)}k`;
  if (count < 1_000_000_000) return `${digits(count / 1_000_000)}M`;
  return `${digits(count / 1_000_000_000)}G`;
}

/** Bytes in binary units. */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${digits(value)} ${units[unit]!}`;
}

const digits = (value: number): string =>
  value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);

/** Virtual time to the nanosecond, in milliseconds: events lie nanoseconds apart in a long run. */
export function momentText(ns: number): string {
  const whole = Math.floor(ns / 1_000_000);
  return `${whole}.${String(Math.floor(ns % 1_000_000)).padStart(6, '0')}`;
}

const BARS = '▁▂▃▄▅▆▇█';

/** One bar a value, the highest of them full; a blank for zero, and for bars not yet known. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = width <= 0 ? [] : values.slice(-width);
  const most = Math.max(...shown, 0);
  const bars = shown.map((value) =>
    value <= 0 ? ' ' : BARS[Math.min(BARS.length - 1, Math.floor((value / most) * BARS.length))],
  );
  return bars.join('').padStart(Math.max(0, width));
}

export function speedText({ speed }: PlayState): string {
  const events = SPEEDS[speed] ?? Infinity;
  return Number.isFinite(events) ? `${events}/s` : 'full speed';
}

/** Which lines of a long list to show so that the chosen one is among them, in the middle if it can. */
export function windowStart(total: number, chosen: number, height: number): number {
  const latest = Math.max(0, total - height);
  return Math.min(latest, Math.max(0, chosen - (height >> 1)));
}
