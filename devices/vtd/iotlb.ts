import { PGTT } from '../spec/vtd/pasid.ts';
import type { PasidConfig } from './entries.ts';
import type { Outcome } from './outcome.ts';

/** Entries: a power of two of sets, of four ways. */
const SETS = 1024;
const WAYS = 4;

/** Bits beside the high part of the frame number (19:0), in the word HIGH of an entry. */
export const TLB = {
  R: 1 << 20,
  W: 1 << 21,
  /** Accesses are forced to snoop (the ATS N flag). */
  SNOOP: 1 << 22,
  /** The function may use ATS (DTE), so a translation request may be answered from here. */
  ATS: 1 << 23,
  /** Where log2 of the size begins. */
  SHIFT: 24,
} as const;

const { ATS, SHIFT } = TLB;
// Constant to the compiler only when it is here.
const { SECOND_STAGE } = PGTT;

/*
 * Words of an entry, eight in all: page 31:0; page 51:32 with source id 11:0; the rest of the
 * requester; frame 31:0; frame 51:32 with TLB bits and size; DID and class; the PASID to drop it by;
 * in the first entry of a set, which way is replaced next.
 */
const PAGE_LOW = 0;
const PAGE_HIGH = 1;
const WHO = 2;
const LOW = 3;
const HIGH = 4;
const DOMAIN = 5;
const TAG_PASID = 6;
const VICTIM = 7;

/** log2 of the words of an entry, and of a set. */
const ENTRY = 3;
const SET = 5;
const ENTRIES = SETS * WAYS;

