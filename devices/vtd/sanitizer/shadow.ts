import type { Descriptor } from '../../spec/vtd/invalidation.ts';
import { CACHES, type CacheEntry, type CacheName, covers } from './cache-entry.ts';

/** Entries kept of each cache; of more, the oldest are forgotten. */
const MOST = 1 << 14;

/** log2 of the pages of the sizes there are. */
const ORDERS = [0, 9, 18] as const;
/** Above every frame number of 40 bits. */
const ORDER_STEP = 2 ** 45;

/** Entries by the frame that they lead to. */
class ByFrame {
  readonly #entries = new Map<number, Set<CacheEntry>>();

  add(frame: number, pages: number, entry: CacheEntry): void {
    const key = keyOf(frame, orderOf(pages));
    const known = this.#entries.get(key);
    if (known === undefined) this.#entries.set(key, new Set([entry]));
    else known.add(entry);
  }

  delete(frame: number, pages: number, entry: CacheEntry): void {
    const key = keyOf(frame, orderOf(pages));
    const known = this.#entries.get(key);
    known?.delete(entry);
    if (known?.size === 0) this.#entries.delete(key);
  }

  find(frame: number): CacheEntry[] {
    const found: CacheEntry[] = [];
    for (let order = 0; order < ORDERS.length; order++) {
      const entries = this.#entries.get(keyOf(frame, order));
      if (entries !== undefined) found.push(...entries);
    }
    return found;
  }
}

function orderOf(pages: number): number {
  if (pages >= 2 ** 18) return 2;
  return pages >= 2 ** 9 ? 1 : 0;
}

function keyOf(frame: number, order: number): number {
  return order * ORDER_STEP + Math.floor(frame / 2 ** ORDERS[order]!);
}

/**
 * What the caches of a unit, and the device-TLBs behind it, may hold: whatever was filled and has not
 * been invalidated since. A real cache may have lost it meanwhile; software cannot count on that.
 */
export class Shadow {
  /** Something was forgotten for room, so what is not found may have been there. */
  readonly forgotten = new Set<CacheName>();
  readonly #byKey = new Map<CacheName, Map<string, CacheEntry>>(
    CACHES.map((name) => [name, new Map()]),
  );
  readonly #byDid = new Map<number, Set<CacheEntry>>();
  readonly #frames = new ByFrame();
  readonly #guestFrames = new ByFrame();
  /** Device-TLB entries by their target. */
  readonly #targets = new ByFrame();
  readonly #removed: (entry: CacheEntry) => void;

  /** @param removed an entry went: by invalidation, replacement, or for room */
  constructor(removed: (entry: CacheEntry) => void) {
    this.#removed = removed;
  }

  get size(): number {
    let size = 0;
    for (const entries of this.#byKey.values()) size += entries.size;
    return size;
  }

  find(cache: CacheName, key: string): CacheEntry | undefined {
    return this.#byKey.get(cache)!.get(key);
  }

  /** Takes an entry in, in the place of one with the same key. */
  add(entry: CacheEntry): void {
    const entries = this.#byKey.get(entry.cache)!;
    const old = entries.get(entry.key);
    if (old !== undefined) this.remove(old);
    entries.set(entry.key, entry);
    if (entry.did >= 0) {
      const sameDomain = this.#byDid.get(entry.did);
      if (sameDomain === undefined) this.#byDid.set(entry.did, new Set([entry]));
      else sameDomain.add(entry);
    }
    if (entry.frame >= 0) this.#frames.add(entry.frame, entry.frames, entry);
    if (entry.gfn >= 0) this.#guestFrames.add(entry.gfn, entry.frames, entry);
    if (entry.target >= 0) this.#targets.add(entry.target, entry.pages, entry);
    if (entries.size <= MOST) return;
    this.forgotten.add(entry.cache);
    for (const oldest of entries.values()) {
      this.remove(oldest);
      break;
    }
  }

  remove(entry: CacheEntry): void {
    if (!entry.live) return;
    entry.live = false;
    const entries = this.#byKey.get(entry.cache)!;
    if (entries.get(entry.key) === entry) entries.delete(entry.key);
    const sameDomain = this.#byDid.get(entry.did);
    sameDomain?.delete(entry);
    if (sameDomain?.size === 0) this.#byDid.delete(entry.did);
    if (entry.frame >= 0) this.#frames.delete(entry.frame, entry.frames, entry);
    if (entry.gfn >= 0) this.#guestFrames.delete(entry.gfn, entry.frames, entry);
    if (entry.target >= 0) this.#targets.delete(entry.target, entry.pages, entry);
    this.#removed(entry);
  }

  /** Entries that lead to a host frame. */
  leadingTo(frame: number): CacheEntry[] {
    return this.#frames.find(frame);
  }

  /** Entries whose guest frame it is. */
  leadingToGuest(gfn: number): CacheEntry[] {
    return this.#guestFrames.find(gfn);
  }

  /** Device-TLB entries of a function with which it may send a translated request to a frame. */
  devicesUsing(sid: number, frame: number): CacheEntry[] {
    return this.#targets.find(frame).filter((entry) => entry.sid === sid);
  }

  /** What a descriptor drops, upper caches first. */
  coveredBy(d: Descriptor): CacheEntry[] {
    switch (d.type) {
      case 'cc':
        return this.#select('context cache', d);
      case 'pc':
        return this.#select('PASID cache', d);
      case 'iotlb':
      case 'p_iotlb':
        return [
          ...this.#select('second-stage structure cache', d),
          ...this.#select('first-stage structure cache', d),
          ...this.#select('IOTLB', d),
        ];
      case 'dev_tlb':
      case 'p_dev_tlb':
        return this.#select('device-TLB', d);
      default:
        return [];
    }
  }

  *all(): Generator<CacheEntry> {
    for (const cache of CACHES) yield* [...this.#byKey.get(cache)!.values()];
  }

  /** All of the unit's own caches. */
  *own(): Generator<CacheEntry> {
    for (const cache of CACHES) {
      if (cache !== 'device-TLB') yield* [...this.#byKey.get(cache)!.values()];
    }
  }

  #select(cache: CacheName, d: Descriptor): CacheEntry[] {
    const hasDid = d.type === 'iotlb' || d.type === 'p_iotlb' || d.type === 'pc';
    const isGlobal = d.type !== 'p_iotlb' && 'granularity' in d && isGlobalIn(d);
    const found: CacheEntry[] = [];
    const among =
      hasDid && !isGlobal ? (this.#byDid.get(d.did) ?? []) : this.#byKey.get(cache)!.values();
    for (const entry of among) if (entry.cache === cache && covers(d, entry)) found.push(entry);
    return found;
  }
}

/** Whether the domain of an IOTLB or PASID-cache descriptor does not count. */
function isGlobalIn(d: { readonly type: string; readonly granularity: number }): boolean {
  return d.type === 'iotlb' ? d.granularity === 1 : d.granularity === 3;
}
