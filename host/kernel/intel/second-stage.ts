/** Second-stage page tables in RAM, written by the CPU and walked by the unit. */
import type { PhysicalMemory } from '../../../devices/memory.ts';
import { SSLPS } from '../../../devices/spec/vtd/registers.ts';
import {
  ADDRESS_LO,
  ENTRIES_PER_TABLE,
  levelPages,
  pageIndex,
  SS_LO,
} from '../../../devices/spec/x86/paging.ts';
import { Errno } from '../errno.ts';
import type { Platform } from './platform.ts';
import { allocTable, freeTable } from './platform.ts';

const PAGE_BYTES = 4096;

/** How many leaves of each size a mapping took. */
export interface Leaves {
  size4K: number;
  size2M: number;
  size1G: number;
}

/** What an unmap did. The tables may be freed once nothing cached leads to them. */
export interface Unmapped {
  /** Pages unmapped, from the start of the range without a gap in the leaves met. */
  pages: number;
  readonly tables: number[];
}

/**
 * A radix table of 512 entries a level. Pages are numbers (address / 4096), entries are written as
 * two 32-bit halves, the one with R and W last.
 */
export class SecondStageTable {
  readonly root: number;
  readonly levels: number;
  readonly #platform: Platform;
  readonly #ram: PhysicalMemory;
  /** Highest level with leaves: 1 4 KiB, 2 2 MiB, 3 1 GiB. */
  readonly #maxLeafLevel: number;

  /** @param sslps CAP.SSLPS. Errno ENOMEM. */
  constructor(platform: Platform, levels: number, sslps: number) {
    this.#platform = platform;
    this.#ram = platform.machine.ram;
    this.levels = levels;
    const has2M = (sslps & SSLPS.SIZE_2M) !== 0;
    this.#maxLeafLevel = !has2M ? 1 : (sslps & SSLPS.SIZE_1G) !== 0 ? 3 : 2;
    this.root = allocTable(platform, 'intel:page-table-root');
  }

