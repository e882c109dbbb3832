import type { PhysicalMemory } from '../../devices/memory.ts';
import { HOLES } from './memory-map.ts';

/** Largest RAM: the index of a 32-bit word stays an int32 (performance rule 1). */
export const MAX_RAM_BYTES = 2 ** 33;

const PAGE_BYTES = 4096;

/** Host RAM: one buffer from physical address 0, with the chipset's holes left out of it. */
export class Ram implements PhysicalMemory {
  readonly words: Int32Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #quads: BigUint64Array<ArrayBuffer>;

  /** @param bytes a multiple of 4096, up to 8 GiB, holes included; else RangeError */
  constructor(bytes: number) {
    if (bytes < PAGE_BYTES || bytes > MAX_RAM_BYTES || bytes % PAGE_BYTES !== 0) {
      throw new RangeError(`${bytes} bytes of RAM: not a multiple of 4096 up to 8 GiB`);
    }
    const buffer = new ArrayBuffer(bytes);
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.#quads = new BigUint64Array(buffer);
  }

  /** Bytes of the address range, holes included. */
  get size(): number {
    return this.bytes.length;
  }

  /** The ranges that are RAM, ascending. */
  get ranges(): { start: number; end: number }[] {
    const ranges = [];
    let start = 0;
    for (const hole of HOLES) {
      if (hole.start >= this.size) break;
      ranges.push({ start, end: hole.start });
      start = hole.end;
    }
    if (start < this.size) ranges.push({ start, end: this.size });
    return ranges;
  }

  contains(address: number, length: number): boolean {
    const end = address + length;
    if (!(address >= 0 && length >= 0 && end <= this.bytes.length)) return false;
    for (const hole of HOLES) {
      if (address < hole.end && end > hole.start) return false;
    }
    return true;
  }

  read32(address: number): number {
    return this.words[address / 4]!;
  }

  write32(address: number, value: number): void {
    this.words[address / 4] = value;
  }

  read64(address: number): bigint {
    return this.#quads[address / 8]!;
  }

  write64(address: number, value: bigint): void {
    this.#quads[address / 8] = value;
  }

  read(address: number, into: Uint8Array): void {
    into.set(this.bytes.subarray(address, address + into.length));
  }

  write(address: number, from: Uint8Array): void {
    this.bytes.set(from, address);
  }
}
