/** x86 page tables in guest memory (SDM volume 3, 4- and 5-level paging). */
import {
  ADDRESS_MASK,
  ENTRIES_PER_TABLE,
  FS,
  levelBytes,
  PAGE_SIZE,
  pageIndex,
} from '../../devices/spec/x86/paging.ts';
import type { Core } from '../core.ts';

/** A user table entry: hardware adds A when it walks through it. */
const TABLE_FLAGS = FS.P | FS.RW | FS.US;

/** Bytes that one page of PTEs maps. */
const REGION_BYTES = levelBytes(2);

/**
 * The tables of one address space. Only this class writes entries, and what hardware may change at
 * the same time (A and D, by the CPU or the IOMMU) it changes with compare and exchange.
 * Virtual addresses are page-aligned numbers below 2^52.
 */
export class PageTable {
  readonly levels: 4 | 5;
  readonly #core: Core;
  #root: number;
  /** The page of PTEs used last, by the region it maps: faults come in runs. */
  #region = -1;
  #regionTable = 0;

  /** Throws GuestError ENOMEM. */
  constructor(core: Core) {
    this.#core = core;
    this.levels = core.pagingLevels;
    this.#root = core.pages.alloc();
  }

  /** Guest physical address of the top table: CR3, and FSPTPTR of the PASID entry. */
  get root(): number {
    return this.#root;
  }

  /** The entry that maps `address`, 0n if its tables do not exist. */
  entry(address: number): bigint {
    const table = this.#leafTable(address, false);
    return table === 0 ? 0n : this.#core.cpu.read64(table + 8 * pageIndex(address / PAGE_SIZE, 1));
  }

  /** Maps a page that is not present; no invalidation is owed. Throws GuestError ENOMEM. */
  map(address: number, frame: number, write: boolean): bigint {
    const table = this.#leafTable(address, true);
    const entry = BigInt(frame) | FS.P | FS.US | (write ? FS.RW : 0n);
    this.#core.cpu.write64(table + 8 * pageIndex(address / PAGE_SIZE, 1), entry);
    return entry;
  }

  /** Clears the entry of a page and returns what it was, A and D included. */
  clear(address: number): bigint {
    const table = this.#leafTable(address, false);
    if (table === 0) return 0n;
    return this.#exchange(table + 8 * pageIndex(address / PAGE_SIZE, 1), 0n);
  }

  /** First page-aligned address from `address` on whose page of PTEs exists, or `end`. */
  nextMapped(address: number, end: number): number {
    let at = address;
    while (at < end && this.#leafTable(at, false) === 0) {
      at = (Math.floor(at / REGION_BYTES) + 1) * REGION_BYTES;
    }
    return Math.min(at, end);
  }

  /**
   * A new top-level table with the same entries. The old one must live until every CPU and the
   * IOMMU have left it; it is returned for that. Throws GuestError ENOMEM.
   */
  moveRoot(): number {
    const { cpu, pages } = this.#core;
    const old = this.#root;
    const fresh = pages.alloc();
    cpu.copy(fresh, old, PAGE_SIZE);
    this.#root = fresh;
    this.#region = -1;
    return old;
  }

  /** Gives back all tables. The leaves must have been cleared. */
  free(): void {
    this.#freeTable(this.#root, this.levels);
    this.#region = -1;
  }

  #freeTable(table: number, level: number): void {
    const { cpu, pages } = this.#core;
    if (level > 1) {
      for (let i = 0; i < ENTRIES_PER_TABLE; i++) {
        const entry = cpu.read64(table + 8 * i);
        if ((entry & FS.P) !== 0n) this.#freeTable(Number(entry & ADDRESS_MASK), level - 1);
      }
    }
    pages.free(table);
  }

  /** The page of PTEs that covers `address`; 0 if there is none and `create` is false. */
  #leafTable(address: number, create: boolean): number {
    const region = Math.floor(address / REGION_BYTES);
    if (region === this.#region) return this.#regionTable;
    const { cpu, pages } = this.#core;
    const page = address / PAGE_SIZE;
    let table = this.#root;
    for (let level: number = this.levels; level > 1; level--) {
      const at = table + 8 * pageIndex(page, level);
      const entry = cpu.read64(at);
      if ((entry & FS.P) !== 0n) {
        table = Number(entry & ADDRESS_MASK);
        continue;
      }
      if (!create) return 0;
      table = pages.alloc();
      cpu.write64(at, BigInt(table) | TABLE_FLAGS);
    }
    this.#region = region;
    this.#regionTable = table;
    return table;
  }

  #exchange(at: number, value: bigint): bigint {
    const { cpu } = this.#core;
    let expected = cpu.read64(at);
    while (true) {
      const seen = cpu.cmpxchg64(at, expected, value);
      if (seen === expected) return seen;
      expected = seen;
    }
  }
}
