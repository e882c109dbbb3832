import { IOTLB_GRANULARITY, PASID_CACHE_GRANULARITY } from '../spec/vtd/invalidation.ts';

/** Entries of one kind; beyond it the oldest goes. */
const LIMIT = 4096;

/** The domain id that what is not present is cached under (VT-d spec 6.1, caching mode). */
const NO_DOMAIN = 0;

/** A fault that was met, and whether FPD was set on the way. */
export interface NotPresent {
  readonly fault: number;
  readonly fpd: boolean;
}

/**
 * What a unit in caching mode (CAP.CM) may keep of entries that it found not present: contexts,
 * PASID entries and second-stage translations, all tagged with domain id 0, so that software must
 * invalidate after making them present. First-stage faults are never kept. A page is known by
 * source id, PASID and number.
 */
export class NotPresentCache {
  readonly #contexts = new Map<number, NotPresent>();
  readonly #pasids = new Map<number, NotPresent & { readonly pasid: number }>();
  readonly #pages = new Map<string, { readonly pasid: number; readonly page: number }>();

  context(sid: number): NotPresent | undefined {
    return this.#contexts.get(sid);
  }

  keepContext(sid: number, found: NotPresent): void {
    keep(this.#contexts, sid, found);
  }

  pasid(sid: number, pasid: number): NotPresent | undefined {
    return this.#pasids.get(sid * 2 ** 20 + pasid);
  }

  keepPasid(sid: number, pasid: number, found: NotPresent): void {
    keep(this.#pasids, sid * 2 ** 20 + pasid, { ...found, pasid });
  }

  hasPage(sid: number, pasid: number, page: number): boolean {
    return this.#pages.has(`${sid} ${pasid} ${page}`);
  }

  /** `tagPasid` as for the IOTLB: of a request without PASID, RID_PASID. */
  keepPage(sid: number, pasid: number, page: number, tagPasid: number): void {
    keep(this.#pages, `${sid} ${pasid} ${page}`, { pasid: tagPasid, page });
  }

  dropAll(): number {
    return this.dropContexts(() => true) + clear(this.#pasids) + clear(this.#pages);
  }

  dropContexts(matches: (sid: number) => boolean): number {
    return dropWhere(this.#contexts, (_found, sid) => matches(sid));
  }

  /** pc by granularity, DID and PASID. */
  dropPasids(granularity: number, did: number, pasid: number): number {
    if (granularity === PASID_CACHE_GRANULARITY.GLOBAL) return clear(this.#pasids);
    if (did !== NO_DOMAIN) return 0;
    if (granularity === PASID_CACHE_GRANULARITY.DOMAIN) return clear(this.#pasids);
    return dropWhere(this.#pasids, (found) => found.pasid === pasid);
  }

  /** iotlb by granularity and DID; a range for page-selective. */
  dropPages(granularity: number, did: number, page: number, pages: number): number {
    if (granularity === IOTLB_GRANULARITY.GLOBAL) return clear(this.#pages);
    if (did !== NO_DOMAIN) return 0;
    if (granularity === IOTLB_GRANULARITY.DOMAIN) return clear(this.#pages);
    return dropWhere(this.#pages, (at) => at.page >= page && at.page < page + pages);
  }

  /** p_iotlb of all in a PASID. */
  dropPagesOf(did: number, pasid: number): number {
    return did === NO_DOMAIN ? dropWhere(this.#pages, (at) => at.pasid === pasid) : 0;
  }
}

function keep<K, V>(map: Map<K, V>, key: K, value: V): void {
  const oldest = map.size >= LIMIT ? map.keys().next() : undefined;
  if (oldest?.done === false) map.delete(oldest.value);
  map.set(key, value);
}

function clear(map: Map<unknown, unknown>): number {
  const dropped = map.size;
  map.clear();
  return dropped;
}

function dropWhere<K, V>(map: Map<K, V>, matches: (value: V, key: K) => boolean): number {
  const gone = [...map].filter(([key, value]) => matches(value, key));
  for (const [key] of gone) map.delete(key);
  return gone.length;
}
