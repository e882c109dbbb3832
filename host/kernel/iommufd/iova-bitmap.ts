/**
 * The bitmap of a dirty page report in the caller's memory, at any byte address
 * (drivers/iommu/iommufd/iova_bitmap.c).
 */
import { Errno } from '../errno.ts';
import type { DirtyRecord } from '../iommu/ops.ts';
import type { Mm } from '../mm.ts';

/** Bytes of the bitmap that are read and written at once. */
const CHUNK_BYTES = 4096n;

export class IovaBitmap {
  readonly #mm: Mm;
  readonly #address: bigint;
  readonly #iova: bigint;
  readonly #last: bigint;
  /** log2 of the bytes that a bit stands for. */
  readonly #shift: bigint;

  /** @param range `pageSize` above 0; where it is no power of two, its lowest set bit counts */
  constructor(
    mm: Mm,
    address: bigint,
    range: { readonly iova: bigint; readonly length: bigint; readonly pageSize: bigint },
  ) {
    this.#mm = mm;
    this.#address = address;
    this.#iova = range.iova;
    this.#last = range.iova + range.length - 1n;
    const unit = range.pageSize & -range.pageSize;
    this.#shift = BigInt(unit.toString(2).length - 1);
  }

  /**
   * Sets the bits of a run of bytes, as far as they are in the range. Memory that is not there is
   * passed over: dirty bits are lost then, as upstream.
   */
  readonly record: DirtyRecord = (iova, bytes) => {
    const first = iova > this.#iova ? iova : this.#iova;
    const end = iova + bytes - 1n;
    const last = end < this.#last ? end : this.#last;
    if (first > last) return;
    const lastBit = (last - this.#iova) >> this.#shift;
    for (let bit = (first - this.#iova) >> this.#shift; bit <= lastBit; ) {
      const chunk = bit / (CHUNK_BYTES * 8n);
      const chunkLast = (chunk + 1n) * CHUNK_BYTES * 8n - 1n;
      const to = chunkLast < lastBit ? chunkLast : lastBit;
      if (!this.#set(bit, to)) return;
      bit = to + 1n;
    }
  };

  /** Sets bits of one chunk. False: the memory is not there. */
  #set(from: bigint, to: bigint): boolean {
    const firstByte = from / 8n;
    const address = this.#address + firstByte;
    const length = Number(to / 8n - firstByte) + 1;
    try {
      const bytes = this.#mm.copyFrom(address, length);
      const base = firstByte * 8n;
      for (let bit = Number(from - base); bit <= Number(to - base); bit++) {
        bytes[bit >>> 3]! |= 1 << (bit & 7);
      }
      this.#mm.copyTo(address, bytes);
      return true;
    } catch (error) {
      if (error instanceof Errno) return false;
      throw error;
    }
  }
}
