import type { PhysicalMemory } from '../memory.ts';
import { FAULT } from '../spec/vtd/faults.ts';
import { SSLPS } from '../spec/vtd/registers.ts';
import { describeSecondStage, levelPages, SS_LEAF_RESERVED_LO, SS_LO } from '../spec/x86/paging.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import { NARROW_FRAMES, type SecondStageCache } from './structure-caches.ts';
import { entryFrame, type TableBus } from './table-bus.ts';
import { entryOf, type WalkLog } from './walk-log.ts';

/** R and W of an entry. */
const RW = SS_LO.R | SS_LO.W;

/**
 * Second-stage walks: guest-physical (or I/O virtual) page to host frame (VT-d spec 3.7, 9.9).
 *
 * `fast` takes the ordinary case out of flat memory and says -1 to anything that surprises it,
 * having changed nothing; `walk` is the checked walk, which finds the exact fault and keeps the
 * accessed bits.
 */
export class SecondStage {
  /** Host frame of the 4 KiB page asked for, of `walk`. */
  frame = 0;
  /** SS_LO.R and SS_LO.W that every level grants. */
  access = 0;
  /** log2 of the bytes of the page. */
  shift = 12;
  /** Low half of the leaf entry. */
  leaf = 0;
  /** Byte address of the leaf entry, of `walk`. */
  leafAddress = 0;
  /** Entries read by `fast`. */
  loads = 0;
  readonly #config: UnitConfig;
  readonly #bus: TableBus;
  readonly #log: WalkLog;
  readonly #cache: SecondStageCache;
  readonly #words: Int32Array;
  readonly #frames: number;
  readonly #surpriseHi: number;
  readonly #leafSurprise: number;

  constructor(parts: {
    config: UnitConfig;
    memory: PhysicalMemory;
    bus: TableBus;
    log: WalkLog;
    cache: SecondStageCache;
  }) {
    this.#config = parts.config;
    this.#bus = parts.bus;
    this.#log = parts.log;
    this.#cache = parts.cache;
    this.#words = parts.memory.words;
    this.#frames = this.#words.length >>> 10;
    this.#surpriseHi = parts.config.fastSsHi;
    this.#leafSurprise = parts.config.ssLeafReservedLo;
  }

  /** Host frame of guest frame `gfn` (0 to 2^31-1), or -1: take the checked walk. */
  fast(how: PasidConfig, gfn: number): number {
    if (gfn >= how.ssPages) return -1;
    const cache = this.#cache;
    const did = how.did;
    let level = 1;
    let table = 0;
    let access = RW;
    let slot = cache.find(2, did, gfn);
    if (slot < 0 && (slot = cache.find(3, did, gfn)) >= 0) level = 2;
    if (slot >= 0) {
      table = cache.table[slot]!;
      access = cache.permissions[slot]!;
    } else {
      level = how.ssLevels;
      table = how.ssRoot;
    }
    return this.#descend(how, gfn, level, table, access);
  }

  #descend(how: PasidConfig, gfn: number, from: number, root: number, granted: number): number {
    const words = this.#words;
    const surpriseHi = this.#surpriseHi;
    const must = how.ssade ? SS_LO.A : 0;
    let level = from;
    let table = root;
    let access = granted;
    for (;;) {
      if (table >= this.#frames) return -1;
      const index = level === 5 ? 0 : (gfn >>> (9 * (level - 1))) & 511;
      const at = (table << 10) | (index << 1);
      const lo = words[at]!;
      const hi = words[at + 1]!;
      this.loads++;
      access &= lo;
      if ((hi & surpriseHi) !== 0 || (lo & must) !== must || access === 0) return -1;
      const next = ((hi & 0x7ff) << 20) | (lo >>> 12);
      if (level === 1) {
        if ((lo & this.#leafSurprise) !== 0) return -1;
        return this.#found(lo, access, 12, next);
      }
      if ((lo & SS_LO.PS) !== 0) {
        const low = level === 2 ? 0x1ff : 0x3_ffff;
        if (!this.#largeAllowed(level) || (lo & this.#leafSurprise) !== 0 || (next & low) !== 0) {
          return -1;
        }
        return this.#found(lo, access, level === 2 ? 21 : 30, next | (gfn & low));
      }
      if ((lo & SS_LO.SNP) !== 0) return -1;
      this.#cache.keep(level, how.did, gfn, next, access);
      table = next;
      level--;
    }
  }

  #found(leaf: number, access: number, shift: number, frame: number): number {
    this.leaf = leaf;
    this.access = access;
    this.shift = shift;
    return frame;
  }

  #largeAllowed(level: number): boolean {
    const { SSLPS: sizes } = this.#config.cap;
    if (level === 2) return (sizes & SSLPS.SIZE_2M) !== 0;
    return level === 3 && (sizes & SSLPS.SIZE_1G) !== 0;
  }

