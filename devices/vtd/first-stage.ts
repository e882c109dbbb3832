import type { PhysicalMemory } from '../memory.ts';
import { FS_LO } from '../spec/x86/paging.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import { TLB } from './iotlb.ts';
import type { Outcome } from './outcome.ts';
import { type FirstStageCache, TABLE_WRITABLE } from './structure-caches.ts';

/**
 * First-stage walks in the ordinary case, out of flat memory (VT-d spec 3.6): every entry passes
 * one combined test, and whatever surprises is left to the checked walk, with nothing changed.
 */
export class FirstStage {
  /** Entries read. */
  loads = 0;
  readonly #cache: FirstStageCache;
  readonly #outcome: Outcome;
  readonly #words: Int32Array;
  readonly #frames: number;
  readonly #surpriseHi: number;
  readonly #gigabytePages: boolean;

  constructor(parts: {
    config: UnitConfig;
    memory: PhysicalMemory;
    cache: FirstStageCache;
    outcome: Outcome;
  }) {
    this.#cache = parts.cache;
    this.#outcome = parts.outcome;
    this.#words = parts.memory.words;
    this.#frames = this.#words.length >>> 10;
    this.#surpriseHi = parts.config.fastHi;
    this.#gigabytePages = parts.config.cap.FS1GP === 1;
  }

  /**
   * Translates the page whose number has the halves `hi` (bits 51:32) and `lo`. `write`: fail unless
   * writable; `dirty`: a writable page must have its dirty bit. False: take the checked walk.
   */
  fast(
    how: PasidConfig,
    hi: number,
    lo: number,
    user: boolean,
    write: boolean,
    dirty: boolean,
  ): boolean {
    if (!isCanonical(how.fsLevels, hi)) return false;
    const cache = this.#cache;
    const { did, pasid } = how;
    let level = 1;
    let slot = cache.find(2, did, pasid, hi, lo);
    if (slot < 0 && (slot = cache.find(3, did, pasid, hi, lo)) >= 0) level = 2;
    if (slot < 0 && (slot = cache.find(4, did, pasid, hi, lo)) >= 0) level = 3;
    if (slot >= 0) {
      const granted = cache.permissions[slot]!;
      return this.#descend(how, hi, lo, level, cache.table[slot]!, granted, user, write, dirty);
    }
    return this.#descend(how, hi, lo, how.fsLevels, how.fsRoot, -1, user, write, dirty);
  }

  #descend(
    how: PasidConfig,
    hi: number,
    lo: number,
    from: number,
    root: number,
    granted: number,
    user: boolean,
    write: boolean,
    dirty: boolean,
  ): boolean {
    const words = this.#words;
    const must = requiredBits(how, user, write);
    if ((granted & must & PERMISSIONS) !== (must & PERMISSIONS)) return false;
    let level = from;
    let table = root;
    let access = granted;
    for (;;) {
      if (table >= this.#frames) return false;
      const at = (table << 10) | (indexOf(level, hi, lo) << 1);
      const entryLo = words[at]!;
      const entryHi = words[at + 1]!;
      this.loads++;
      if ((entryLo & must) !== must || (entryHi & this.#surpriseHi) !== 0) return false;
      access &= entryLo;
      const next = ((entryHi & 0x7ff) << 20) | (entryLo >>> 12);
      if (level === 1) return this.#found(how, access, entryLo, user, dirty, 12, next);
      if ((entryLo & FS_LO.PS) !== 0) {
        const low = this.#largeLow(level);
        // The bit above the attribute bit of a large leaf's frame must be clear, as all below it.
        if (low < 0 || (next & low & ~1) !== 0) return false;
        const frame = (next & ~low) | (lo & low);
        return this.#found(how, access, entryLo, user, dirty, level === 2 ? 21 : 30, frame);
      }
      this.#cache.keep(level, how.did, how.pasid, hi, lo, next, access | TABLE_WRITABLE);
      table = next;
      level--;
    }
  }

  #found(
    how: PasidConfig,
    access: number,
    leaf: number,
    user: boolean,
    dirty: boolean,
    shift: number,
    frame: number,
  ): boolean {
    let flags: number = how.forceSnoop ? TLB.R | TLB.SNOOP : TLB.R;
    if ((access & FS_LO.RW) !== 0 || !(user || how.wpe)) {
      if ((leaf & FS_LO.D) !== 0) flags |= TLB.W;
      else if (dirty) return false;
    }
    const outcome = this.#outcome;
    outcome.frame = frame;
    outcome.shift = shift;
    outcome.flags = flags;
    return true;
  }

  /** Low frame bits inside a large page of the level, or -1 where PS is reserved. */
  #largeLow(level: number): number {
    if (level === 2) return 0x1ff;
    return level === 3 && this.#gigabytePages ? 0x3_ffff : -1;
  }
}

// Constant to the compiler only when they are here.
const { P, A, RW, US, EA } = FS_LO;

/** Entry bits that add up over the levels. */
export const PERMISSIONS = FS_LO.RW | FS_LO.US;

/** Low-half bits that every entry of an ordinary walk has set. */
export function requiredBits(how: PasidConfig, user: boolean, write: boolean): number {
  let must = P | A;
  if (how.eafe) must |= EA;
  if (user) must |= US;
  if (write && (user || how.wpe)) must |= RW;
  return must;
}

/** Table index (0 to 511) at a level, of a page number's halves. */
export function indexOf(level: number, hi: number, lo: number): number {
  if (level < 4) return (lo >>> (9 * (level - 1))) & 511;
  return level === 4 ? ((lo >>> 27) | (hi << 5)) & 511 : (hi >>> 4) & 511;
}

/** Whether the page of that high half is canonical for 4 (48 bits) or 5 levels (57 bits). */
export function isCanonical(levels: number, hi: number): boolean {
  if (levels === 4) return hi >>> 3 === 0 || hi >>> 3 === 0x1_ffff;
  return hi >>> 12 === 0 || hi >>> 12 === 0xff;
}
