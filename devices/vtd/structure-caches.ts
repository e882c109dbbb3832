import { LIVE, SetCache } from './set-cache.ts';

const SETS = 256;

/** Frames that fit the caches: 31 bits, so that they stay small integers. */
export const NARROW_FRAMES = 2 ** 31;

/** In the permissions of a first-stage structure: accessed and dirty bits of the table may be set. */
export const TABLE_WRITABLE = 1 << 12;

/** Page numbers that one entry of a level spans. */
const SPAN = [0, 1, 2 ** 9, 2 ** 18, 2 ** 27, 2 ** 36] as const;

/**
 * First-stage paging-structure cache (VT-d spec 6.2.5): for an entry of level 2 to 5, the table it
 * leads to (a host frame, even under nesting) and the AND of the entries' low bits so far. Tagged
 * by PASID, DID and the address bits above; the deepest hit wins.
 */
export class FirstStageCache {
  /** Host frame of the next table, by slot. */
  readonly table: Int32Array;
  /** AND of the low halves of the entries so far, by slot, with TABLE_WRITABLE. */
  readonly permissions: Int32Array;
  /** False: there is no such cache, nothing is ever found or kept. */
  readonly on: boolean;
  readonly #tags = new SetCache(SETS);

  constructor(on = true) {
    this.on = on;
    this.table = new Int32Array(this.#tags.slots);
    this.permissions = new Int32Array(this.#tags.slots);
  }

  /** The slot of the level's entry on the way to a page, or -1. */
  find(level: number, did: number, pasid: number, vpnHi: number, vpnLo: number): number {
    const lo = lowTag(level, vpnLo);
    const hi = level === 5 ? vpnHi & ~0xf : vpnHi;
    const set = setOf(level, lo, hi, pasid);
    return this.#tags.find(set, lo, hi | (pasid << 20), domainTag(level, did, pasid));
  }

  /** As `find` of level 2, for the hottest walk: the table that has the page's own entry. */
  findLast(did: number, pasid: number, vpnHi: number, vpnLo: number): number {
    const lo = vpnLo & ~511;
    const upper = (lo >>> 9) ^ (lo >>> 18) ^ (lo >>> 27) ^ (vpnHi << 5);
    const set = (upper ^ Math.imul(pasid, 0x25) ^ (2 << 6)) & (SETS - 1);
    const tag = did | ((pasid >>> 12) << 16) | ((2 << 24) | LIVE);
    return this.#tags.find(set, lo, vpnHi | (pasid << 20), tag);
  }

  keep(
    level: number,
    did: number,
    pasid: number,
    vpnHi: number,
    vpnLo: number,
    table: number,
    permissions: number,
  ): void {
    if (!this.on) return;
    const lo = lowTag(level, vpnLo);
    const hi = level === 5 ? vpnHi & ~0xf : vpnHi;
    const set = setOf(level, lo, hi, pasid);
    const slot = this.#tags.take(set, lo, hi | (pasid << 20), domainTag(level, did, pasid));
    this.table[slot] = table;
    this.permissions[slot] = permissions;
  }

  /** Drops an entry, chosen by any number; false: there is none. */
  evict(choice: number): boolean {
    return this.#tags.evict(choice);
  }

  dropAll(): number {
    return this.#tags.clear();
  }

  dropDomain(did: number): number {
    return this.#dropWhere((_slot, tag) => (tag & 0xffff) === did);
  }

  dropPasid(did: number, pasid: number): number {
    return this.#dropWhere((slot, tag) => (tag & 0xffff) === did && this.#pasid(slot) === pasid);
  }

  dropPasidRange(did: number, pasid: number, page: number, pages: number): number {
    return this.#dropWhere((slot, tag) => {
      if ((tag & 0xffff) !== did || this.#pasid(slot) !== pasid) return false;
      const base = (this.#tags.tags[(slot << 2) + 1]! & 0xf_ffff) * 2 ** 32 + this.#low(slot);
      return base < page + pages && page < base + SPAN[(tag >>> 24) & 7]!;
    });
  }

  #low(slot: number): number {
    return this.#tags.tags[slot << 2]! >>> 0;
  }

  #pasid(slot: number): number {
    const tags = this.#tags.tags;
    return (tags[(slot << 2) + 1]! >>> 20) | (((tags[(slot << 2) + 2]! >>> 16) & 0xff) << 12);
  }

  #dropWhere(matches: (slot: number, tag: number) => boolean): number {
    return dropWhere(this.#tags, matches);
  }
}

/**
 * Second-stage paging-structure cache: for an entry of level 2 to 5, the next table's frame and
 * the AND of the entries' low bits. Tagged by DID and the guest-physical address bits above. Guest
 * frames of 31 bits or more are not cached.
 */
export class SecondStageCache {
  readonly table: Int32Array;
  readonly permissions: Int32Array;
  /** False: there is no such cache, nothing is ever found or kept. */
  readonly on: boolean;
  readonly #tags = new SetCache(SETS);

  constructor(on = true) {
    this.on = on;
    this.table = new Int32Array(this.#tags.slots);
    this.permissions = new Int32Array(this.#tags.slots);
  }

  find(level: number, did: number, gfn: number): number {
    const lo = lowTag(level, gfn);
    return this.#tags.find(setOf(level, lo, 0, did), lo, 0, domainTag(level, did, 0));
  }

  keep(level: number, did: number, gfn: number, table: number, permissions: number): void {
    if (!this.on) return;
    const lo = lowTag(level, gfn);
    const slot = this.#tags.take(setOf(level, lo, 0, did), lo, 0, domainTag(level, did, 0));
    this.table[slot] = table;
    this.permissions[slot] = permissions;
  }

  /** Drops an entry, chosen by any number; false: there is none. */
  evict(choice: number): boolean {
    return this.#tags.evict(choice);
  }

  dropAll(): number {
    return this.#tags.clear();
  }

  dropDomain(did: number): number {
    return dropWhere(this.#tags, (_slot, tag) => (tag & 0xffff) === did);
  }

  dropDomainRange(did: number, page: number, pages: number): number {
    return dropWhere(this.#tags, (slot, tag) => {
      if ((tag & 0xffff) !== did) return false;
      const base = this.#tags.tags[slot << 2]! >>> 0;
      return base < page + pages && page < base + SPAN[(tag >>> 24) & 7]!;
    });
  }
}

function dropWhere(cache: SetCache, matches: (slot: number, tag: number) => boolean): number {
  if (cache.live === 0) return 0;
  let dropped = 0;
  for (let slot = 0; slot < cache.slots; slot++) {
    const tag = cache.tags[(slot << 2) + 2]!;
    if (tag === 0 || !matches(slot, tag)) continue;
    cache.drop(slot);
    dropped++;
  }
  return dropped;
}

/** Low half of the page number with the bits below the level's entry cleared. */
function lowTag(level: number, vpnLo: number): number {
  return level === 5 ? 0 : vpnLo & (-1 << (9 * (level - 1)));
}

function setOf(level: number, lo: number, hi: number, salt: number): number {
  const upper = (lo >>> 9) ^ (lo >>> 18) ^ (lo >>> 27) ^ (hi << 5);
  return (upper ^ Math.imul(salt, 0x25) ^ (level << 6)) & (SETS - 1);
}

/** DID 15:0, PASID bits 19:12 in 23:16, level 26:24. */
function domainTag(level: number, did: number, pasid: number): number {
  return did | ((pasid >>> 12) << 16) | (level << 24) | LIVE;
}