const LIVE = 0x4000_0000;
const PRIVILEGED = 0x0200_0000;
/** PASIDs of 20 bits, and one more value for none. */
const PASID_MASK = 0x1f_ffff;
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
  readonly #words = new Int32Array(ENTRIES << ENTRY);
  #live = 0;
  #hasLarge = false;

  /** Where a page's translation is, or -1. `pasid` -1: request without PASID. */
  find(sid: number, pasid: number, priv: boolean, vpnHi: number, vpnLo: number): number {
    const words = this.#words;
    let at = setOf(pasid, vpnLo) << SET;
    const page = vpnHi | (sid << 20);
    const who = requesterTag(sid, pasid, priv);
    for (const end = at + (WAYS << ENTRY); at < end; at += 1 << ENTRY) {
      if (words[at + 2] === who && words[at] === vpnLo && words[at + 1] === page) return at;
    }
    return -1;
  }

  /** Frame number of the translation at a place. */
  frame(at: number): number {
    const words = this.#words;
    const high = words[at + HIGH]! & 0xf_ffff;
    return high === 0 ? words[at + LOW]! >>> 0 : high * 2 ** 32 + (words[at + LOW]! >>> 0);
  }

  /** TLB bits and size, above 20 bits of other use. */
  flags(at: number): number {
    return this.#words[at + HIGH]!;
  }

  /**
   * Keeps a translation: of `page`'s two halves to `outcome`, to be dropped by what `how` says.
   * `held`: what `find` says of the page.
   */
  fill(
    held: number,
    sid: number,
    pasid: number,
    priv: boolean,
    page: { readonly hi: number; readonly lo: number },
    outcome: Outcome,
    how: PasidConfig,
    ats: boolean,
  ): void {
    const { hi, lo } = page;
    const { frame, shift, flags } = outcome;
    const at = held < 0 ? this.#take(setOf(pasid, lo) << SET) : held;
    const words = this.#words;
    words[at] = lo;
    words[at + PAGE_HIGH] = hi | (sid << 20);
    words[at + WHO] = requesterTag(sid, pasid, priv);
    words[at + LOW] = frame | 0;
    words[at + HIGH] = (frame / 2 ** 32) | flags | (ats ? ATS : 0) | (shift << SHIFT);
    words[at + DOMAIN] = how.pgtt === SECOND_STAGE ? how.did : how.did | FIRST_STAGE;
    words[at + TAG_PASID] = how.pasid;
    if (shift > 12) this.#hasLarge = true;
  }

  /** A free entry of a set, else the next victim. */
  #take(set: number): number {
    if (this.#live < ENTRIES) {
      const free = this.#free(set);
      if (free >= 0) return free;
    }
    const words = this.#words;
    const way = words[set + VICTIM]!;
    words[set + VICTIM] = (way + 1) & (WAYS - 1);
    return set + (way << ENTRY);
  }

  #free(set: number): number {
    for (let at = set; at < set + (WAYS << ENTRY); at += 1 << ENTRY) {
      if (this.#isLive(at)) continue;
      this.#live++;
      return at;
    }
    return -1;
  }

  /** Drops an entry, chosen by any number; false: there is none. */
  evict(choice: number): boolean {
    if (this.#live === 0) return false;
    let entry = choice % ENTRIES;
    while (!this.#isLive(entry << ENTRY)) entry = (entry + 1) % ENTRIES;
    this.#drop(entry << ENTRY);
    return true;
  }

  dropAll(): number {
    const dropped = this.#live;
    if (dropped !== 0) this.#words.fill(0);
    this.#live = 0;
    this.#hasLarge = false;
    return dropped;
  }

  /** Drops all of a domain. */
  dropDomain(did: number): number {
    return this.#dropWhere((at) => (this.#words[at + DOMAIN]! & 0xffff) === did);
  }

  /** Drops a range in the second-stage class and everything in the first-stage class. */
  dropDomainRange(did: number, page: number, pages: number): number {
    return this.#dropWhere((at) => {
      const tag = this.#words[at + DOMAIN]!;
      if ((tag & 0xffff) !== did) return false;
      return (tag & FIRST_STAGE) !== 0 || this.#overlaps(at, page, pages);
    });
  }

  /** Drops all of a PASID in a domain, either class. */
  dropPasid(did: number, pasid: number): number {
    const words = this.#words;
    return this.#dropWhere(
      (at) => (words[at + DOMAIN]! & 0xffff) === did && words[at + TAG_PASID] === pasid,
    );
  }

  /** Drops a range of a PASID in a domain in the first-stage class. */
  dropPasidRange(did: number, pasid: number, page: number, pages: number): number {
    const tag = did | FIRST_STAGE;
    const words = this.#words;
    const matches = (at: number): boolean =>
      words[at + DOMAIN] === tag &&
      words[at + TAG_PASID] === pasid &&
      this.#overlaps(at, page, pages);
    if (pages > PROBED_PAGES || this.#hasLarge) return this.#dropWhere(matches);
    let dropped = 0;
    for (let p = page; p < page + pages; p++) {
      dropped += this.#dropInSet(setOf(pasid, p | 0), matches);
      dropped += this.#dropInSet(setOf(-1, p | 0), matches);
    }
    return dropped;
  }

  #dropInSet(set: number, matches: (at: number) => boolean): number {
    return this.#dropBetween(set << SET, (set + 1) << SET, matches);
  }

  #dropWhere(matches: (at: number) => boolean): number {
    return this.#live === 0 ? 0 : this.#dropBetween(0, this.#words.length, matches);
  }

  #dropBetween(from: number, to: number, matches: (at: number) => boolean): number {
    let dropped = 0;
    for (let at = from; at < to; at += 1 << ENTRY) {
      if (!this.#isLive(at) || !matches(at)) continue;
      this.#drop(at);
      dropped++;
    }
    return dropped;
  }

  #isLive(at: number): boolean {
    return this.#words[at + WHO] !== 0;
  }

  #drop(at: number): void {
    this.#words[at + WHO] = 0;
    this.#live--;
  }

  /** Whether the (large) page of an entry shares a byte with a range of pages. */
  #overlaps(at: number, page: number, pages: number): boolean {
    const words = this.#words;
    const vpn = (words[at + PAGE_HIGH]! & 0xf_ffff) * 2 ** 32 + (words[at + PAGE_LOW]! >>> 0);
    const size = 2 ** ((words[at + HIGH]! >>> TLB.SHIFT) - 12);
    const base = vpn - (vpn % size);
    return base < page + pages && page < base + size;
  }
}

function setOf(pasid: number, vpnLo: number): number {
  return (vpnLo ^ (vpnLo >>> 10) ^ Math.imul(pasid, 0x25)) & (SETS - 1);
}

/** Never 0. */
function requesterTag(sid: number, pasid: number, priv: boolean): number {
  const who = (pasid & PASID_MASK) | ((sid & 0xf000) << 9) | LIVE;
  return priv ? who | PRIVILEGED : who;
}
