/**
 * CRC-32C (polynomial 0x1EDC6F41, reflected 0x82F63B78) as the accelerator's CRC operations compute
 * it. Three steps, so that a transfer can be fed in pieces: `crcBegin` makes the register from the
 * seed, `crcUpdate` feeds bytes, `crcEnd` makes the reported value.
 *
 * Without options the register starts at NOT seed and the value is NOT register: seed 0 gives
 * standard CRC-32C, and a value is directly the seed of the following piece.
 */

export interface CrcOptions {
  /** Descriptor flag bit 17: register = bit-reversed seed, value = bit-reversed register. */
  readonly bypassInversion?: boolean;
  /** Descriptor flag bit 18: data bytes are fed bit-reversed. */
  readonly bypassReflection?: boolean;
}

const POLYNOMIAL = 0x82f63b78 | 0;

/** Eight tables of 256: table k advances a byte over k further bytes (slicing by 8). */
const TABLES = buildTables();
const REVERSED_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => reverseBits32(byte) >>> 24);

function buildTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? POLYNOMIAL : 0);
    tables[byte] = value;
  }
  for (let i = 256; i < tables.length; i++) {
    const previous = tables[i - 256]!;
    tables[i] = (previous >>> 8) ^ tables[previous & 0xff]!;
  }
  return tables;
}

/** Bits of a 32-bit word in the opposite order, unsigned. */
export function reverseBits32(word: number): number {
  let value = word;
  value = ((value >>> 1) & 0x5555_5555) | ((value & 0x5555_5555) << 1);
  value = ((value >>> 2) & 0x3333_3333) | ((value & 0x3333_3333) << 2);
  value = ((value >>> 4) & 0x0f0f_0f0f) | ((value & 0x0f0f_0f0f) << 4);
  value = ((value >>> 8) & 0x00ff_00ff) | ((value & 0x00ff_00ff) << 8);
  return ((value >>> 16) | (value << 16)) >>> 0;
}

/** The register a CRC starts from. `seed` is 32 bits. */
export function crcBegin(seed: number, options: CrcOptions = {}): number {
  return options.bypassInversion === true ? reverseBits32(seed) : ~seed >>> 0;
}

/** Feeds `bytes[start, end)` (clamped to the array) and returns the new register. */
export function crcUpdate(
  register: number,
  bytes: Uint8Array,
  start = 0,
  end = bytes.length,
  options: CrcOptions = {},
): number {
  const first = Math.max(start, 0);
  const last = Math.min(end, bytes.length);
  return options.bypassReflection === true
    ? updateReversed(register, bytes, first, last)
    : updateSliced(register, bytes, first, last);
}

/** The value the completion record reports for a register. */
export function crcEnd(register: number, options: CrcOptions = {}): number {
  return options.bypassInversion === true ? reverseBits32(register) : ~register >>> 0;
}

/** Begin, update and end over one range. */
export function crc32c(bytes: Uint8Array, seed = 0, options: CrcOptions = {}): number {
  return crcEnd(crcUpdate(crcBegin(seed, options), bytes, 0, bytes.length, options), options);
}

function updateSliced(register: number, bytes: Uint8Array, start: number, end: number): number {
  const table = TABLES;
  let crc = register | 0;
  let i = start;
  for (; i + 8 <= end; i += 8) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc =
      table[1792 + (crc & 0xff)]! ^
      table[1536 + ((crc >>> 8) & 0xff)]! ^
      table[1280 + ((crc >>> 16) & 0xff)]! ^
      table[1024 + (crc >>> 24)]! ^
      table[768 + bytes[i + 4]!]! ^
      table[512 + bytes[i + 5]!]! ^
      table[256 + bytes[i + 6]!]! ^
      table[bytes[i + 7]!]!;
  }
  for (; i < end; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 0xff]!;
  return crc >>> 0;
}

function updateReversed(register: number, bytes: Uint8Array, start: number, end: number): number {
  let crc = register | 0;
  for (let i = start; i < end; i++) {
    crc = (crc >>> 8) ^ TABLES[(crc ^ REVERSED_BYTE[bytes[i]!]!) & 0xff]!;
  }
  return crc >>> 0;
}
