import { type EventDef, type FieldKind, KINDS, LAYERS, type Layer } from '../event.ts';

/** Version of records, frames and recordings. A reader refuses others. */
export const FORMAT = 1;

/** Bytes of a record before its fields: id and size, seq, ns, cause. */
export const RECORD_HEADER = 16;

/** The id of the end of a span, which is no event. */
export const END_ID = 0x3fff;

/** In the id: the event begins a span. */
export const SPAN_BIT = 0x8000;

/** The id without that bit, and without the one that is reserved. */
export const ID_MASK = 0x3fff;

export interface FieldSchema {
  readonly name: string;
  readonly kind: FieldKind;
  /** Bytes from the beginning of the record. */
  readonly offset: number;
  readonly size: number;
}

/** An event as viewers are told of it: its declaration and where its fields lie in a record. */
export interface EventSchema {
  readonly id: number;
  readonly name: string;
  readonly layer: Layer;
  readonly meaning: string;
  readonly source: string;
  /** Of the whole record, a multiple of 4. */
  readonly size: number;
  readonly hot?: true;
  readonly fields: readonly FieldSchema[];
}

/** All that a viewer needs to read frames: sent in `hello`, kept in the head of a recording. */
export interface Schema {
  readonly format: number;
  readonly layers: readonly Layer[];
  readonly kinds: Readonly<Record<string, { readonly size: number; readonly what: string }>>;
  readonly events: readonly EventSchema[];
}

/** An event with its place in records. */
export interface Layout extends EventSchema {
  readonly def: EventDef;
}

/** Fields begin where their size divides, up to 4; a PASID takes the low 3 bytes of a word. */
const alignment = (size: number): number => (size === 3 ? 4 : Math.min(size, 4));

/** Lays an event out under the id. */
export function layoutOf(def: EventDef, id: number): Layout {
  let at = RECORD_HEADER;
  const fields = Object.entries(def.fields).map(([name, kind]): FieldSchema => {
    const { size } = KINDS[kind];
    const align = alignment(size);
    const offset = Math.ceil(at / align) * align;
    at = offset + size;
    return { name, kind, offset, size };
  });
  const { name, layer, meaning, source, hot } = def;
  const size = Math.ceil(at / 4) * 4;
  return { id, name, layer, meaning, source, size, ...(hot && { hot }), fields, def };
}

/** Layouts of a catalogue: an event's id is its place in it. RangeError: more than ids can name. */
export function layoutsOf(defs: readonly EventDef[]): Layout[] {
  if (defs.length >= END_ID) throw new RangeError(`${defs.length} events have no ids`);
  return defs.map((def, id) => layoutOf(def, id));
}

export function schemaOf(defs: readonly EventDef[]): Schema {
  return {
    format: FORMAT,
    layers: LAYERS,
    kinds: Object.fromEntries(
      Object.entries(KINDS).map(([kind, { size, what }]) => [kind, { size, what }]),
    ),
    events: layoutsOf(defs).map(({ def: _def, ...schema }) => schema),
  };
}

/** A schema that cannot be read: made by another program or version. */
export class SchemaError extends Error {}

/**
 * The layouts of a schema that came from elsewhere; where it declares an event as `known` does, its
 * records have the known declaration.
 * @throws SchemaError saying what is wrong
 */
export function layoutsOfSchema(schema: unknown, known: readonly EventDef[] = []): Layout[] {
  const { format, events } = asObject(schema, 'schema');
  if (format !== FORMAT) throw new SchemaError(`format ${String(format)}, this reads ${FORMAT}`);
  if (!Array.isArray(events) || events.length >= END_ID) throw new SchemaError('no list of events');
  const byName = new Map(known.map((def) => [def.name, def]));
  return events.map((event: unknown, id) => eventLayout(event, id, byName));
}

function eventLayout(given: unknown, id: number, known: ReadonlyMap<string, EventDef>): Layout {
  const event = asObject(given, `event ${id}`);
  const { name, layer, fields } = event;
  if (typeof name !== 'string' || !Array.isArray(fields)) {
    throw new SchemaError(`event ${id} has no name or no fields`);
  }
  const isLayer = (value: unknown): value is Layer => LAYERS.some((known) => known === value);
  if (!isLayer(layer)) throw new SchemaError(`${name}: layer ${String(layer)} is not known`);
  const kinds = Object.fromEntries(
    fields.map((given: unknown): [string, FieldKind] => {
      const field = asObject(given, `${name}: a field`);
      const kind = String(field['kind']);
      if (!Object.hasOwn(KINDS, kind)) throw new SchemaError(`${name}: kind ${kind} is not known`);
      return [String(field['name']), kind as FieldKind];
    }),
  );
  const own: EventDef = {
    name,
    layer,
    fields: kinds,
    meaning: String(event['meaning']),
    source: String(event['source']),
    ...(event['hot'] === true && { hot: true as const }),
  };
  const same = known.get(name);
  const layout = layoutOf(same !== undefined && sameFields(same, own) ? same : own, id);
  const told = fields.map((field) => asObject(field, name)['offset']);
  const differs = layout.fields.some(({ offset }, i) => offset !== told[i]);
  if (differs || layout.size !== event['size'])
    throw new SchemaError(`${name}: laid out otherwise`);
  return layout;
}

const sameFields = (a: EventDef, b: EventDef): boolean =>
  a.layer === b.layer && JSON.stringify(a.fields) === JSON.stringify(b.fields);

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SchemaError(`${what} is no object`);
  }
  return value as Record<string, unknown>;
}
