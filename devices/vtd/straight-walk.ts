import type { PhysicalMemory } from '../memory.ts';
import { FS_LO, SS_LO } from '../spec/x86/paging.ts';
import type { WalkRequest } from './checked-walk.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import { requiredBits } from './first-stage.ts';
import { TLB } from './iotlb.ts';
import type { Outcome } from './outcome.ts';
import type { FirstStageCache, SecondStageCache } from './structure-caches.ts';

// Constant to the compiler only when they are here.
const { R, W, SNP } = SS_LO;
const { RW, US, D, PS } = FS_LO;
const PERMISSIONS = RW | US;
const { R: MAY_READ, W: MAY_WRITE, SNOOP } = TLB;

/** Bits of a second-stage entry's low half that make it more than a link. */
const NO_LINK = PS | SNP;

/** Entries that a walk from the root reads: four first-stage ones, and five times four. */
const LOADS = 24;

/** In place of the shift of a first-stage index: that walk is done, its frame is to be looked up. */
const FINAL = -18;

/** Where a table's entries begin, in 32-bit words: the frame number's low 21 bits, times 1024. */
const TABLE_LO = 0x3fff_fc00;
/** High-half address bits that a table inside the largest flat memory (8 GiB) has not. */
const BEYOND_MEMORY = 0x000f_fffe;

/**
 * Nested walks of the commonest shape: four levels on four, 4 KiB leaves, no second-stage accessed
 * and dirty bits (`PasidConfig.straight`). The levels are written out, entries are tested together at
 * the end of each second-stage walk (a load in between may be of the wrong place: what it gives then
 * is not used), and any surprise is left to the walks that go one level after the other, with
 * nothing changed.
 */
export class StraightWalk {
  /** Entries read. */
  loads = 0;
  readonly #first: FirstStageCache;
  readonly #second: SecondStageCache;
  readonly #outcome: Outcome;
  readonly #words: Int32Array;
  readonly #size: number;
  readonly #fsSurprise: number;
  readonly #ssSurprise: number;
  readonly #linkSurprise: number;
  readonly #leafSurprise: number;
  /** Of `#lookUp`: the high half of the leaf, and what all levels grant. */
  #high = 0;
  #granted = 0;

  constructor(parts: {
    config: UnitConfig;
    memory: PhysicalMemory;
    caches: { readonly first: FirstStageCache; readonly second: SecondStageCache };
    outcome: Outcome;
  }) {
    const { config, memory, caches } = parts;
    this.#first = caches.first;
    this.#second = caches.second;
    this.#outcome = parts.outcome;
    this.#words = memory.words;
    this.#size = Math.min(memory.words.length, 2 ** 31 - 1);
    this.#fsSurprise = config.fastHi;
    this.#ssSurprise = config.fastSsHi;
    this.#linkSurprise = config.fastSsHi | BEYOND_MEMORY;
    this.#leafSurprise = config.ssLeafReservedLo;
  }

