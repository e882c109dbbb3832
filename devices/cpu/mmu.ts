import {
  ADDRESS_MASK,
  entryAddress,
  FS,
  inputWidth,
  isCanonical,
  levelIndex,
  levelShift,
} from '../spec/x86/paging.ts';

/** What a page walk needs of physical memory: aligned 64-bit entries. A hole reads all ones. */
export interface PageTableMemory {
  read64(address: number): bigint;
  /** Atomic compare and exchange; returns the old value. */
  cmpxchg64(address: number, expected: bigint, value: bigint): bigint;
}

/** Bits of the #PF error code (SDM volume 3, "Page-fault exceptions"). */
export const PF = { PRESENT: 1, WRITE: 2, USER: 4, RESERVED: 8 } as const;

export interface MmuOptions {
  /** MAXPHYADDR: physical address bits, 36 to 52; entry bits from there to 51 are reserved. */
  readonly physicalBits: number;
  /** 1 GiB pages; without them PS in a PDPTE is reserved. */
  readonly gbpages: boolean;
}

const PAGE_OFFSET = 0xfffn;
const LEVELS_MAX = 5;
/** Another agent may change an entry between its load and the exchange; it cannot do so for ever. */
const ATTEMPTS = 16;

/**
 * The page walk of an x86 CPU in 4-level or 5-level paging: permissions, reserved bits, accessed and
 * dirty flags. It caches nothing, so no invalidation is owed to it. CR0.WP is 1, EFER.NXE is 1.
 */
export class Mmu {
  /** Physical address of the top table; bits 11:0 are ignored. */
  cr3 = 0;
  /** CR4.LA57: five levels. */
  la57 = false;
  /** After a translation that succeeded: the physical address. */
  address = 0;
  /** After a translation that succeeded: bytes from `address` to the end of the page it is in. */
  room = 0;
  /** After one that failed: the #PF error code, `PF` bits. */
  error = 0;
  readonly #memory: PageTableMemory;
  readonly #gbpages: boolean;
  readonly #reservedAddress: bigint;
  readonly #slots = new Float64Array(LEVELS_MAX + 1);
  readonly #entries = new BigUint64Array(LEVELS_MAX + 1);

  constructor(memory: PageTableMemory, options: MmuOptions) {
    this.#memory = memory;
    this.#gbpages = options.gbpages;
    this.#reservedAddress = ADDRESS_MASK & ~((1n << BigInt(options.physicalBits)) - 1n);
  }

  /**
   * Translates a linear address for one access. True: `address` and `room` are set, A bits are set
   * in every entry used, D in the leaf of a write. False: `error` is the #PF error code. An address
   * that is not canonical (a #GP on hardware) is reported as a page that is not present.
   */
  translate(linear: bigint, write: boolean, user: boolean): boolean {
    const access = (write ? PF.WRITE : 0) | (user ? PF.USER : 0);
    const levels = this.la57 ? 5 : 4;
    if (!isCanonical(linear, inputWidth(levels))) return this.#fail(access);
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const leaf = this.#walk(linear, levels, access);
      if (leaf < 0) return false;
      if (!this.#markUsed(levels, leaf, write)) continue;
      const size = 2 ** levelShift(leaf);
      const offset = Number(linear & (BigInt(size) - 1n));
      this.address = entryAddress(this.#entries[leaf]!, leaf) + offset;
      this.room = size - offset;
      return true;
    }
    return this.#fail(access);
  }

  /** Loads the entries down to the leaf and checks them; the leaf's level, or -1 with `error` set. */
  #walk(linear: bigint, levels: number, access: number): number {
    let table = this.cr3 - (this.cr3 % 4096);
    let granted = FS.RW | FS.US;
    for (let level = levels; level >= 1; level--) {
      const slot = table + levelIndex(linear, level) * 8;
      const entry = this.#memory.read64(slot);
      if ((entry & FS.P) === 0n) return this.#refuse(access);
      if (this.#isReserved(entry, level)) return this.#refuse(access | PF.PRESENT | PF.RESERVED);
      this.#slots[level] = slot;
      this.#entries[level] = entry;
      granted &= entry;
      if (level === 1 || (entry & FS.PS) !== 0n) {
        const user = (access & PF.USER) !== 0;
        const denied =
          (user && (granted & FS.US) === 0n) ||
          ((access & PF.WRITE) !== 0 && (granted & FS.RW) === 0n);
        return denied ? this.#refuse(access | PF.PRESENT) : level;
      }
      table = entryAddress(entry, level);
    }
    return this.#refuse(access);
  }

  #isReserved(entry: bigint, level: number): boolean {
    if ((entry & this.#reservedAddress) !== 0n) return true;
    if (level === 1 || (entry & FS.PS) === 0n) return false;
    if (level > 3 || (level === 3 && !this.#gbpages)) return true;
    // Below the page's own size only bit 12 (PAT) may be set.
    const low = (1n << BigInt(levelShift(level))) - 1n;
    return (entry & low & ~PAGE_OFFSET & ~(1n << 12n)) !== 0n;
  }

  /** Sets A and D where they are missing; false when an entry changed meanwhile. */
  #markUsed(levels: number, leaf: number, write: boolean): boolean {
    for (let level = levels; level >= leaf; level--) {
      const entry = this.#entries[level]!;
      const used = entry | FS.A | (write && level === leaf ? FS.D : 0n);
      if (used === entry) continue;
      if (this.#memory.cmpxchg64(this.#slots[level]!, entry, used) !== entry) return false;
    }
    return true;
  }

  #refuse(error: number): number {
    this.error = error;
    return -1;
  }

  #fail(error: number): false {
    this.error = error;
    return false;
  }
}
