/**
 * C structures as data: one declaration gives the offsets, the reader, the writer and (through
 * `npm run check:layouts`) the proof against the kernel's own header.
 *
 * Layout follows the x86-64 System V rule that every uAPI header relies on: each field is aligned
 * to its own size, an array to its element, the structure to its widest field. Little-endian.
 */

/** An integer type of the C headers: `__u8` ... `__s64`. */
export type Scalar = 'u8' | 's8' | 'u16' | 's16' | 'u32' | 's32' | 'u64' | 's64';

/** A field: an integer, or a fixed array of one. Length 0 declares a flexible array member. */
export type FieldType = Scalar | readonly [element: Scalar, length: number];

/** The fields of a structure, in header order, under the header's own names. */
export type Fields = Readonly<Record<string, FieldType>>;

/** 64-bit integers are bigint, everything narrower is a number. */
export type ScalarValue<T extends Scalar> = T extends 'u64' | 's64' ? bigint : number;

export type FieldValue<T extends FieldType> = T extends Scalar
  ? ScalarValue<T>
  : T extends readonly [infer E extends Scalar, number]
    ? readonly ScalarValue<E>[]
    : never;

export type Values<F extends Fields> = { -readonly [K in keyof F]: FieldValue<F[K]> };

/** The values of a declared structure: `StructValues<typeof iommu_hwpt_alloc>`. */
export type StructValues<S> = S extends Struct<infer F> ? Values<F> : never;

export interface StructOptions<F extends Fields> {
  /**
   * Smallest size a caller may pass, in bytes: the end of the last field of the structure's first
   * version. Defaults to `size`.
   */
  readonly minSize?: number;
  /** Where the C member is spelled differently, e.g. inside a nested header: `header.id`. */
  readonly cNames?: Readonly<Partial<Record<keyof F & string, string>>>;
}

export interface Struct<F extends Fields = Fields> {
  /** The C tag: `struct <name>`. */
  readonly name: string;
  readonly fields: F;
  /** Byte offset of each field. */
  readonly offsets: Readonly<Record<keyof F, number>>;
  /** `sizeof`, in bytes, including tail padding; a flexible array adds nothing. */
  readonly size: number;
  /** Alignment, in bytes. */
  readonly align: number;
  readonly minSize: number;
  /** The C member designator of each field. */
  readonly cNames: Readonly<Record<keyof F, string>>;
  /**
   * Reads every field at byte `at` (default 0). `bytes` must hold `size` bytes from there; a kernel
   * path that accepts shorter structures copies into a zeroed buffer of `size` first.
   */
  read(bytes: DataView, at?: number): Values<F>;
  /**
   * Writes the given fields at byte `at` and leaves all other bytes alone. Values wrap to the
   * field's width as a C assignment does; an array shorter than declared leaves the rest alone.
   */
  write(view: DataView, at: number, values: Partial<Values<F>>): void;
  /** A fresh zeroed structure of `size` bytes with the given fields set. */
  encode(values?: Partial<Values<F>>): Uint8Array<ArrayBuffer>;
}

interface Codec {
  readonly bytes: number;
  readonly get: (view: DataView, at: number) => number | bigint;
  readonly set: (view: DataView, at: number, value: number | bigint) => void;
}

const CODECS: Readonly<Record<Scalar, Codec>> = {
  u8: { bytes: 1, get: (v, at) => v.getUint8(at), set: (v, at, x) => v.setUint8(at, Number(x)) },
  s8: { bytes: 1, get: (v, at) => v.getInt8(at), set: (v, at, x) => v.setInt8(at, Number(x)) },
  u16: {
    bytes: 2,
    get: (v, at) => v.getUint16(at, true),
    set: (v, at, x) => v.setUint16(at, Number(x), true),
  },
  s16: {
    bytes: 2,
    get: (v, at) => v.getInt16(at, true),
    set: (v, at, x) => v.setInt16(at, Number(x), true),
  },
  u32: {
    bytes: 4,
    get: (v, at) => v.getUint32(at, true),
    set: (v, at, x) => v.setUint32(at, Number(x), true),
  },
  s32: {
    bytes: 4,
    get: (v, at) => v.getInt32(at, true),
    set: (v, at, x) => v.setInt32(at, Number(x), true),
  },
  u64: {
    bytes: 8,
    get: (v, at) => v.getBigUint64(at, true),
    set: (v, at, x) => v.setBigUint64(at, BigInt(x), true),
  },
  s64: {
    bytes: 8,
    get: (v, at) => v.getBigInt64(at, true),
    set: (v, at, x) => v.setBigInt64(at, BigInt(x), true),
  },
};

interface Slot {
  readonly name: string;
  readonly codec: Codec;
  readonly offset: number;
  /** Number of array elements, or -1 for a plain integer. */
  readonly length: number;
}

const roundUp = (n: number, align: number): number => Math.ceil(n / align) * align;

function place(fields: Fields): { slots: Slot[]; size: number; align: number } {
  const slots: Slot[] = [];
  let end = 0;
  let align = 1;
  for (const [name, type] of Object.entries(fields)) {
    const isArray = typeof type !== 'string';
    const codec = CODECS[isArray ? type[0] : type];
    const length = isArray ? type[1] : -1;
    const offset = roundUp(end, codec.bytes);
    slots.push({ name, codec, offset, length });
    end = offset + codec.bytes * (isArray ? length : 1);
    align = Math.max(align, codec.bytes);
  }
  return { slots, size: roundUp(end, align), align };
}

function readSlot(view: DataView, at: number, slot: Slot): unknown {
  const { codec, length } = slot;
  if (length < 0) return codec.get(view, at + slot.offset);
  return Array.from({ length }, (_, i) => codec.get(view, at + slot.offset + i * codec.bytes));
}

function writeSlot(view: DataView, at: number, slot: Slot, value: unknown): void {
  const { codec, length } = slot;
  if (length < 0) {
    codec.set(view, at + slot.offset, value as number | bigint);
    return;
  }
  const elements = value as readonly (number | bigint)[];
  for (let i = 0; i < Math.min(length, elements.length); i++) {
    codec.set(view, at + slot.offset + i * codec.bytes, elements[i]!);
  }
}

/**
 * Declares `struct <name>`. Field names and order are the C header's; the offsets follow from the
 * types by C's natural alignment.
 */
export function struct<const F extends Fields>(
  name: string,
  fields: F,
  options: StructOptions<F> = {},
): Struct<F> {
  const { slots, size, align } = place(fields);
  const offsets = Object.fromEntries(slots.map((slot) => [slot.name, slot.offset]));
  const cNames = Object.fromEntries(slots.map((slot) => [slot.name, slot.name]));
  const write = (view: DataView, at: number, values: Partial<Values<F>>): void => {
    const given = values as Readonly<Record<string, unknown>>;
    for (const slot of slots) {
      const value = given[slot.name];
      if (value !== undefined) writeSlot(view, at, slot, value);
    }
  };
  return {
    name,
    fields,
    offsets: offsets as Record<keyof F, number>,
    size,
    align,
    minSize: options.minSize ?? size,
    cNames: { ...cNames, ...options.cNames } as Record<keyof F, string>,
    read: (bytes, at = 0) => {
      const values: Record<string, unknown> = {};
      for (const slot of slots) values[slot.name] = readSlot(bytes, at, slot);
      return values as Values<F>;
    },
    write,
    encode: (values = {}) => {
      const bytes = new Uint8Array(size);
      write(new DataView(bytes.buffer), 0, values);
      return bytes;
    },
  };
}