  /**
   * From the roots, without caches. As `FirstStage.fast`. Nothing is tested on the way, all of it at
   * the end: an entry that is not as it should be sends the loads after it to wrong places, or out
   * of memory, where they give `undefined`, which counts as 0.
   */
  fromRoot(how: PasidConfig, request: WalkRequest): boolean {
    const { hi, lo, user, write } = request;
    const words = this.#words;
    const root = how.ssRoot << 10;
    const upper = (lo >>> 9) | (hi << 23);
    let gfn = how.fsRoot;
    let gfnHigh = gfn >>> 20;
    let access = -1;
    let fsHigh = 0;
    let fsLinks = 0;
    let entry = 0;
    let links = 0;
    let linkHigh = 0;
    let leaves = 0;
    let tables = -1;
    let low: number;
    let high: number;
    let granted: number;
    for (let shift = 18; ; shift -= 9) {
      let at = root | ((gfnHigh >>> 6) & 0x1e);
      const low4 = words[at]!;
      const high4 = words[at | 1]!;
      at = ((gfn >>> 17) & 0x3fe) | (high4 << 30) | ((low4 >>> 2) & TABLE_LO);
      const low3 = words[at]!;
      const high3 = words[at | 1]!;
      at = ((gfn >>> 8) & 0x3fe) | (high3 << 30) | ((low3 >>> 2) & TABLE_LO);
      const low2 = words[at]!;
      const high2 = words[at | 1]!;
      at = ((gfn << 1) & 0x3fe) | (high2 << 30) | ((low2 >>> 2) & TABLE_LO);
      low = words[at]!;
      high = words[at | 1]!;
      links |= low4 | low3 | low2;
      linkHigh |= high4 | high3 | high2;
      leaves |= low;
      granted = low4 & low3 & low2 & low;
      if (shift === FINAL) break;
      linkHigh |= high;
      tables &= granted;
      const index = (shift < 0 ? lo : upper >>> shift) & 511;
      at = (index << 1) | (high << 30) | ((low >>> 2) & TABLE_LO);
      entry = words[at]!;
      gfnHigh = words[at | 1]!;
      access &= entry;
      fsHigh |= gfnHigh;
      if (shift >= 0) fsLinks |= entry;
      gfn = ((gfnHigh & 0x7ff) << 20) | (entry >>> 12);
    }
    const must = requiredBits(how, user, write);
    const odd =
      (~access & must) |
      (~tables & R) |
      (~granted & (write ? W : R)) |
      (fsHigh & this.#fsSurprise) |
      (fsLinks & PS) |
      (links & NO_LINK) |
      (linkHigh & this.#linkSurprise) |
      (leaves & this.#leafSurprise) |
      (high & this.#ssSurprise);
    if (odd !== 0) return false;
    this.loads += LOADS;
    this.#high = high;
    this.#granted = granted;
    return this.#found(how, request, access, entry, low);
  }

  /**
   * Through the last first-stage table and the last second-stage table that the paging-structure
   * caches have, or not at all.
   */
  fromLeaves(how: PasidConfig, request: WalkRequest): boolean {
    const { hi, lo, user, write } = request;
    const words = this.#words;
    const first = this.#first;
    const slot = first.findLast(how.did, how.pasid, hi, lo);
    if (slot < 0) return false;
    const must = requiredBits(how, user, write);
    const at = (first.table[slot]! << 10) | ((lo & 511) << 1);
    if (at >= this.#size) return false;
    const entry = words[at]!;
    const high = words[at | 1]!;
    const access = first.permissions[slot]! & entry;
    const surprise = (must & ~access & PERMISSIONS) | (must & ~entry) | (high & this.#fsSurprise);
    if (surprise !== 0) return false;
    const gfn = ((high & 0x7ff) << 20) | (entry >>> 12);
    const second = this.#second;
    const ssSlot = second.find(2, how.did, gfn);
    if (ssSlot < 0) return false;
    const ssAt = (second.table[ssSlot]! << 10) | ((gfn & 511) << 1);
    if (ssAt >= this.#size) return false;
    const low = words[ssAt]!;
    this.#high = words[ssAt | 1]!;
    this.#granted = second.permissions[ssSlot]! & low;
    const wanted = write ? W : R;
    if ((this.#granted & wanted) === 0) return false;
    if (((low & this.#leafSurprise) | (this.#high & this.#ssSurprise)) !== 0) return false;
    this.loads += 2;
    return this.#found(how, request, access, entry, low);
  }

  /** `leaf` and `ssLeaf`: low halves of the leaves of the stages. */
  #found(
    how: PasidConfig,
    request: WalkRequest,
    access: number,
    leaf: number,
    ssLeaf: number,
  ): boolean {
    const granted = this.#granted;
    let flags = (granted & R) !== 0 ? MAY_READ : 0;
    if (how.forceSnoop || (ssLeaf & SNP) !== 0) flags |= SNOOP;
    if ((granted & W) !== 0 && ((access & RW) !== 0 || !(request.user || how.wpe))) {
      if ((leaf & D) !== 0) flags |= MAY_WRITE;
      else if (request.dirty) return false;
    }
    const outcome = this.#outcome;
    outcome.frame = ((this.#high & 0x7ff) << 20) | (ssLeaf >>> 12);
    outcome.shift = 12;
    outcome.flags = flags;
    return true;
  }
}
