import { PROT_WRITE } from '../uapi/poll.ts';
import { BLOCK_FRAMES, type PageAllocator } from './page-alloc.ts';
import type { Vma } from './vma.ts';
import { VmaList } from './vma.ts';

export const PAGE_BYTES = 4096;
const BLOCK_BYTES = BLOCK_FRAMES * PAGE_BYTES;

/** Where an access lands, as `AddressSpace.locate` found it. */
export interface Place {
  /** Physical address of the first byte. */
  physical: number;
  /** Device memory rather than RAM. */
  device: boolean;
  /** After a refusal: why. */
  why: string;
}

/**
 * A process's virtual addresses and what is behind them. One look-up per run of contiguous frames;
 * nothing is allocated on the way (ARCHITECTURE.md).
 */
export class AddressSpace {
  readonly vmas = new VmaList();
  readonly place: Place = { physical: 0, device: false, why: '' };
  readonly #pages: PageAllocator;

  constructor(pages: PageAllocator) {
    this.#pages = pages;
  }

  /**
   * Translates an access by the process's own code. Returns how many of the `length` bytes (>= 1)
   * from `address` lie in a row physically, from `place.physical` on; or 0 for a fault, with the
   * reason in `place.why`. Untouched anonymous pages come into being.
   */
  locate(address: number, length: number, write: boolean): number {
    const place = this.place;
    const vma = this.vmas.find(address);
    if (vma === undefined || !allows(vma, write)) {
      place.why = vma === undefined ? 'nothing is mapped there' : refusal(write);
      return 0;
    }
    const offset = address - vma.start;
    if (vma.pfns === null) return this.#locateDevice(vma, offset, length);
    let page = Math.floor(offset / PAGE_BYTES);
    let pfn = vma.pfns[page]!;
    if (pfn < 0) pfn = this.populate(vma, page);
    if (pfn < 0) {
      place.why = 'out of memory';
      return 0;
    }
    const inPage = offset - page * PAGE_BYTES;
    place.physical = pfn * PAGE_BYTES + inPage;
    place.device = false;
    let run = PAGE_BYTES - inPage;
    while (run < length && vma.pfns[++page] === ++pfn) run += PAGE_BYTES;
    return run < length ? run : length;
  }

  /** Whether every byte of the range is memory that allows the access. */
  covers(start: number, end: number, write: boolean): boolean {
    let at = start;
    while (at < end) {
      const vma = this.vmas.find(at);
      if (vma === undefined || vma.pfns === null || !allows(vma, write)) return false;
      at = vma.end;
    }
    return true;
  }

  /**
   * First touch of page `page` of a mapping of memory: its frame, or -1 when memory is exhausted or
   * the mapped file ends before. An untouched, aligned 2 MiB of anonymous memory gets one block if
   * there is one.
   */
  populate(vma: Vma, page: number): number {
    const pfns = vma.pfns!;
    if (vma.shared !== null) {
      const { memory, firstPage } = vma.shared;
      return (pfns[page] = memory.frame(firstPage + page));
    }
    const address = vma.start + page * PAGE_BYTES;
    const block = Math.floor(address / BLOCK_BYTES) * BLOCK_BYTES;
    const first = (block - vma.start) / PAGE_BYTES;
    if (first >= 0 && block + BLOCK_BYTES <= vma.end && isUntouched(pfns, first)) {
      const run = this.#pages.tryRun(BLOCK_FRAMES);
      if (run >= 0) {
        for (let i = 0; i < BLOCK_FRAMES; i++) pfns[first + i] = run + i;
        return pfns[page]!;
      }
    }
    const pfn = this.#pages.tryRun(1);
    if (pfn >= 0) pfns[page] = pfn;
    return pfn;
  }

  #locateDevice(vma: Vma, offset: number, length: number): number {
    const device = vma.device!;
    if (!device.accessible()) {
      this.place.why = 'the device does not decode memory (SIGBUS)';
      return 0;
    }
    this.place.physical = device.physical + offset;
    this.place.device = true;
    return Math.min(length, vma.end - vma.start - offset);
  }
}

/** On x86 what may be written or executed may be read. */
function allows(vma: Vma, write: boolean): boolean {
  return write ? (vma.prot & PROT_WRITE) !== 0 : vma.prot !== 0;
}

function refusal(write: boolean): string {
  return write ? 'the mapping is not writable' : 'the mapping is not readable';
}

function isUntouched(pfns: Int32Array, first: number): boolean {
  for (let i = first; i < first + BLOCK_FRAMES; i++) if (pfns[i]! >= 0) return false;
  return true;
}
