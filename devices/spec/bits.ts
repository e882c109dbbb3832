/**
 * Bit fields of 64-bit words, declared once as data: each structure of the specifications (table
 * entries, queue descriptors, registers) is a list of fields from which encoding, decoding,
 * reserved-bit masks and a printable form follow.
 */

/** Words of a structure as read from memory; words past the end count as zero. */
export type Words = BigUint64Array | readonly bigint[];

/**
 * Where a field lies: 64-bit word, highest bit, lowest bit. An `'address'` field holds bits
 * `hi:lo` of an address, and its value is that address in bytes.
 */
export type FieldSpec =
  | readonly [word: number, hi: number, lo: number]
  | readonly [word: number, hi: number, lo: number, kind: 'address'];

export type FieldTable = Readonly<Record<string, FieldSpec>>;

/** Field values to encode; fields left out are zero. */
export type FieldInput<F extends FieldTable> = {
  readonly [K in keyof F]?: number | bigint | boolean | undefined;
};

/** Decoded fields: integers, byte addresses for address fields, 0 or 1 for single bits. */
export type FieldValues<F extends FieldTable> = { readonly [K in keyof F]: number };

export interface BitStruct<F extends FieldTable> {
  readonly fields: F;
  /** Length in 64-bit words. */
  readonly words: number;
  /** Length in bytes. */
  readonly bytes: number;
  /** The bits each field covers, in place within its own word. */
  readonly masks: { readonly [K in keyof F]: bigint };
  /** Per word, the bits that no field covers. */
  readonly reserved: readonly bigint[];
  /** Encodes; throws RangeError naming the field whose value does not fit or is misaligned. */
  encode(values: FieldInput<F>): BigUint64Array<ArrayBuffer>;
  decode(words: Words): FieldValues<F>;
  /** True when a bit that no field covers is set. */
  hasReserved(words: Words): boolean;
  /** Non-zero fields in declaration order: `P PGTT=3 DID=5 SSPTPTR=0x1234000`. */
  describe(words: Words): string;
}

/** Where a field of up to 32 bits lies in a structure that was read as int32 halves. */
interface HalfField {
  /** 2 * word, plus 1 for the high half. */
  readonly half: number;
  readonly shift: number;
  readonly mask: number;
}

/** RangeError for a field that does not lie in one half. */
function halfField([word, hi, lo]: FieldSpec): HalfField {
  if (hi >>> 5 !== lo >>> 5) throw new RangeError(`bits ${hi}:${lo} are in two halves`);
  const mask = hi - lo === 31 ? -1 : (1 << (hi - lo + 1)) - 1;
  return { half: 2 * word + (lo >>> 5), shift: lo & 31, mask };
}

/** The named fields of a structure as `HalfField`s. */
export function halfFields<F extends FieldTable, const K extends keyof F>(
  fields: F,
  names: readonly K[],
): Readonly<Record<K, HalfField>> {
  const entries = names.map((name) => [name, halfField(fields[name]!)] as const);
  return Object.fromEntries(entries) as Record<K, HalfField>;
}

/** A field of a structure whose words are given as int32 halves, low one first. */
export function inHalves(halves: Int32Array, { half, shift, mask }: HalfField): number {
  return (halves[half]! >>> shift) & mask;
}

interface Layout {
  readonly name: string;
  readonly word: number;
  readonly lo: bigint;
  /** Unshifted mask: 2^width - 1. */
  readonly mask: bigint;
  readonly width: number;
  /** 2^lo for an address, else 1. */
  readonly scale: number;
  readonly isAddress: boolean;
}

/** Bits `hi:lo` of `value`, shifted down to bit 0. */
export function bits(value: bigint, hi: number, lo: number): bigint {
  return (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);
}

/** Bit `n` of `value`. */
export function bit(value: bigint, n: number): boolean {
  return ((value >> BigInt(n)) & 1n) === 1n;
}

/** Lower-case hexadecimal with `0x`. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function layoutOf(name: string, spec: FieldSpec, words64: number): Layout {
  const [word, hi, lo, kind] = spec;
  const isAddress = kind === 'address';
  const width = hi - lo + 1;
  if (word < 0 || word >= words64 || lo < 0 || hi > 63 || width < 1) {
    throw new RangeError(`field ${name}: bits ${hi}:${lo} are not in a word`);
  }
  if (width > 32 && !isAddress) {
    throw new RangeError(`field ${name}: ${width} bits do not fit an integer field`);
  }
  return {
    name,
    word,
    lo: BigInt(lo),
    mask: (1n << BigInt(width)) - 1n,
    width,
    scale: isAddress ? 2 ** lo : 1,
    isAddress,
  };
}

function fieldBits(layout: Layout, value: number | bigint | boolean): bigint {
  if (typeof value === 'number' && !Number.isInteger(value)) {
    throw new RangeError(`field ${layout.name}: ${value} is not an integer`);
  }
  const full = BigInt(value);
  const field = layout.isAddress ? full >> layout.lo : full;
  if (field < 0n || field > layout.mask) {
    throw new RangeError(`field ${layout.name}: ${value} does not fit ${layout.width} bits`);
  }
  if (layout.isAddress && field << layout.lo !== full) {
    throw new RangeError(`field ${layout.name}: ${hex(full)} is not ${layout.scale}-byte aligned`);
  }
  return field << layout.lo;
}

function describeField(layout: Layout, value: number): string {
  if (layout.isAddress) return `${layout.name}=${hex(value)}`;
  return layout.width === 1 ? layout.name : `${layout.name}=${value}`;
}

/**
 * Declares a structure of `words64` 64-bit words. Fields of up to 32 bits are integers; wider ones
 * must be addresses, whose bytes value `field * 2^lo` is exact in a double (for `hi - lo < 53`).
 */
export function bitStruct<const F extends FieldTable>(words64: number, fields: F): BitStruct<F> {
  const layouts = Object.entries(fields).map(([name, spec]) => layoutOf(name, spec, words64));
  const byName = new Map(layouts.map((layout) => [layout.name, layout]));
  const reserved = Array.from({ length: words64 }, () => (1n << 64n) - 1n);
  for (const layout of layouts) {
    reserved[layout.word] = reserved[layout.word]! & ~(layout.mask << layout.lo);
  }

  const valueOf = (layout: Layout, words: Words): number =>
    Number(((words[layout.word] ?? 0n) >> layout.lo) & layout.mask) * layout.scale;

  return {
    fields,
    words: words64,
    bytes: words64 * 8,
    masks: Object.fromEntries(layouts.map((l) => [l.name, l.mask << l.lo])) as {
      [K in keyof F]: bigint;
    },
    reserved,
    encode(values) {
      const words = new BigUint64Array(words64);
      for (const [name, value] of Object.entries<number | bigint | boolean | undefined>(values)) {
        if (value === undefined) continue;
        const layout = byName.get(name);
        if (layout === undefined) throw new RangeError(`no field ${name}`);
        words[layout.word] = words[layout.word]! | fieldBits(layout, value);
      }
      return words;
    },
    decode(words) {
      const values: Record<string, number> = {};
      for (const layout of layouts) values[layout.name] = valueOf(layout, words);
      return values as FieldValues<F>;
    },
    hasReserved(words) {
      return reserved.some((mask, i) => ((words[i] ?? 0n) & mask) !== 0n);
    },
    describe(words) {
      const shown = layouts.flatMap((layout) => {
        const value = valueOf(layout, words);
        return value === 0 ? [] : [describeField(layout, value)];
      });
      return shown.length === 0 ? '0' : shown.join(' ');
    },
  };
}
