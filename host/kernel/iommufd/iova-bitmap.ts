/**
 * The bitmap of a dirty page report in the caller's memory, at any byte address
 * (drivers/iommu/iommufd/iova_bitmap.c).
 */
import { Errno } from '../errno.ts';
import type { DirtyRecord } from '../iommu/ops.ts';
import type { Mm } from '../mm.ts';

/** Bytes of the bitmap that are read and written at once: as many as a page has. */
const CHUNK_BYTES = 4096;
const CHUNK_BITS = BigInt(CHUNK_BYTES * 8);

export class IovaBitmap {
  readonly #mm: Mm;
  readonly #address: bigint;
  readonly #iova: bigint;
  readonly #last: bigint;
  /** log2 of the bytes that a bit stands for. */
  readonly #shift: bigint;
  /** Bits to set in one chunk of the bitmap, and the bytes of it that they touch. */
  readonly #bits = new Uint8Array(CHUNK_BYTES);
  #chunk = 0n;
  #from = CHUNK_BYTES;
  #to = 0;

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
   * Notes the bits of a run of bytes, as far as they are in the range; `flush` sets the last of
   * them. Memory that is not there is passed over: dirty bits are lost then, as upstream.
   */
  readonly record: DirtyRecord = (iova, bytes) => {
    const first = iova > this.#iova ? iova : this.#iova;
    const end = iova + bytes - 1n;
    const last = end < this.#last ? end : this.#last;
    if (first > last) return;
    const lastBit = (last - this.#iova) >> this.#shift;
    for (let bit = (first - this.#iova) >> this.#shift; bit <= lastBit; ) {
      const chunk = bit / CHUNK_BITS;
      if (chunk !== this.#chunk) this.flush();
      this.#chunk = chunk;
      const chunkLast = (chunk + 1n) * CHUNK_BITS - 1n;
      const to = chunkLast < lastBit ? chunkLast : lastBit;
      this.#note(Number(bit % CHUNK_BITS), Number(to % CHUNK_BITS));
      bit = to + 1n;
    }
  };

  /** Sets the bits that are only noted yet in the caller's memory, which keeps its other bits. */
  flush(): void {
    const base = this.#address + this.#chunk * BigInt(CHUNK_BYTES);
    // A chunk lies across two pages of the caller's, of which one may be missing.
    const pageEnd = CHUNK_BYTES - Number(base % BigInt(CHUNK_BYTES));
    this.#write(base, this.#from, Math.min(this.#to, pageEnd));
    this.#write(base, Math.max(this.#from, pageEnd), this.#to);
    if (this.#from < this.#to) this.#bits.fill(0, this.#from, this.#to);
    this.#from = CHUNK_BYTES;
    this.#to = 0;
  }

  #write(base: bigint, from: number, to: number): void {
    if (from >= to) return;
    try {
      const bytes = this.#mm.copyFrom(base + BigInt(from), to - from);
      for (let at = from; at < to; at++) bytes[at - from]! |= this.#bits[at]!;
      this.#mm.copyTo(base + BigInt(from), bytes);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
    }
  }

  #note(from: number, to: number): void {
    for (let bit = from; bit <= to; bit++) this.#bits[bit >>> 3]! |= 1 << (bit & 7);
    this.#from = Math.min(this.#from, from >>> 3);
    this.#to = Math.max(this.#to, (to >>> 3) + 1);
  }
}
