/**
 * What an event is: one declaration gives its name, layer, typed fields and where its rule comes from.
 * Emission, text, encoding and documentation are all derived from it (ARCHITECTURE.md).
 */

/** The storeys of the house, in the order of the chain. `engine` is the harness around them. */
export const LAYERS = ['guest', 'vmm', 'host', 'vtd', 'device', 'engine'] as const;
export type Layer = (typeof LAYERS)[number];

/**
 * How a field is shown: `int` decimal, `hex` and `addr` hexadecimal, `text` as it is.
 * `int` takes a number; `hex` and `addr` take a number (exact, below 2^53 or a multiple of 4096)
 * or a bigint; `text` takes a string.
 */
export type FieldKind = 'int' | 'hex' | 'addr' | 'text';

export type Fields = Readonly<Record<string, FieldKind>>;
export type FieldValue = number | bigint | string;

type ValueOf<K extends FieldKind> = K extends 'text'
  ? string
  : K extends 'int'
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

/** One thing that happened. `cause` is the `seq` of the event that led to it, 0 for none. */
export interface EventRecord {
  readonly seq: number;
  /** Virtual time in nanoseconds. */
  readonly ns: number;
  readonly cause: number;
  readonly def: EventDef;
  readonly values: Readonly<Record<string, FieldValue>>;
}
