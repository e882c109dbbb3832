import { type EventRecord, type FieldValue, KINDS } from '../event.ts';
import { valueText } from '../story/text.ts';
import type { Item } from './decoder.ts';
import type { Layout } from './layout.ts';

/** An event in the JSON subprotocol: words of 64 bits are strings in hexadecimal. */
export interface EventJson {
  readonly seq: number;
  readonly ns: number;
  readonly cause: number;
  readonly name: string;
  readonly layer: string;
  readonly span?: true;
  readonly fields: Readonly<Record<string, number | string>>;
}

/** The end of a span there: `end` is the event that began it, `seq` the last event before. */
export interface EndJson {
  readonly end: number;
  readonly ns: number;
  readonly seq: number;
}

export function recordJson({ seq, ns, cause, def, values, span }: EventRecord): EventJson {
  const fields: Record<string, number | string> = {};
  for (const [name, kind] of Object.entries(def.fields)) {
    const value = values[name];
    if (value === undefined) continue;
    if (KINDS[kind].value === 'number') fields[name] = Number(value);
    else fields[name] = valueText(kind, value);
  }
  return { seq, ns, cause, name: def.name, layer: def.layer, ...(span && { span }), fields };
}

export type JsonItem = EventJson | EndJson;

export const itemJson = (item: Item): JsonItem =>
  item.kind === 'event' ? recordJson(item.record) : { end: item.begin, ns: item.ns, seq: item.seq };

/**
 * The event that a JSON object tells, undefined when it is none of these.
 * @param layouts by name, as `new Map(decoder.layouts.map((layout) => [layout.name, layout]))`
 */
export function recordFromJson(
  layouts: ReadonlyMap<string, Layout>,
  { seq, ns, cause, name, span, fields }: EventJson,
): EventRecord | undefined {
  const layout = layouts.get(name);
  if (layout === undefined) return undefined;
  const values: Record<string, FieldValue> = {};
  for (const [field, value] of Object.entries(fields)) {
    const kind = layout.def.fields[field];
    if (kind === undefined) continue;
    values[field] = KINDS[kind].value === 'word' ? wordOf(value) : value;
  }
  return { seq, ns, cause, def: layout.def, values, ...(span && { span }) };
}

function wordOf(value: number | string): number | bigint {
  if (typeof value === 'number') return value;
  const word = /^0x[0-9a-f]{1,128}$/i.test(value) ? BigInt(value) : 0n;
  return word <= Number.MAX_SAFE_INTEGER ? Number(word) : word;
}
