import type { Task } from '../syscall.ts';

/** Highest address that mappings are handed out below, and the lowest they may reach. */
const MMAP_TOP = 0x7f00_0000_0000;
const MMAP_BOTTOM = 0x1_0000;

/** A file that a mapping keeps open. */
export interface MappedFile {
  get(): unknown;
  put(): Task;
}

/** Device memory behind a mapping. */
export interface DeviceBacking {
  /** Physical address of the mapping's first byte. */
  readonly physical: number;
  /** Asked at each access; false: the access is a SIGBUS. */
  readonly accessible: () => boolean;
  readonly file: MappedFile;
}

/** Pages of a file behind a mapping, shared with whoever else maps them. */
export interface SharedBacking {
  readonly pfns: Int32Array;
  readonly memory: SharedMemory;
  /** Page of the file that the mapping begins with. */
  readonly firstPage: number;
}

/** What a mapping needs of a file's pages. */
export interface SharedMemory {
  hold(): void;
  release(): void;
  /** Frame of a page of the file, or -1. */
  frame(page: number): number;
}

/** A mapping: a page aligned range of one kind of memory. */
export class Vma {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** PROT_* bits. */
  readonly prot: number;
  /** Memory: the frame of each page, -1 until it is first touched. */
  readonly pfns: Int32Array | null;
  /** Whose pages they are; null for anonymous memory, which owns them. */
  readonly shared: SharedBacking | null;
  readonly device: DeviceBacking | null;

  constructor(
    start: number,
    end: number,
    prot: number,
    backing: { readonly pfns: Int32Array } | SharedBacking | { readonly device: DeviceBacking },
  ) {
    this.start = start;
    this.end = end;
    this.prot = prot;
    this.pfns = 'pfns' in backing ? backing.pfns : null;
    this.shared = 'memory' in backing ? backing : null;
    this.device = 'device' in backing ? backing.device : null;
  }

  /** The part from `start` to `end`, which lie inside; it shares the page table. */
  slice(start: number, end: number): Vma {
    if (this.device !== null) {
      const physical = this.device.physical + (start - this.start);
      return new Vma(start, end, this.prot, { device: { ...this.device, physical } });
    }
    const pfns = this.pfns!.subarray((start - this.start) / 4096, (end - this.start) / 4096);
    if (this.shared === null) return new Vma(start, end, this.prot, { pfns });
    const firstPage = this.shared.firstPage + (start - this.start) / 4096;
    return new Vma(start, end, this.prot, { pfns, memory: this.shared.memory, firstPage });
  }
}

/** The mappings of a process, by address. */
export class VmaList {
  readonly #vmas: Vma[] = [];
  #last: Vma | undefined;

  get length(): number {
    return this.#vmas.length;
  }

  /** The mapping that holds `address`. */
  find(address: number): Vma | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.start && address < last.end) return last;
    const vma = this.#vmas[this.#indexAfter(address) - 1];
    if (vma === undefined || !(address >= vma.start && address < vma.end)) return undefined;
    this.#last = vma;
    return vma;
  }

  /** The mappings that share bytes with the range, ascending. */
  overlapping(start: number, end: number): Vma[] {
    const found: Vma[] = [];
    for (let i = Math.max(0, this.#indexAfter(start) - 1); i < this.#vmas.length; i++) {
      const vma = this.#vmas[i]!;
      if (vma.start >= end) break;
      if (vma.end > start) found.push(vma);
    }
    return found;
  }

  all(): readonly Vma[] {
    return this.#vmas;
  }

  /** Adds a mapping where none is. */
  insert(vma: Vma): void {
    this.#vmas.splice(this.#indexAfter(vma.start), 0, vma);
  }

  remove(vma: Vma): void {
    this.#vmas.splice(this.#indexAfter(vma.start) - 1, 1);
    if (this.#last === vma) this.#last = undefined;
  }

  /** The highest free range of `length` bytes below the top, aligned; -1 when there is none. */
  gap(length: number, alignment: number): number {
    let top = MMAP_TOP;
    for (let i = this.#vmas.length; i >= 0; i--) {
      const bottom = i === 0 ? MMAP_BOTTOM : this.#vmas[i - 1]!.end;
      const start = Math.floor((top - length) / alignment) * alignment;
      if (start >= bottom) return start;
      if (i > 0) top = this.#vmas[i - 1]!.start;
    }
    return -1;
  }

  /** Index of the first mapping that starts above `address`. */
  #indexAfter(address: number): number {
    let low = 0;
    let high = this.#vmas.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#vmas[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
