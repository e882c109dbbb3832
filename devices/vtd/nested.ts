import type { PhysicalMemory } from '../memory.ts';
import { FS_LO, SS_LO } from '../spec/x86/paging.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import { indexOf, isCanonical, PERMISSIONS, requiredBits } from './first-stage.ts';
import { TLB } from './iotlb.ts';
import type { Outcome } from './outcome.ts';
import type { SecondStage } from './second-stage.ts';
import { type FirstStageCache, TABLE_WRITABLE } from './structure-caches.ts';

const RW = SS_LO.R | SS_LO.W;

/**
 * Nested walks in the ordinary case, out of flat memory (VT-d spec 3.8): as the first stage's fast
 * walk, with each table's and the final guest frame sent through the second stage.
 */
export class Nested {
  /** First-stage entries read. */
  loads = 0;
  readonly #cache: FirstStageCache;
  readonly #second: SecondStage;
  readonly #outcome: Outcome;
  readonly #words: Int32Array;
  readonly #frames: number;
  readonly #surpriseHi: number;
  readonly #gigabytePages: boolean;

  constructor(parts: {
    config: UnitConfig;
    memory: PhysicalMemory;
    cache: FirstStageCache;
    second: SecondStage;
    outcome: Outcome;
  }) {
    this.#cache = parts.cache;
    this.#second = parts.second;
    this.#outcome = parts.outcome;
    this.#words = parts.memory.words;
    this.#frames = this.#words.length >>> 10;
    this.#surpriseHi = parts.config.fastHi;
    this.#gigabytePages = parts.config.cap.FS1GP === 1;
  }

  /** As `FirstStage.fast`. */
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
    if (how.fsRoot >= how.ssPages || how.fsRoot > 0x7fff_ffff) return false;
    const root = this.#table(how, how.fsRoot);
    if (root < 0) return false;
    return this.#descend(how, hi, lo, how.fsLevels, root, -1, user, write, dirty);
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
      if (level === 1) return this.#final(how, access, entryLo, user, write, dirty, 12, next);
      if ((entryLo & FS_LO.PS) !== 0) {
        const low = this.#largeLow(level);
        if (low < 0 || (next & low & ~1) !== 0) return false;
        const frame = (next & ~low) | (lo & low);
        const shift = level === 2 ? 21 : 30;
        return this.#final(how, access, entryLo, user, write, dirty, shift, frame);
      }
      table = this.#table(how, next);
      if (table < 0) return false;
      const writable = this.#tableWritable(how) ? TABLE_WRITABLE : 0;
      this.#cache.keep(level, how.did, how.pasid, hi, lo, table, (access & 0xfff) | writable);
      level--;
    }
  }

  /** Host frame of a first-stage table that may be read, or -1. */
  #table(how: PasidConfig, gfn: number): number {
    const second = this.#second;
    const frame = second.fast(how, gfn);
    const need = how.ssade ? RW : SS_LO.R;
    return frame >= 0 && (second.access & need) === need ? frame : -1;
  }

  /** Whether bits of the table found last may be set without another second-stage walk. */
  #tableWritable(how: PasidConfig): boolean {
    return (this.#second.access & SS_LO.W) !== 0 && this.#second.isDirty(how);
  }

  #final(
    how: PasidConfig,
    access: number,
    leaf: number,
    user: boolean,
    write: boolean,
    dirty: boolean,
    shift: number,
    gfn: number,
  ): boolean {
    const second = this.#second;
    const frame = second.fast(how, gfn);
    if (frame < 0) return false;
    const granted = second.access;
    if ((granted & (write ? SS_LO.W : SS_LO.R)) === 0) return false;
    let flags = (granted & SS_LO.R) !== 0 ? TLB.R : 0;
    if (how.forceSnoop || (second.leaf & SS_LO.SNP) !== 0) flags |= TLB.SNOOP;
    const writable = (access & FS_LO.RW) !== 0 || !(user || how.wpe);
    if (writable && (granted & SS_LO.W) !== 0) {
      if ((leaf & FS_LO.D) !== 0 && second.isDirty(how)) flags |= TLB.W;
      else if (dirty) return false;
    }
    const outcome = this.#outcome;
    outcome.frame = frame;
    outcome.shift = Math.min(shift, second.shift);
    outcome.flags = flags;
    return true;
  }

  #largeLow(level: number): number {
    if (level === 2) return 0x1ff;
    return level === 3 && this.#gigabytePages ? 0x3_ffff : -1;
  }
}
