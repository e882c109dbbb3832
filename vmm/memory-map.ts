import type { Task } from '../host/syscall.ts';

/** An emulated register window. Offsets are bytes from its start; sizes 1, 2, 4 or 8. */
export interface MmioHandler {
  /** The register behind an offset, for traces: 'VTD IQT'. */
  describe(offset: number): string;
  /** Any offset and size: what has no meaning reads all ones or 0 and ignores writes. */
  read(offset: number, size: number): Task<bigint>;
  write(offset: number, size: number, value: bigint): Task;
}

/** Guest physical memory that the vCPU reaches without an exit, at `hva` in the VMM's own memory. */
export interface MemoryRange {
  /** `ram`: DMA reaches it too. `memory`: plain memory of an emulated device. `device`: mapped MMIO. */
  readonly kind: 'ram' | 'memory' | 'device';
  readonly start: number;
  readonly bytes: number;
  readonly hva: number;
}

/** Guest physical addresses that trap to the VMM. */
export interface TrapRange {
  readonly kind: 'trap';
  readonly start: number;
  readonly bytes: number;
  readonly handler: MmioHandler;
}

export type Range = MemoryRange | TrapRange;

/** What is at which guest physical address. Addresses are bytes below 2^52. */
export class MemoryMap {
  readonly #ranges: Range[] = [];
  #last: Range | null = null;

  /** All ranges in address order. */
  get ranges(): readonly Range[] {
    return this.#ranges;
  }

  /** False, and nothing changes, when the range is empty, leaves 2^52 or overlaps another. */
  add(range: Range): boolean {
    const end = range.start + range.bytes;
    if (range.bytes <= 0 || range.start < 0 || end > 2 ** 52) return false;
    if (
      this.#ranges.some((other) => range.start < other.start + other.bytes && other.start < end)
    ) {
      return false;
    }
    this.#ranges.push(range);
    this.#ranges.sort((a, b) => a.start - b.start);
    return true;
  }

  remove(range: Range): void {
    const at = this.#ranges.indexOf(range);
    if (at >= 0) this.#ranges.splice(at, 1);
    this.#last = null;
  }

  /** The range that holds the address, or null for a hole. */
  find(address: number): Range | null {
    const last = this.#last;
    if (last !== null && address >= last.start && address < last.start + last.bytes) return last;
    for (const range of this.#ranges) {
      if (address < range.start) return null;
      if (address < range.start + range.bytes) {
        this.#last = range;
        return range;
      }
    }
    return null;
  }

  /** Where in the VMM's memory `length` bytes of RAM are; -1 unless they all are in one RAM range. */
  ram(address: number, length: number): number {
    const range = this.find(address);
    return range?.kind === 'ram' ? within(range, address, length) : -1;
  }

  /** The same for RAM and for plain memory of emulated devices. */
  memory(address: number, length: number): number {
    const range = this.find(address);
    const isMemory = range?.kind === 'ram' || range?.kind === 'memory';
    return isMemory ? within(range, address, length) : -1;
  }

  /** The same for mapped device memory. */
  device(address: number, length: number): number {
    const range = this.find(address);
    return range?.kind === 'device' ? within(range, address, length) : -1;
  }
}

function within(range: MemoryRange, address: number, length: number): number {
  const offset = address - range.start;
  return length >= 0 && offset + length <= range.bytes ? range.hva + offset : -1;
}
