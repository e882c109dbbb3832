import { type EventRecord, type FieldKind, type FieldValue, KINDS } from '../event.ts';

/** Virtual time in the unit that reads best: `812 ns`, `12.3 us`, `4.56 ms`, `1.20 s`. */
export function timeText(ns: number): string {
  if (ns < 1000) return `${ns} ns`;
  if (ns < 1_000_000) return `${threeDigits(ns / 1000)} us`;
  if (ns < 1_000_000_000) return `${threeDigits(ns / 1_000_000)} ms`;
  return `${threeDigits(ns / 1_000_000_000)} s`;
}

const threeDigits = (value: number): string =>
  value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);

/** `0000:00:01.0` and `00:01.0` are one function, and there is one segment: the short one is written. */
export const functionName = (name: string): string => name.replace(/^0000:/, '');

/** One field value as its declaration says it is shown. */
export function valueText(kind: FieldKind, value: FieldValue): string {
  if (KINDS[kind].value === 'word') return `0x${BigInt(value).toString(16)}`;
  return kind === 'sid' || kind === 'device' ? functionName(String(value)) : String(value);
}

/** Fields that name the thing itself and so are shown without their key, right after the event. */
const BARE = new Set([
  'args',
  'change',
  'command',
  'decoded',
  'descriptor',
  'name',
  'operation',
  'register',
  'step',
  'what',
]);

/** Fields told by the line's margin. */
const SILENT = new Set(['vm']);

/** Words that an earlier event told, or that the decoded entry tells. */
const HIDDEN = new Set(['old0', 'old1', 'old2']);

/** Numbers of objects where 0 means that there is none. */
const NONE_AT_ZERO = new Set(['hwpt', 'old', 'parent']);

/** Without the subsystem; a system call by its name, as `perf trace` tells it. */
const shortName = (name: string): string =>
  name
    .slice(name.indexOf(':') + 1)
    .replace(/^sys_enter_/, '')
    .replace(/^sys_exit_(.*)/, '$1_return');

/** The event's name as a reader of the kernel knows it, and its values, ready to be wrapped. */
export function eventWords(record: EventRecord, withVm: boolean): string[] {
  const { def, values } = record;
  const words = [shortName(def.name)];
  for (const [field, kind] of Object.entries(def.fields)) {
    const value = values[field];
    if (value === undefined || value === '' || (SILENT.has(field) && !withVm)) continue;
    if (HIDDEN.has(field) || (value === 0 && NONE_AT_ZERO.has(field))) continue;
    const text = valueText(kind, value);
    if (field === 'unit') {
      if (text !== 'host') words.push(`(virtual unit of ${text})`);
    } else if (BARE.has(field)) words.push(...split(text));
    else words.push(...split(`${field}=${text}`));
  }
  return words;
}

const split = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '');

/**
 * Joins words into lines no wider than `width`, later lines indented by `hang`. A word that is too
 * long for a line has a line of its own, whole, so that it can be copied and searched for.
 */
export function wrap(words: readonly string[], width: number, hang: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of words) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = ' '.repeat(hang) + word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  if (line !== '') lines.push(line);
  return lines;
}
