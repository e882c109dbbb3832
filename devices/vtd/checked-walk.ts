import { FAULT } from '../spec/vtd/faults.ts';
import { PGTT } from '../spec/vtd/pasid.ts';
import {
  describeFirstStage,
  FS_LEAF_RESERVED_LO,
  FS_LO,
  levelPages,
  SS_LO,
} from '../spec/x86/paging.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import { indexOf, isCanonical } from './first-stage.ts';
import { TLB } from './iotlb.ts';
import type { Outcome } from './outcome.ts';
import type { SecondStage } from './second-stage.ts';
import { type FirstStageCache, NARROW_FRAMES, TABLE_WRITABLE } from './structure-caches.ts';
import { entryFrame, type TableBus } from './table-bus.ts';
import { entryOf, type WalkLog } from './walk-log.ts';

/** The walk met a cached table whose second-stage leaf it needs: do it again from the root. */
const FROM_ROOT = -1;

/** What a checked walk is asked; the unit fills one object again and again. */
export class WalkRequest {
  /** Halves of the page number: bits 51:32, bits 31:0 as int32. */
  hi = 0;
  lo = 0;
  /** Not in supervisor mode. */
  user = true;
  read = false;
  /** Fail unless writable. */
  write = false;
  /** Fail unless readable or writable: a zero-length read with CAP.ZLR. */
  either = false;
  /** If writable, it will be written: set the dirty bit. */
  dirty = false;

  get vpn(): number {
    return this.hi * 2 ** 32 + (this.lo >>> 0);
  }

  /** Asks what is at a page, and for nothing to be done there. */
  lookAt(vpn: number, user: boolean): void {
    this.hi = (vpn / 2 ** 32) | 0;
    this.lo = vpn | 0;
    this.user = user;
    this.read = false;
    this.write = false;
    this.either = false;
    this.dirty = false;
  }
}

/**
 * The checked walks of all three kinds: any memory, every check, the exact fault, accessed and
 * dirty bits kept (VT-d spec 3.6 to 3.8, 7.1.3). A read sets no dirty bit, so the write permission
 * it reports is what may be cached; a translation request (neither `read` nor `write` demanded)
 * reports what is effective.
 */
export class CheckedWalk {
  readonly #config: UnitConfig;
  readonly #bus: TableBus;
  readonly #log: WalkLog;
  readonly #cache: FirstStageCache;
  readonly #second: SecondStage;
  readonly #outcome: Outcome;
  /** Host frame of the first-stage table being read, and whether its bits may be set. */
  #table = 0;
  #tableWritable = true;
  /** The second-stage leaf that maps the table; address -1 when the table came from the cache. */
  #tableLeafAddress = -1;
  #tableLeaf = 0;
  /** The first-stage leaf. */
  #leafAddress = 0;
  #leaf = 0;
  #level = 0;
  #access = 0;
  #gfn = 0;

  constructor(parts: {
    config: UnitConfig;
    bus: TableBus;
    log: WalkLog;
    cache: FirstStageCache;
    second: SecondStage;
    outcome: Outcome;
  }) {
    this.#config = parts.config;
    this.#bus = parts.bus;
    this.#log = parts.log;
    this.#cache = parts.cache;
    this.#second = parts.second;
    this.#outcome = parts.outcome;
  }

  /** First-stage or nested. 0 or a fault (70h to 91h). */
  firstStage(how: PasidConfig, request: WalkRequest): number {
    if (!isCanonical(how.fsLevels, request.hi)) return FAULT.NOT_CANONICAL;
    const fault = this.#firstStage(how, request, true);
    return fault === FROM_ROOT ? this.#firstStage(how, request, false) : fault;
  }

  /** Second stage only. 0 or a fault (78h to 7Dh, 84h to 86h). */
  secondStage(how: PasidConfig, request: WalkRequest): number {
    const second = this.#second;
    const fault = second.walk(how, request.vpn);
    if (fault !== 0) return fault;
    return this.#grantSecond(how, request, true);
  }

  /**
   * Reports what `SecondStage.fast` found at `frame`. False: it needs the checked walk after all.
   */
  reportSecond(how: PasidConfig, request: WalkRequest, frame: number): boolean {
    this.#second.frame = frame;
    return this.#grantSecond(how, request, false) === 0;
  }

