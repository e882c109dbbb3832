import type { EventRecord, FieldValue } from '../event.ts';
import { valueText } from '../story/text.ts';
import type { Recording } from './reader.ts';

/** A value that two events have not in common. */
export interface FieldDifference {
  readonly field: string;
  readonly a: string;
  readonly b: string;
}

/** Where two recordings part. */
export interface Divergence {
  /** The last event that both tell alike, undefined when the first differs. */
  readonly common: EventRecord | undefined;
  /** Events that both tell alike. */
  readonly same: number;
  /** The first that differ; undefined: that recording ends before. */
  readonly a: EventRecord | undefined;
  readonly b: EventRecord | undefined;
  /** What differs, when both are of one name. */
  readonly fields: readonly FieldDifference[];
  /** What the two worlds were told differently at power-on. */
  readonly told: readonly FieldDifference[];
}

export interface DiffOptions {
  /** Compare what happened and not when. */
  readonly ignoreTime?: boolean;
}

/**
 * The first event at which two recordings differ, undefined where none does. Events are compared in
 * order: name, virtual time, number, cause and every field.
 * @throws RecordingError where one is damaged
 */
export function firstDivergence(
  one: Recording,
  other: Recording,
  options: DiffOptions = {},
): Divergence | undefined {
  const [as, bs] = [one.records(), other.records()];
  let common: EventRecord | undefined;
  let told: readonly FieldDifference[] = [];
  for (let same = 0; ; same++) {
    const a = next(as);
    const b = next(bs);
    if (a === undefined && b === undefined) {
      const end = { common, same, a, b, fields: [], told };
      return told.length === 0 ? undefined : end;
    }
    const fields = a === undefined || b === undefined ? [] : differences(a, b, options);
    const isPowerOn = same === 0 && a?.def.name === POWER_ON && b?.def.name === POWER_ON;
    if (isPowerOn) told = fields;
    else if (a === undefined || b === undefined || fields.length > 0) {
      return { common, same, a, b, fields, told };
    }
    common = a;
  }
}

/** Its fields are what a world is told; what comes of them is the difference that counts. */
const POWER_ON = 'engine:power_on';

/** undefined: there is none. */
function next(records: Generator<EventRecord, void>): EventRecord | undefined {
  const step = records.next();
  return step.done === true ? undefined : step.value;
}

function differences(a: EventRecord, b: EventRecord, options: DiffOptions): FieldDifference[] {
  const found: FieldDifference[] = [];
  const compare = (field: string, x: string, y: string): void => {
    if (x !== y) found.push({ field, a: x, b: y });
  };
  compare('event', a.def.name, b.def.name);
  if (found.length > 0) return found;
  if (options.ignoreTime !== true) compare('ns', `${a.ns}`, `${b.ns}`);
  compare('seq', `${a.seq}`, `${b.seq}`);
  compare('cause', `${a.cause}`, `${b.cause}`);
  for (const field of new Set([...Object.keys(a.def.fields), ...Object.keys(b.def.fields)])) {
    compare(field, shown(a, field), shown(b, field));
  }
  return found;
}

function shown({ def, values }: EventRecord, field: string): string {
  const kind = def.fields[field];
  const value: FieldValue | undefined = values[field];
  return kind === undefined || value === undefined ? 'none' : valueText(kind, value);
}
