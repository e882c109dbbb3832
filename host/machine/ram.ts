import type { PhysicalMemory } from '../../devices/memory.ts';
import { HOLES } from './memory-map.ts';

/** Largest RAM: the index of a 32-bit word stays an int32 (performance rule 1). */
export const MAX_RAM_BYTES = 2 ** 33;

const PAGE_BYTES = 4096;

/**
 * Memory beyond RAM: pages of real processes, pinned under frame numbers of their own. Addresses
 * are physical. False: the memory is not there (any more), nothing was moved.
 */
export interface ForeignMemory {
  contains(address: number, length: number): boolean;
  read(address: number, into: Uint8Array): boolean;
  write(address: number, from: Uint8Array): boolean;
}

/**
 * Host RAM: one buffer from physical address 0, with the chipset's holes left out of it. Above it
 * there may be foreign memory, which only the methods reach; what is no longer there reads as zeros.
 */
export class Ram implements PhysicalMemory {
  readonly words: Int32Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #quads: BigUint64Array<ArrayBuffer>;
  /** Null without real processes. */
  foreign: ForeignMemory | null = null;

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
    if (!(address >= 0 && length >= 0 && end <= this.bytes.length)) {
      return address >= this.bytes.length && this.foreign?.contains(address, length) === true;
    }
    for (const hole of HOLES) {
      if (address < hole.end && end > hole.start) return false;
    }
    return true;
  }

  read32(address: number): number {
    if (address >= this.bytes.length) return this.#distant(address, 4).getInt32(0, true);
    return this.words[address / 4]!;
  }

  write32(address: number, value: number): void {
    if (address < this.bytes.length) this.words[address / 4] = value;
    else this.foreign?.write(address, new Uint8Array(Int32Array.of(value).buffer));
  }

  read64(address: number): bigint {
    if (address >= this.bytes.length) return this.#distant(address, 8).getBigUint64(0, true);
    return this.#quads[address / 8]!;
  }

  write64(address: number, value: bigint): void {
    if (address < this.bytes.length) this.#quads[address / 8] = value;
    else this.foreign?.write(address, new Uint8Array(BigUint64Array.of(value).buffer));
  }

  read(address: number, into: Uint8Array): void {
    if (address < this.bytes.length) into.set(this.bytes.subarray(address, address + into.length));
    else if (this.foreign?.read(address, into) !== true) into.fill(0);
  }

  write(address: number, from: Uint8Array): void {
    if (address < this.bytes.length) this.bytes.set(from, address);
    else this.foreign?.write(address, from);
  }

  /** Bytes were written through `bytes` by somebody other than a device: whoever watches hears. */
  touched(_address: number, _length: number): void {
    // Nobody watches plain RAM.
  }

  #distant(address: number, length: number): DataView {
    const bytes = new Uint8Array(length);
    this.read(address, bytes);
    return new DataView(bytes.buffer);
  }
}
