import {
  CC_GRANULARITY,
  type CcDescriptor,
  IOTLB_GRANULARITY,
  type IotlbDescriptor,
  PASID_CACHE_GRANULARITY,
  PASID_IOTLB_GRANULARITY,
  type PasidCacheDescriptor,
  type PasidIotlbDescriptor,
} from '../spec/vtd/invalidation.ts';
import { PGTT } from '../spec/vtd/pasid.ts';
import { TTM } from '../spec/vtd/registers.ts';
import type { PasidConfig } from './entries.ts';
import { ContextCache, PasidCache, sameFunction } from './entry-caches.ts';
import { Epoch } from './epoch.ts';
import { InterruptEntryCache } from './interrupt-entry-cache.ts';
import { Iotlb } from './iotlb.ts';
import { NotPresentCache } from './not-present-cache.ts';
import { FirstStageCache, SecondStageCache } from './structure-caches.ts';

/**
 * The unit's caches and what each invalidation drops from them (VT-d spec 6.2, 6.5.2). Nothing
 * else drops an entry, except a victim's replacement. Every method returns how many went.
 */
export class Caches {
  /** Ends with every change of the context and PASID caches, and of the root pointer. */
  readonly epoch = new Epoch();
  readonly contexts = new ContextCache(this.epoch);
  readonly pasids = new PasidCache(this.epoch);
  readonly iotlb = new Iotlb();
  readonly first: FirstStageCache;
  readonly second: SecondStageCache;
  /** Not of DMA: only iec, and set-interrupt-table with CAP.ESIRTPS, drop from it. */
  readonly interrupts = new InterruptEntryCache();
  /** Null: entries that are not present are not cached. */
  readonly absent: NotPresentCache | null;
  readonly #kinds: readonly { evict: (choice: number) => boolean }[];

  /**
   * @param absent caching mode: what is not present may be cached too; default false
   * @param structures whether there are paging-structure caches; default true
   */
  constructor({ absent = false, structures = true } = {}) {
    this.absent = absent ? new NotPresentCache() : null;
    this.first = new FirstStageCache(structures);
    this.second = new SecondStageCache(structures);
    const { iotlb, first, second, pasids, contexts, interrupts } = this;
    this.#kinds = [iotlb, first, second, pasids, contexts, interrupts];
  }

  /** How many caches `evict` chooses from. */
  get kinds(): number {
    return this.#kinds.length;
  }

  /** An entry of cache `kind` (0 to `kinds` - 1) goes, which one by any number. False: none there. */
  evict(kind: number, choice: number): boolean {
    return this.#kinds[kind]?.evict(choice) ?? false;
  }

  /** The global invalidation that setting the root table or turning remapping off implies. */
  dropAll(): number {
    return (
      this.contexts.dropAll() +
      this.pasids.dropAll() +
      this.#dropTranslations() +
      (this.absent?.dropAll() ?? 0)
    );
  }

  /** In scalable mode a DID is no tag of a context entry: domain-selective acts as global. */
  contextCache(d: CcDescriptor, ttm: number): number {
    const { absent, contexts } = this;
    if (d.granularity === CC_GRANULARITY.DEVICE) {
      const gone = absent?.dropContexts((sid) => sameFunction(sid, d.sid, d.fm)) ?? 0;
      return gone + contexts.dropFunction(d.sid, d.fm);
    }
    if (d.granularity === CC_GRANULARITY.DOMAIN && ttm === TTM.LEGACY) {
      return (absent?.dropContexts(() => d.did === 0) ?? 0) + contexts.dropDomain(d.did);
    }
    return (absent?.dropContexts(() => true) ?? 0) + contexts.dropAll();
  }

  pasidCache(d: PasidCacheDescriptor): number {
    const gone = this.absent?.dropPasids(d.granularity, d.did, d.pasid) ?? 0;
    if (d.granularity === PASID_CACHE_GRANULARITY.GLOBAL) return gone + this.pasids.dropAll();
    if (d.granularity === PASID_CACHE_GRANULARITY.PASID) {
      return gone + this.pasids.dropPasid(d.did, d.pasid);
    }
    return gone + this.pasids.dropDomain(d.did);
  }

  iotlbInvalidate(d: IotlbDescriptor): number {
    const { page, pages } = rangeOf(d);
    const gone = this.absent?.dropPages(d.granularity, d.did, page, pages) ?? 0;
    if (d.granularity === IOTLB_GRANULARITY.GLOBAL) return gone + this.#dropTranslations();
    if (d.granularity === IOTLB_GRANULARITY.DOMAIN) return gone + this.#dropDomain(d.did);
    return (
      gone +
      this.iotlb.dropDomainRange(d.did, page, pages) +
      this.first.dropDomain(d.did) +
      (d.ih ? 0 : this.second.dropDomainRange(d.did, page, pages))
    );
  }

  pasidIotlb(d: PasidIotlbDescriptor): number {
    const { did, pasid } = d;
    if (d.granularity === PASID_IOTLB_GRANULARITY.ALL) {
      const gone = this.absent?.dropPagesOf(did, pasid) ?? 0;
      return gone + this.iotlb.dropPasid(did, pasid) + this.first.dropPasid(did, pasid);
    }
    const { page, pages } = rangeOf(d);
    return (
      this.iotlb.dropPasidRange(did, pasid, page, pages) +
      (d.ih ? 0 : this.first.dropPasidRange(did, pasid, page, pages))
    );
  }

  /**
   * What the unit itself drops before it queues a page request for a page, as if software had
   * asked for it (VT-d spec 7.3.1): nothing stale may be used when the device tries again.
   */
  pageRequested(how: PasidConfig, page: number): number {
    const { did, pasid } = how;
    if (how.pgtt === PGTT.NESTED) return this.#dropDomain(did);
    if (how.pgtt === PGTT.FIRST_STAGE) {
      return (
        this.iotlb.dropPasidRange(did, pasid, page, 1) +
        this.first.dropPasidRange(did, pasid, page, 1)
      );
    }
    return (
      this.iotlb.dropDomainRange(did, page, 1) +
      this.first.dropDomain(did) +
      this.second.dropDomainRange(did, page, 1)
    );
  }

  #dropDomain(did: number): number {
    return this.iotlb.dropDomain(did) + this.first.dropDomain(did) + this.second.dropDomain(did);
  }

  #dropTranslations(): number {
    return this.iotlb.dropAll() + this.first.dropAll() + this.second.dropAll();
  }
}

/** The 2^am pages around an address, whose low page bits do not count. */
function rangeOf(d: { readonly address: number; readonly am: number }): {
  readonly page: number;
  readonly pages: number;
} {
  const pages = 2 ** d.am;
  const page = d.address / 4096;
  return { page: page - (page % pages), pages };
}