  /** Page sizes as a bitmap: bit 12, 21, 30. */
  get pageSizes(): number {
    return (
      2 ** 12 + (this.#maxLeafLevel > 1 ? 2 ** 21 : 0) + (this.#maxLeafLevel > 2 ? 2 ** 30 : 0)
    );
  }

  /** Pages that the table can map. */
  get limit(): number {
    return levelPages(this.levels + 1);
  }

  /**
   * Maps `count` pages from `page` on to frames from `pfn` on, in the largest leaves that alignment
   * allows. Errno EEXIST: something is mapped there. ENOMEM. `leaves` tells how far it came: on a
   * throw its pages are mapped and are the caller's to unmap.
   *
   * @param access SS_LO.R and SS_LO.W bits
   */
  map(page: number, pfn: number, count: number, access: number, leaves: Leaves): void {
    let left = count;
    while (left > 0) {
      const level = this.#leafLevel(page, pfn, left);
      const placed = this.#place(page, pfn, level, left, access, leaves);
      page += placed;
      pfn += placed;
      left -= placed;
    }
  }

  /**
   * Unmaps the leaves that lie wholly in `count` pages from `page` on, and takes tables out that
   * the range covers wholly. It ends at a leaf that sticks out of the range.
   */
  unmap(page: number, count: number): Unmapped {
    const result: Unmapped = { pages: 0, tables: [] };
    this.#unmapIn(this.root, this.levels, page, count, result);
    return result;
  }

  /**
   * Tells of every dirty leaf that meets `count` pages from `page` on, as far as it lies in them,
   * and clears its dirty bit with `clear`. Returns whether there was one.
   */
  takeDirty(
    page: number,
    count: number,
    clear: boolean,
    tell: (page: number, count: number) => void,
  ): boolean {
    const end = Math.min(page + count, this.limit);
    let found = false;
    for (let at = page; at < end; ) {
      const { slot, lo, level } = this.#leaf(at);
      const pages = levelPages(level);
      const next = Math.min(at - (at % pages) + pages, end);
      if ((lo & (SS_LO.R | SS_LO.W)) !== 0 && (lo & SS_LO.D) !== 0) {
        found = true;
        tell(at, next - at);
        if (clear) this.#ram.write32(slot, lo & ~SS_LO.D);
      }
      at = next;
    }
    return found;
  }

  freeTables(tables: readonly number[]): void {
    for (const table of tables) freeTable(this.#platform, table);
  }

  /** Frees everything, the root too. Nothing may walk or cache the table any more. */
  free(): void {
    this.#freeBelow(this.root, this.levels);
    freeTable(this.#platform, this.root);
  }

  /** Frame behind a page, or -1. */
  lookup(page: number): number {
    if (page < 0 || page >= this.limit) return -1;
    const { slot, lo, level } = this.#leaf(page);
    if ((lo & (SS_LO.R | SS_LO.W)) === 0) return -1;
    return this.#target(slot) + (page % levelPages(level));
  }

  /** The entry that maps a page, or the one that is not present. */
  #leaf(page: number): { slot: number; lo: number; level: number } {
    let table = this.root;
    for (let level = this.levels; ; level--) {
      const slot = table + 8 * pageIndex(page, level);
      const lo = this.#ram.read32(slot);
      const present = (lo & (SS_LO.R | SS_LO.W)) !== 0;
      if (!present || level === 1 || (lo & SS_LO.PS) !== 0) return { slot, lo, level };
      table = this.#target(slot) * PAGE_BYTES;
    }
  }

  #leafLevel(page: number, pfn: number, left: number): number {
    let level = this.#maxLeafLevel;
    while (level > 1) {
      const pages = levelPages(level);
      if (left >= pages && page % pages === 0 && pfn % pages === 0) break;
      level--;
    }
    return level;
  }

  /** Writes leaves of one table, from the slot of `page` on; returns the pages mapped. */
  #place(
    page: number,
    pfn: number,
    wanted: number,
    left: number,
    access: number,
    leaves: Leaves,
  ): number {
    // Where smaller leaves were before, their (empty) tables stay, and leaves go below.
    const { table, level } = this.#descend(page, wanted);
    const pages = levelPages(level);
    const flags = level === 1 ? access : access | SS_LO.PS;
    let placed = 0;
    for (let index = pageIndex(page, level); index < ENTRIES_PER_TABLE; index++) {
      if (left - placed < pages) break;
      const slot = table + 8 * index;
      if ((this.#ram.read32(slot) & (SS_LO.R | SS_LO.W)) !== 0) {
        if (placed > 0) break;
        throw new Errno('EEXIST', `page 0x${(page + placed).toString(16)} is mapped`);
      }
      this.#write(slot, pfn + placed, flags);
      placed += pages;
      if (level === 1) leaves.size4K++;
      else if (level === 2) leaves.size2M++;
      else leaves.size1G++;
      // A larger leaf may fit from here on.
      if (level < this.#maxLeafLevel && (page + placed) % levelPages(level + 1) === 0) break;
    }
    return placed;
  }

  /** The table of level `wanted` for `page`, or of a lower level where tables lead further down. */
  #descend(page: number, wanted: number): { table: number; level: number } {
    let table = this.root;
    for (let level = this.levels; level > 1; level--) {
      const slot = table + 8 * pageIndex(page, level);
      const lo = this.#ram.read32(slot);
      const present = (lo & (SS_LO.R | SS_LO.W)) !== 0;
      if (present && (lo & SS_LO.PS) !== 0) {
        throw new Errno('EEXIST', `page 0x${page.toString(16)} is mapped by a large leaf`);
      }
      if (level <= wanted && !present) return { table, level };
      if (!present) {
        const below = allocTable(this.#platform, 'intel:page-table');
        this.#write(slot, below / PAGE_BYTES, SS_LO.R | SS_LO.W);
      }
      table = this.#target(slot) * PAGE_BYTES;
    }
    return { table, level: 1 };
  }

  /** Unmaps inside one table. False: a leaf stuck out, and the unmap is over. */
  #unmapIn(table: number, level: number, page: number, count: number, out: Unmapped): boolean {
    const pages = levelPages(level);
    const end = page + count;
    for (let at = page; at < end; ) {
      const slot = table + 8 * pageIndex(at, level);
      const start = at - (at % pages);
      const next = Math.min(end, start + pages);
      const whole = at === start && next === start + pages;
      const lo = this.#ram.read32(slot);
      if ((lo & (SS_LO.R | SS_LO.W)) !== 0) {
        if (level === 1 || (lo & SS_LO.PS) !== 0) {
          if (!whole) return false;
          this.#write(slot, 0, 0);
          out.pages += pages;
        } else {
          const below = this.#target(slot) * PAGE_BYTES;
          if (!this.#unmapIn(below, level - 1, at, next - at, out)) return false;
          if (whole) {
            this.#write(slot, 0, 0);
            this.#collect(below, level - 1, out.tables);
          }
        }
      }
      at = next;
    }
    return true;
  }

  /** An emptied table and the tables under it. */
  #collect(table: number, level: number, into: number[]): void {
    into.push(table);
    if (level === 1) return;
    for (let slot = table; slot < table + PAGE_BYTES; slot += 8) {
      const lo = this.#ram.read32(slot);
      if ((lo & (SS_LO.R | SS_LO.W)) === 0 || (lo & SS_LO.PS) !== 0) continue;
      this.#collect(this.#target(slot) * PAGE_BYTES, level - 1, into);
    }
  }

  #freeBelow(table: number, level: number): void {
    const tables: number[] = [];
    this.#collect(table, level, tables);
    this.freeTables(tables.slice(1));
  }

  /** Frame that an entry points to. */
  #target(slot: number): number {
    const lo = (this.#ram.read32(slot) & ADDRESS_LO) >>> 12;
    return this.#ram.read32(slot + 4) * 2 ** 20 + lo;
  }

  #write(slot: number, pfn: number, flags: number): void {
    this.#ram.write32(slot + 4, Math.floor(pfn / 2 ** 20));
    this.#ram.write32(slot, ((pfn % 2 ** 20) << 12) | flags);
  }
}
