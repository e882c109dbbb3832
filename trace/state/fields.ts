import type { EventRecord } from '../event.ts';

export { functionName } from '../story/text.ts';

/** A field as text, empty where the event has none. */
export const text = (record: EventRecord, field: string): string =>
  String(record.values[field] ?? '');

/** A field as a number, 0 where the event has none. */
export function num(record: EventRecord, field: string): number {
  const value = Number(record.values[field] ?? 0);
  return Number.isFinite(value) ? value : 0;
}

/** A field as an address is read aloud. */
export function hex(record: EventRecord, field: string): string {
  const value = record.values[field] ?? 0;
  return typeof value === 'string' ? value : `0x${value.toString(16)}`;
}

/** The last `most` of a list and what is added to it, without growing beyond. */
export function keepLast<T>(old: readonly T[], more: readonly T[], most: number): readonly T[] {
  if (more.length === 0) return old;
  if (more.length >= most) return more.slice(-most);
  return [...old.slice(Math.max(0, old.length + more.length - most)), ...more];
}
