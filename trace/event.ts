/**
 * What an event is: one declaration gives its name, layer, typed fields and where its rule comes from.
 * Emission, text, encoding and documentation are all derived from it (ARCHITECTURE.md).
 */

/** The storeys of the house, in the order of the chain. `engine` is the harness around them. */
export const LAYERS = ['guest', 'vmm', 'host', 'vtd', 'device', 'engine'] as const;
export type Layer = (typeof LAYERS)[number];

/** How a kind of field is told and kept. */
export interface KindInfo {
  /** What values of the emitter are: a string, a number, or a number or bigint of 64 bits. */
  readonly value: 'text' | 'number' | 'word';
  /** Bytes in a record (trace/wire). */
  readonly size: 1 | 2 | 3 | 4 | 8;
  /** Meaning and unit, for the documentation and for viewers. */
  readonly what: string;
}

/**
 * The kinds of fields. A `word` is a number (exact: below 2^53, or a multiple of 4096) or a bigint,
 * and is shown in hexadecimal.
 */
export const KINDS = {
  int: { value: 'number', size: 8, what: 'a whole number' },
  count: { value: 'number', size: 8, what: 'how many' },
  bytes: { value: 'number', size: 8, what: 'bytes' },
  ns: { value: 'number', size: 8, what: 'nanoseconds of virtual time' },
  id: {
    value: 'number',
    size: 4,
    what: 'a number that names: an object, queue, vector, group, level; 32 bits',
  },
  pasid: { value: 'number', size: 3, what: 'a PASID of 20 bits; -1: none' },
  flag: { value: 'number', size: 1, what: '1: yes, 0: no' },
  sid: { value: 'text', size: 2, what: 'a PCI function, bus:device.function' },
  device: { value: 'text', size: 2, what: 'a device: bus:device.function, or its name' },
  perm: {
    value: 'text',
    size: 1,
    what: 'permissions: r or -, w or -, then x execute, p privileged',
  },
  hex: { value: 'word', size: 8, what: 'a register, an entry or another word of 64 bits' },
  addr: { value: 'word', size: 8, what: 'an address; the event says of which space' },
  gva: { value: 'word', size: 8, what: 'a virtual address of a guest process' },
  gpa: { value: 'word', size: 8, what: 'a physical address of a guest' },
  hpa: { value: 'word', size: 8, what: 'a physical address of the host' },
  iova: { value: 'word', size: 8, what: 'an address as a device gives it' },
  wide: { value: 'word', size: 2, what: 'a table entry of any width as one number, kept as text' },
  text: { value: 'text', size: 2, what: 'text' },
} as const satisfies Readonly<Record<string, KindInfo>>;

/** How a field is shown and kept: see `KINDS`. */
export type FieldKind = keyof typeof KINDS;

export type Fields = Readonly<Record<string, FieldKind>>;
export type FieldValue = number | bigint | string;

type ValueOf<K extends FieldKind> = (typeof KINDS)[K]['value'] extends 'text'
  ? string
  : (typeof KINDS)[K]['value'] extends 'number'
    ? number
    : number | bigint;

/** The values of an event, by field name. */
export type Values<F extends Fields> = { readonly [N in keyof F]: ValueOf<F[N]> };

export interface EventDef<F extends Fields = Fields> {
  /** `<subsystem>:<event>`; the kernel's tracepoint name where one exists. */
  readonly name: string;
  readonly layer: Layer;
  readonly fields: F;
  /** One line: what happened, for someone who has not met the name. */
  readonly meaning: string;
  /** The spec section, kernel file or function it follows. */
  readonly source: string;
  /** So frequent that it is only told to a sink that asks for it (`Tracer.hot`), as four words. */
  readonly hot?: true;
}

/** Declares an event. Declare each once, in `trace/catalogue/<layer>.ts`. */
export function event<const F extends Fields>(
  layer: Layer,
  name: string,
  fields: F,
  meaning: string,
  source: string,
): EventDef<F> {
  return { name, layer, fields, meaning, source };
}

/** Declares an event of the data path: its fields are 16 bytes in all (trace/hot.ts). */
export function hotEvent<const F extends Fields>(
  layer: Layer,
  name: string,
  fields: F,
  meaning: string,
  source: string,
): EventDef<F> {
  return { name, layer, fields, meaning, source, hot: true };
}

/** One thing that happened. `cause` is the `seq` of the event that led to it, 0 for none. */
export interface EventRecord {
  readonly seq: number;
  /** Virtual time in nanoseconds. */
  readonly ns: number;
  readonly cause: number;
  readonly def: EventDef;
  readonly values: Readonly<Record<string, FieldValue>>;
  /** It lasts: what it caused happened within it, until its end was told (`Sink.end`). */
  readonly span?: true;
}
