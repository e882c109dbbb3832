/** The guest's page allocator: 4 KiB frames of the RAM the boot page lists. */
import { PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import type { Cpu } from '../cpu.ts';
import { GuestError } from '../errno.ts';

export interface MemoryRange {
  readonly start: number;
  readonly bytes: number;
}

/** Low memory is left alone: the boot page and whatever firmware keeps there. */
export const LOW_MEMORY_BYTES = 0x10_0000;

/** Frames kept back from promises to programs, for page tables and the kernel: 1/64, at least 128. */
const RESERVE_SHARE = 64;
const RESERVE_MIN = 128;

/** Of `total` frames, those that are never promised to programs. */
export function reservedPages(total: number): number {
  return Math.max(RESERVE_MIN, Math.ceil(total / RESERVE_SHARE));
}

/** Usable ranges, whole pages, without the pages that `reserved` touches. */
function usable(ranges: readonly MemoryRange[], reserved: readonly MemoryRange[]): MemoryRange[] {
  let left = ranges.map(({ start, bytes }) => ({
    start: Math.ceil(start / PAGE_SIZE) * PAGE_SIZE,
    end: Math.floor((start + bytes) / PAGE_SIZE) * PAGE_SIZE,
  }));
  for (const hole of reserved) {
    const from = Math.floor(hole.start / PAGE_SIZE) * PAGE_SIZE;
    const to = Math.ceil((hole.start + hole.bytes) / PAGE_SIZE) * PAGE_SIZE;
    left = left.flatMap(({ start, end }) => [
      { start, end: Math.min(end, from) },
      { start: Math.max(start, to), end },
    ]);
  }
  return left
    .filter(({ start, end }) => start < end)
    .sort((a, b) => a.start - b.start)
    .map(({ start, end }) => ({ start, bytes: end - start }));
}

/**
 * Deals frames, as guest physical addresses, first from those given back, then upwards. Memory that
 * programs map is promised in advance (strict overcommit), so that running out shows at mmap.
 */
export class PageAllocator {
  /** Frames the allocator has in all. */
  readonly totalPages: number;
  readonly #cpu: Cpu;
  readonly #ranges: readonly MemoryRange[];
  readonly #freed: number[] = [];
  #range = 0;
  #next: number;
  #freePages: number;
  #committed = 0;

  constructor(cpu: Cpu, ranges: readonly MemoryRange[], reserved: readonly MemoryRange[]) {
    this.#cpu = cpu;
    this.#ranges = usable(ranges, [{ start: 0, bytes: LOW_MEMORY_BYTES }, ...reserved]);
    this.totalPages = this.#ranges.reduce((sum, { bytes }) => sum + bytes / PAGE_SIZE, 0);
    this.#freePages = this.totalPages;
    this.#next = this.#ranges[0]?.start ?? 0;
  }

  get freePages(): number {
    return this.#freePages;
  }

  /** Pages promised to programs and not given back. */
  get committedPages(): number {
    return this.#committed;
  }

  /** A zeroed frame. Throws GuestError ENOMEM when there is none. */
  alloc(): number {
    const frame = this.#freed.pop() ?? this.#take(1);
    this.#freePages--;
    this.#cpu.zero(frame, PAGE_SIZE);
    return frame;
  }

  /** `count` zeroed frames in a row, for structures that hardware reads (boot time). ENOMEM. */
  allocRun(count: number): number {
    const frame = this.#take(count);
    this.#freePages -= count;
    this.#cpu.zero(frame, count * PAGE_SIZE);
    return frame;
  }

  free(frame: number): void {
    this.#cpu.freed?.(frame);
    this.#freed.push(frame);
    this.#freePages++;
  }

  /** Promises `pages` to a program. Throws GuestError ENOMEM, naming what is left. */
  commit(pages: number): void {
    const reserve = reservedPages(this.totalPages);
    const left = Math.max(0, this.totalPages - reserve - this.#committed);
    if (pages > left) {
      throw new GuestError(
        'ENOMEM',
        `out of guest memory: ${pages * PAGE_SIZE} bytes asked for, ${left * PAGE_SIZE} left`,
      );
    }
    this.#committed += pages;
  }

  uncommit(pages: number): void {
    this.#committed -= pages;
  }

  #take(count: number): number {
    for (; this.#range < this.#ranges.length; this.#range++) {
      const range = this.#ranges[this.#range]!;
      if (this.#next < range.start) this.#next = range.start;
      const frame = this.#next;
      if (frame + count * PAGE_SIZE <= range.start + range.bytes) {
        this.#next = frame + count * PAGE_SIZE;
        return frame;
      }
      this.#giveUpRest(range);
    }
    throw new GuestError('ENOMEM', `no ${count} free pages in a row, ${this.#freePages} in all`);
  }

  /** A range that is too short for a run still serves single pages. */
  #giveUpRest(range: MemoryRange): void {
    for (; this.#next < range.start + range.bytes; this.#next += PAGE_SIZE) {
      this.#freed.push(this.#next);
    }
  }
}