  /**
   * The checked walk of page `gfn` (any 52-bit number). 0, or fault 78h to 7Dh, or 84h for a page
   * beyond the second stage's width (nested walks turn that into 74h).
   */
  walk(how: PasidConfig, gfn: number): number {
    if (gfn >= how.ssPages) return FAULT.ADDRESS_BEYOND_SS;
    const bus = this.#bus;
    let level = how.ssLevels;
    let table = how.ssRoot;
    let access = RW;
    for (let cached = 2; cached <= how.ssLevels && gfn < NARROW_FRAMES; cached++) {
      const slot = this.#cache.find(cached, how.did, gfn);
      if (slot < 0) continue;
      level = cached - 1;
      table = this.#cache.table[slot]!;
      access = this.#cache.permissions[slot]!;
      break;
    }
    for (; ; level--) {
      const address = table * 4096 + (Math.floor(gfn / levelPages(level)) % 512) * 8;
      if (!bus.load(address)) {
        return level === how.ssLevels ? FAULT.SS_ROOT_ACCESS : FAULT.SS_ACCESS;
      }
      const { lo, hi } = bus;
      if (this.#log.on) this.#note(level, address, lo, hi);
      if ((lo & RW) === 0) return FAULT.SS_NOT_PRESENT;
      const isLeaf = level === 1 || (lo & SS_LO.PS) !== 0;
      if (this.#hasReserved(level, isLeaf, lo, hi)) return FAULT.SS_RESERVED;
      access &= lo;
      if (access === 0) return FAULT.SS_NOT_PRESENT;
      if (how.ssade && (lo & SS_LO.A) === 0) {
        if (!how.snooped) return FAULT.SS_AD_NOT_SNOOPED;
        if (!bus.setBits(address, SS_LO.A)) return FAULT.SS_AD_FAILED;
      }
      const next = entryFrame(lo, hi);
      if (isLeaf) {
        const span = levelPages(level);
        this.leafAddress = address;
        this.frame = next + (gfn % span);
        this.#found(lo, access, 12 + 9 * (level - 1), 0);
        return 0;
      }
      if (gfn < NARROW_FRAMES && next < NARROW_FRAMES) {
        this.#cache.keep(level, how.did, gfn, next, access);
      }
      table = next;
    }
  }

  /** Sets D in the leaf that `walk` ended at, if accessed and dirty bits are kept. 0, 7Ch or 7Dh. */
  setDirty(how: PasidConfig, leafAddress: number, leaf: number): number {
    if (!how.ssade || (leaf & SS_LO.D) !== 0) return 0;
    if (!how.snooped) return FAULT.SS_AD_NOT_SNOOPED;
    return this.#bus.setBits(leafAddress, SS_LO.D) ? 0 : FAULT.SS_AD_FAILED;
  }

  /** Whether a write through the leaf found last needs no dirty bit any more. */
  isDirty(how: PasidConfig): boolean {
    return !how.ssade || (this.leaf & SS_LO.D) !== 0;
  }

  #hasReserved(level: number, isLeaf: boolean, lo: number, hi: number): boolean {
    const config = this.#config;
    if ((hi & config.ssReservedHi) !== 0) return true;
    if (!isLeaf) return (lo & SS_LO.SNP) !== 0;
    if ((lo & config.ssLeafReservedLo) !== 0) return true;
    if (level === 1) return false;
    if (!this.#largeAllowed(level)) return true;
    const low = level === 2 ? SS_LEAF_RESERVED_LO.SIZE_2M : SS_LEAF_RESERVED_LO.SIZE_1G;
    return (lo & low) !== 0;
  }

  #note(level: number, address: number, lo: number, hi: number): void {
    const entry = entryOf(lo, hi);
    this.#log.level('second-stage', level, address, entry, describeSecondStage(entry, level));
  }
}