  /** What a second-stage leaf grants; sets its dirty bit only where `mayUpdate`. */
  #grantSecond(how: PasidConfig, request: WalkRequest, mayUpdate: boolean): number {
    const second = this.#second;
    const denied = this.#secondStageDenies(request);
    if (denied !== 0) return denied;
    let flags = (second.access & SS_LO.R) !== 0 ? TLB.R : 0;
    if (how.forceSnoop || (second.leaf & SS_LO.SNP) !== 0) flags |= TLB.SNOOP;
    if ((second.access & SS_LO.W) !== 0) {
      if (second.isDirty(how)) {
        flags |= TLB.W;
      } else if (request.dirty) {
        const failed = mayUpdate
          ? second.setDirty(how, second.leafAddress, second.leaf)
          : FAULT.SS_AD_FAILED;
        if (failed !== 0) return failed;
        flags |= TLB.W;
      }
    }
    this.#report(second.frame, second.shift, flags);
    return 0;
  }

  #firstStage(how: PasidConfig, request: WalkRequest, useCache: boolean): number {
    const found = this.#descend(how, request, useCache);
    if (found !== 0) return found;
    const access = this.#access;
    if (request.user && (access & FS_LO.US) === 0) return FAULT.USER_TO_SUPERVISOR;
    const writable = (access & FS_LO.RW) !== 0 || !(request.user || how.wpe);
    if (request.write && !writable) return FAULT.NO_WRITE;
    if (how.pgtt === PGTT.NESTED) return this.#final(how, request, writable);
    let flags: number = how.forceSnoop ? TLB.R | TLB.SNOOP : TLB.R;
    if (writable) {
      if (request.dirty) {
        const failed = this.#setBits(how, this.#leafAddress, FS_LO.D & ~this.#leaf);
        if (failed !== 0) return failed;
        flags |= TLB.W;
      } else if ((this.#leaf & FS_LO.D) !== 0) {
        flags |= TLB.W;
      }
    }
    this.#report(this.#gfn, 12 + 9 * (this.#level - 1), flags);
    return 0;
  }

  /** Sends the final guest frame through the second stage. */
  #final(how: PasidConfig, request: WalkRequest, writable: boolean): number {
    const second = this.#second;
    const fault = second.walk(how, this.#gfn);
    if (fault !== 0) {
      return fault === FAULT.ADDRESS_BEYOND_SS ? FAULT.NESTED_ADDRESS_BEYOND_WIDTH : fault;
    }
    const denied = this.#secondStageDenies(request);
    if (denied !== 0) return denied;
    let flags = (second.access & SS_LO.R) !== 0 ? TLB.R : 0;
    const granted = writable && (second.access & SS_LO.W) !== 0;
    if (request.either && flags === 0 && !granted) return FAULT.NO_READ;
    if (how.forceSnoop || (second.leaf & SS_LO.SNP) !== 0) flags |= TLB.SNOOP;
    if (granted) {
      if (request.dirty) {
        const failed =
          this.#setBits(how, this.#leafAddress, FS_LO.D & ~this.#leaf) ||
          second.setDirty(how, second.leafAddress, second.leaf);
        if (failed !== 0) return failed;
        flags |= TLB.W;
      } else if ((this.#leaf & FS_LO.D) !== 0 && second.isDirty(how)) {
        flags |= TLB.W;
      }
    }
    this.#report(second.frame, Math.min(12 + 9 * (this.#level - 1), second.shift), flags);
    return 0;
  }

  #secondStageDenies(request: WalkRequest): number {
    const { access } = this.#second;
    if (request.write && (access & SS_LO.W) === 0) return FAULT.NO_WRITE;
    if (request.read && (access & SS_LO.R) === 0) return FAULT.NO_READ;
    return 0;
  }

  #report(frame: number, shift: number, flags: number): void {
    this.#outcome.frame = frame;
    this.#outcome.shift = shift;
    this.#outcome.flags = flags;
  }

  /** Down to the leaf: `#leaf*`, `#level`, `#access`, `#gfn` (the output frame). */
  #descend(how: PasidConfig, request: WalkRequest, useCache: boolean): number {
    const { hi, lo } = request;
    const nested = how.pgtt === PGTT.NESTED;
    let level = useCache ? this.#fromCache(how, hi, lo) : 0;
    const fromRoot = level === 0;
    if (fromRoot) {
      level = how.fsLevels;
      this.#access = -1;
      this.#tableWritable = true;
      this.#table = how.fsRoot;
      const fault = nested ? this.#enterTable(how, how.fsRoot, true) : 0;
      if (fault !== 0) return fault;
    }
    for (; ; level--) {
      const address = this.#table * 4096 + indexOf(level, hi, lo) * 8;
      if (!this.#bus.load(address)) {
        return fromRoot && level === how.fsLevels ? FAULT.FS_ROOT_ACCESS : FAULT.FS_ACCESS;
      }
      const entryLo = this.#bus.lo;
      const entryHi = this.#bus.hi;
      if (this.#log.on) this.#note(level, address, entryLo, entryHi);
      if ((entryLo & FS_LO.P) === 0) return FAULT.FS_NOT_PRESENT;
      const isLeaf = level === 1 || (entryLo & FS_LO.PS) !== 0;
      if (this.#hasReserved(level, isLeaf, entryLo, entryHi)) return FAULT.FS_RESERVED;
      const mark = how.eafe ? FS_LO.A | FS_LO.EA : FS_LO.A;
      const failed = this.#setBits(how, address, mark & ~entryLo);
      if (failed !== 0) return failed;
      this.#access &= entryLo;
      const next = entryFrame(entryLo, entryHi);
      if (isLeaf) {
        const span = levelPages(level);
        this.#leafAddress = address;
        this.#leaf = entryLo;
        this.#level = level;
        this.#gfn = next - (next % span) + (request.vpn % span);
        return 0;
      }
      if (nested) {
        const fault = this.#enterTable(how, next, false);
        if (fault !== 0) return fault;
      } else {
        this.#table = next;
      }
      this.#keep(how, level, hi, lo);
    }
  }

  /** Starts at the deepest cached table; returns the level to read there, or 0. */
  #fromCache(how: PasidConfig, hi: number, lo: number): number {
    const cache = this.#cache;
    for (let level = 2; level <= how.fsLevels; level++) {
      const slot = cache.find(level, how.did, how.pasid, hi, lo);
      if (slot < 0) continue;
      const permissions = cache.permissions[slot]!;
      this.#table = cache.table[slot]!;
      this.#access = permissions;
      this.#tableWritable = (permissions & TABLE_WRITABLE) !== 0;
      this.#tableLeafAddress = -1;
      return level - 1;
    }
    return 0;
  }

  #keep(how: PasidConfig, level: number, hi: number, lo: number): void {
    if (this.#table >= NARROW_FRAMES) return;
    const nested = how.pgtt === PGTT.NESTED;
    const clean = nested && how.ssade && (this.#tableLeaf & SS_LO.D) === 0;
    const writable = this.#tableWritable && !clean ? TABLE_WRITABLE : 0;
    const permissions = (this.#access & 0xfff) | writable;
    this.#cache.keep(level, how.did, how.pasid, hi, lo, this.#table, permissions);
  }

  /** Nested: finds the host frame of a first-stage table. 0 or 74h to 7Dh. */
  #enterTable(how: PasidConfig, gfn: number, isRoot: boolean): number {
    const second = this.#second;
    const fault = second.walk(how, gfn);
    if (fault === FAULT.ADDRESS_BEYOND_SS) return FAULT.NESTED_ADDRESS_BEYOND_WIDTH;
    if (fault !== 0) return fault;
    if ((second.access & SS_LO.R) === 0) {
      return isRoot ? FAULT.NESTED_FS_ROOT_NO_READ : FAULT.NESTED_FS_NO_READ;
    }
    this.#tableWritable = (second.access & SS_LO.W) !== 0;
    if (how.ssade && !this.#tableWritable) return FAULT.NESTED_FS_NO_WRITE;
    this.#table = second.frame;
    this.#tableLeafAddress = second.leafAddress;
    this.#tableLeaf = second.leaf;
    return 0;
  }

  /** Sets accessed or dirty bits in the entry at `address` of the current table, if any miss. */
  #setBits(how: PasidConfig, address: number, missing: number): number {
    if (missing === 0) return 0;
    if (!how.snooped) return FAULT.FS_AD_NOT_SNOOPED;
    if (how.pgtt === PGTT.NESTED) {
      if (!this.#tableWritable) {
        return this.#tableLeafAddress < 0 ? FROM_ROOT : FAULT.NESTED_FS_NO_WRITE;
      }
      if (this.#tableLeafAddress >= 0) {
        const failed = this.#second.setDirty(how, this.#tableLeafAddress, this.#tableLeaf);
        if (failed !== 0) return failed;
        this.#tableLeaf |= SS_LO.D;
      }
    }
    return this.#bus.setBits(address, missing) ? 0 : FAULT.FS_AD_FAILED;
  }

  #hasReserved(level: number, isLeaf: boolean, lo: number, hi: number): boolean {
    if ((hi & this.#config.hawHi) !== 0) return true;
    if (!isLeaf || level === 1) return false;
    if (level > 3 || (level === 3 && this.#config.cap.FS1GP === 0)) return true;
    const low = level === 2 ? FS_LEAF_RESERVED_LO.SIZE_2M : FS_LEAF_RESERVED_LO.SIZE_1G;
    return (lo & low) !== 0;
  }

  #note(level: number, address: number, lo: number, hi: number): void {
    const entry = entryOf(lo, hi);
    this.#log.level('first-stage', level, address, entry, describeFirstStage(entry, level));
  }
}
