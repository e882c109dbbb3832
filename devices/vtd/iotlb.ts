import { LIVE, SetCache } from './set-cache.ts';

const SETS = 1024;

/** Payload bits beside the high part of the frame number (19:0). */
export const TLB = {
  R: 1 << 20,
  W: 1 << 21,
  /** Accesses are forced to snoop (the ATS N flag). */
  SNOOP: 1 << 22,
  /** The function may use ATS (DTE), so a translation request may be answered from here. */
  ATS: 1 << 23,
} as const;

const SHIFT_LO = 24;
const PASID_MASK = 0xf_ffff;
const FIRST_STAGE = 1 << 16;

/** Ranges of up to this many pages are dropped by looking in their sets only. */
const PROBED_PAGES = 8;

/**
 * The IOTLB: combined translations of 4 KiB pages. A large page is held as the 4 KiB pieces that
 * were asked for, each with the size of the whole, and goes as a whole.
 *
 * Looked up by source id, PASID (or none), privilege and page; dropped by domain id, PASID (for a
 * request without one: RID_PASID), class (first-stage or nested; second-stage or pass-through) and
 * page (VT-d spec 6.2.4). Page numbers come as two halves: bits 51:32 and 31:0 as int32.
 */
export class Iotlb {
  /** Four words a slot: frame 31:0; frame 51:32, TLB bits, size; DID and class; PASID tag. */
  readonly payload: Int32Array;
  readonly #cache = new SetCache(SETS);
  #hasLarge = false;

  constructor() {
    this.payload = new Int32Array(this.#cache.slots * 4);
  }

  /** The payload index of a page's translation, or -1. `pasid` -1: request without PASID. */
  find(sid: number, pasid: number, priv: boolean, vpnHi: number, vpnLo: number): number {
    const slot = this.#cache.find(
      setOf(pasid, vpnLo),
      vpnLo,
      vpnHi | (sid << 20),
      requesterTag(sid, pasid, priv),
    );
    return slot << 2;
  }

  /** Frame number at a payload index. */
  frame(at: number): number {
    const payload = this.payload;
    const high = payload[at + 1]! & 0xf_ffff;
    return high === 0 ? payload[at]! >>> 0 : high * 2 ** 32 + (payload[at]! >>> 0);
  }

  /** log2 of the bytes that the translation at a payload index covers. */
  shift(at: number): number {
    return this.payload[at + 1]! >>> SHIFT_LO;
  }

  /**
   * Keeps a translation. `flags` are TLB bits, `tagPasid` the PASID to drop it by.
   */
  fill(
    sid: number,
    pasid: number,
    priv: boolean,
    vpnHi: number,
    vpnLo: number,
    pfn: number,
    shift: number,
    flags: number,
    did: number,
    firstStage: boolean,
    tagPasid: number,
  ): void {
    const slot = this.#cache.take(
      setOf(pasid, vpnLo),
      vpnLo,
      vpnHi | (sid << 20),
      requesterTag(sid, pasid, priv),
    );
    const at = slot << 2;
    const payload = this.payload;
    payload[at] = pfn | 0;
    payload[at + 1] = (pfn / 2 ** 32) | 0 | flags | (shift << SHIFT_LO);
    payload[at + 2] = firstStage ? did | FIRST_STAGE : did;
    payload[at + 3] = tagPasid;
    if (shift > 12) this.#hasLarge = true;
  }

  /** Drops an entry, chosen by any number; false: there is none. */
  evict(choice: number): boolean {
    return this.#cache.evict(choice);
  }

  dropAll(): number {
    this.#hasLarge = false;
    return this.#cache.clear();
  }

  /** Drops all of a domain. */
  dropDomain(did: number): number {
    return this.#dropWhere((at) => (this.payload[at + 2]! & 0xffff) === did);
  }

  /** Drops a range in the second-stage class and everything in the first-stage class. */
  dropDomainRange(did: number, page: number, pages: number): number {
    return this.#dropWhere((at, slot) => {
      const tag = this.payload[at + 2]!;
      if ((tag & 0xffff) !== did) return false;
      return (tag & FIRST_STAGE) !== 0 || this.#overlaps(slot, page, pages);
    });
  }

  /** Drops all of a PASID in a domain, either class. */
  dropPasid(did: number, pasid: number): number {
    return this.#dropWhere(
      (at) => (this.payload[at + 2]! & 0xffff) === did && this.payload[at + 3] === pasid,
    );
  }

  /** Drops a range of a PASID in a domain in the first-stage class. */
  dropPasidRange(did: number, pasid: number, page: number, pages: number): number {
    const tag = did | FIRST_STAGE;
    const matches = (at: number, slot: number): boolean =>
      this.payload[at + 2] === tag &&
      this.payload[at + 3] === pasid &&
      this.#overlaps(slot, page, pages);
    if (pages > PROBED_PAGES || this.#hasLarge) return this.#dropWhere(matches);
    let dropped = 0;
    for (let p = page; p < page + pages; p++) {
      dropped += this.#dropInSet(setOf(pasid, p | 0), matches);
      dropped += this.#dropInSet(setOf(-1, p | 0), matches);
    }
    return dropped;
  }

  #dropInSet(set: number, matches: (at: number, slot: number) => boolean): number {
    return this.#dropBetween(set << 2, (set << 2) + 4, matches);
  }

  #dropWhere(matches: (at: number, slot: number) => boolean): number {
    return this.#cache.live === 0 ? 0 : this.#dropBetween(0, this.#cache.slots, matches);
  }

  #dropBetween(from: number, to: number, matches: (at: number, slot: number) => boolean): number {
    let dropped = 0;
    for (let slot = from; slot < to; slot++) {
      if (!this.#cache.isLive(slot) || !matches(slot << 2, slot)) continue;
      this.#cache.drop(slot);
      dropped++;
    }
    return dropped;
  }

  /** Whether the (large) page of a slot shares a byte with a range of pages. */
  #overlaps(slot: number, page: number, pages: number): boolean {
    const tags = this.#cache.tags;
    const vpn = (tags[(slot << 2) + 1]! & 0xf_ffff) * 2 ** 32 + (tags[slot << 2]! >>> 0);
    const size = 2 ** (this.shift(slot << 2) - 12);
    const base = vpn - (vpn % size);
    return base < page + pages && page < base + size;
  }
}

function setOf(pasid: number, vpnLo: number): number {
  return (vpnLo ^ (vpnLo >>> 10) ^ Math.imul(pasid & PASID_MASK, 0x25)) & (SETS - 1);
}

function requesterTag(sid: number, pasid: number, priv: boolean): number {
  const who = ((sid >>> 12) & 0xf) | ((pasid & PASID_MASK) << 4) | (pasid < 0 ? 1 << 24 : 0);
  return who | (priv ? LIVE | (1 << 25) : LIVE);
}
