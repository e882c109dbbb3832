/**
 * Registers of one word described by their fields: `{ NAME: [high bit, low bit] }`. All values are
 * plain numbers, so a field is at most 53 bits wide; a one-bit field is 0 or 1.
 */

export type FieldLayout = Readonly<Record<string, readonly [high: number, low: number]>>;
export type FieldValues<L extends FieldLayout> = { -readonly [K in keyof L]: number };

export interface Register32<L extends FieldLayout> {
  readonly layout: L;
  /** Fields left out are 0. Throws RangeError if a value does not fit its field. */
  encode(values: Partial<FieldValues<L>>): number;
  decode(word: number): FieldValues<L>;
  /** Bits that belong to some field. */
  readonly mask: number;
}

export interface Register64<L extends FieldLayout> {
  readonly layout: L;
  /** Fields left out are 0. Throws RangeError if a value does not fit its field. */
  encode(values: Partial<FieldValues<L>>): bigint;
  decode(word: bigint): FieldValues<L>;
  /** Bits that belong to some field. */
  readonly mask: bigint;
}

/** A 64-bit register. */
export function register64<L extends FieldLayout>(layout: L): Register64<L> {
  const fields = Object.entries(layout).map(([name, [high, low]]) => {
    const max = (1n << BigInt(high - low + 1)) - 1n;
    return { name, low: BigInt(low), max };
  });
  const encode = (values: Partial<FieldValues<L>>): bigint => {
    let word = 0n;
    for (const { name, low, max } of fields) {
      const value = (values as Partial<Record<string, number>>)[name] ?? 0;
      if (!Number.isInteger(value) || value < 0 || BigInt(value) > max) {
        throw new RangeError(`${name} is ${value}, must be 0 to ${max}`);
      }
      word |= BigInt(value) << low;
    }
    return word;
  };
  const decode = (word: bigint): FieldValues<L> => {
    const entries = fields.map(({ name, low, max }) => [name, Number((word >> low) & max)]);
    return Object.fromEntries(entries) as FieldValues<L>;
  };
  const mask = fields.reduce((bits, { low, max }) => bits | (max << low), 0n);
  return { layout, encode, decode, mask };
}

/** A 32-bit register; words are unsigned numbers. */
export function register32<L extends FieldLayout>(layout: L): Register32<L> {
  const wide = register64(layout);
  return {
    layout,
    encode: (values) => Number(wide.encode(values)),
    decode: (word) => wide.decode(BigInt(word >>> 0)),
    mask: Number(wide.mask),
  };
}
