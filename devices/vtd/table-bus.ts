import type { PhysicalMemory } from '../memory.ts';

/**
 * How the checked walks read and update table entries: any physical memory, with access errors.
 * An entry is delivered as two int32 halves in `lo` and `hi`.
 */
export class TableBus {
  lo = 0;
  hi = 0;
  /** Entries read since the unit was made. */
  loads = 0;
  readonly #memory: PhysicalMemory;
  readonly #atomics: ((address: number) => boolean) | undefined;
  readonly #limit: number;

  /**
   * @param haw host address width in bits: addresses beyond it are not accessible
   * @param atomics as in `VtdWorld`
   */
  constructor(memory: PhysicalMemory, haw: number, atomics?: (address: number) => boolean) {
    this.#memory = memory;
    this.#atomics = atomics;
    this.#limit = 2 ** haw;
  }

  /** Whether an aligned structure of `bytes` bytes can be read. */
  reaches(address: number, bytes: number): boolean {
    return address + bytes <= this.#limit && this.#memory.contains(address, bytes);
  }

  /** Reads the 8-byte entry at a byte address. False: not accessible. */
  load(address: number): boolean {
    if (!this.reaches(address, 8)) return false;
    this.loads++;
    this.lo = this.#memory.read32(address);
    this.hi = this.#memory.read32(address + 4);
    return true;
  }

  /**
   * Sets bits of the low half of the entry at a byte address that `load` just reached. One thread
   * owns the simulated memory, so reading and writing at once is the locked update of the spec.
   * False: the memory there refuses locked updates.
   */
  setBits(address: number, low: number): boolean {
    if (this.#atomics?.(address) === false) return false;
    this.#memory.write32(address, this.#memory.read32(address) | low);
    return true;
  }
}

/** Byte address in bits 51:12 of an entry given as int32 halves. */
export function entryPointer(lo: number, hi: number): number {
  return entryFrame(lo, hi) * 4096;
}

/** Frame number in bits 51:12 of an entry given as int32 halves. */
export function entryFrame(lo: number, hi: number): number {
  return (hi & 0xf_ffff) * 2 ** 20 + (lo >>> 12);
}
