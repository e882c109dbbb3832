import type { EventRecord } from '../../trace/event.ts';
import { keepLast } from '../../trace/state/fields.ts';
import { eventWords, timeText } from '../../trace/story/text.ts';

/** The last events, and those of them that match the filter. */
export interface TraceState {
  readonly events: readonly EventRecord[];
  /** Words that an event must all contain, in any case; empty lets all through. */
  readonly filter: string;
  /** `events` itself when there is no filter. */
  readonly matches: readonly EventRecord[];
}

/** Events kept: older ones are only in the counts. */
export const MOST_EVENTS = 20_000;

/** Causes told at most, from the selected event back. */
const MOST_CAUSES = 64;

export const EMPTY_TRACE: TraceState = { events: [], filter: '', matches: [] };

export function reduceTrace(state: TraceState, batch: readonly EventRecord[]): TraceState {
  if (batch.length === 0) return state;
  const { filter } = state;
  const events = keepLast(state.events, batch, MOST_EVENTS);
  if (filter === '') return { events, filter, matches: events };
  const oldest = events[0]?.seq ?? 0;
  const kept = state.matches.slice(firstFrom(state.matches, oldest));
  const more = batch.slice(-MOST_EVENTS).filter(matching(filter));
  return { events, filter, matches: [...kept, ...more] };
}

/** What was known at an earlier event. */
export function truncated({ events, filter, matches }: TraceState, seq: number): TraceState {
  const kept = events.slice(0, firstFrom(events, seq + 1));
  if (filter === '') return { events: kept, filter, matches: kept };
  return { events: kept, filter, matches: matches.slice(0, firstFrom(matches, seq + 1)) };
}

export function withFilter({ events }: TraceState, filter: string): TraceState {
  const trimmed = filter.trim();
  return {
    events,
    filter,
    matches: trimmed === '' ? events : events.filter(matching(filter)),
  };
}

/** The event as one line of text, without its time. */
export const eventText = (record: EventRecord): string => eventWords(record, true).join(' ');

/** What the filter looks at: layer, full name, values and time as they are shown. */
export function matching(filter: string): (record: EventRecord) => boolean {
  const words = filter
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  return (record) => {
    const { def, ns } = record;
    const told = `${def.layer} ${def.name} ${eventText(record)} ${timeText(ns)}`.toLowerCase();
    return words.every((word) => told.includes(word));
  };
}

/** Index of the first record of at least this `seq`, or the length. Records are in order of `seq`. */
export function firstFrom(records: readonly EventRecord[], seq: number): number {
  let low = 0;
  let high = records.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (records[middle]!.seq < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function recordOf(records: readonly EventRecord[], seq: number): EventRecord | undefined {
  const record = records[firstFrom(records, seq)];
  return record?.seq === seq ? record : undefined;
}

export interface CauseChain {
  /** From the oldest cause known down to the event itself. */
  readonly causes: readonly EventRecord[];
  /** The chain begins earlier, with an event that is no longer kept (or is longer than is told). */
  readonly cut: boolean;
  /** What the event led to directly, the first few. */
  readonly effects: readonly EventRecord[];
}

/** Why an event happened, and what it led to. */
export function causeChain(
  { events }: TraceState,
  record: EventRecord,
  mostEffects: number,
): CauseChain {
  const causes = [record];
  let { cause } = record;
  while (cause !== 0 && causes.length < MOST_CAUSES) {
    // A recording may be damaged: a cause is always earlier.
    const earlier = cause < causes[0]!.seq ? recordOf(events, cause) : undefined;
    if (earlier === undefined) break;
    causes.unshift(earlier);
    ({ cause } = earlier);
  }
  const effects: EventRecord[] = [];
  for (let i = firstFrom(events, record.seq + 1); i < events.length; i++) {
    if (effects.length >= mostEffects) break;
    if (events[i]!.cause === record.seq) effects.push(events[i]!);
  }
  return { causes, cut: cause !== 0, effects };
}
