/**
 * The size encoding that ATS completions and device-TLB invalidations share: with S=0 one 4 KiB
 * page; with S=1 the lowest clear address bit n >= 12 makes the range 2^(n+1) bytes, aligned.
 */

/** An aligned range of 2^sizeLog2 bytes (12 to 63), or the whole address space. */
export interface AtsRange {
  readonly address: number;
  readonly sizeLog2: number | 'all';
}

/** Address field and S bit as they travel. */
export interface EncodedRange {
  readonly address: bigint;
  readonly s: 0 | 1;
}

/** The only form of "everything" that software uses. */
export const WHOLE_RANGE_ADDRESS = 0x7fff_ffff_ffff_f000n;

/**
 * Encodes the 2^sizeLog2-byte range (12 to 63, or 'all') that contains `address`. Throws
 * RangeError for another size or an address outside 64 bits.
 */
export function encodeRange(address: number | bigint, sizeLog2: number | 'all'): EncodedRange {
  if (sizeLog2 === 'all') return { address: WHOLE_RANGE_ADDRESS, s: 1 };
  const full = BigInt(address);
  if (!Number.isInteger(sizeLog2) || sizeLog2 < 12 || sizeLog2 > 63) {
    throw new RangeError(`range of 2^${sizeLog2} bytes: the size must be 2^12 to 2^63`);
  }
  if (full < 0n || full >> 64n !== 0n) {
    throw new RangeError(`address ${address} is not a 64-bit address`);
  }
  const base = (full >> BigInt(sizeLog2)) << BigInt(sizeLog2);
  if (sizeLog2 === 12) return { address: base, s: 0 };
  const ones = (1n << BigInt(sizeLog2 - 1)) - 4096n;
  return { address: base | ones, s: 1 };
}

/**
 * Decodes an address field (its low 12 bits are ignored) and S bit. The whole space is 'all' at
 * address 0.
 */
export function decodeRange(address: bigint, s: number | boolean): AtsRange {
  const page = BigInt.asUintN(64, address) >> 12n;
  if (Number(s) === 0) return { address: Number(page) * 4096, sizeLog2: 12 };
  const sizeLog2 = pageRangeLog2(Number(page >> 32n), Number(BigInt.asIntN(32, page)));
  if (sizeLog2 >= 64) return { address: 0, sizeLog2: 'all' };
  const shift = BigInt(sizeLog2 - 12);
  return { address: Number((page >> shift) << shift) * 4096, sizeLog2 };
}

/**
 * Size (log2 bytes, 13 to 64) of an S=1 range from the two halves of its page number: `pageHi`
 * holds bits 51:32 and `pageLo` bits 31:0 as an int32. For the data path: no allocation.
 */
export function pageRangeLog2(pageHi: number, pageLo: number): number {
  if (pageLo !== -1) return 13 + trailingOnes(pageLo);
  return Math.min(64, 13 + 32 + trailingOnes(pageHi));
}

/** Trailing one bits of an int32 that is not all ones. */
function trailingOnes(value: number): number {
  const lowestClear = ~value & (value + 1);
  return 31 - Math.clz32(lowestClear);
}
