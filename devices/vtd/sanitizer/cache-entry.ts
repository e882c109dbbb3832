import type { Descriptor } from '../../spec/vtd/invalidation.ts';
import {
  CC_GRANULARITY,
  IOTLB_GRANULARITY,
  PASID_CACHE_GRANULARITY,
  PASID_IOTLB_GRANULARITY,
} from '../../spec/vtd/invalidation.ts';
import type { Trail } from './history.ts';
import type { Change, Dependent, TableEntry } from './tables.ts';

/** The caches that software must invalidate, in the order in which they are filled. */
export const CACHES = [
  'context cache',
  'PASID cache',
  'second-stage structure cache',
  'first-stage structure cache',
  'IOTLB',
  'device-TLB',
] as const;
export type CacheName = (typeof CACHES)[number];

/** Changes one entry remembers; more say nothing new. */
const MAX_CHANGES = 4;

export interface CacheEntryInit {
  readonly cache: CacheName;
  readonly sid: number;
  /** Of the request, -1 for none; of a PASID-cache entry its own. */
  readonly pasid: number;
  readonly priv?: boolean;
  readonly did?: number;
  /** PASID by which it is invalidated. */
  readonly tag?: number;
  readonly firstStage?: boolean;
  /** First page, and how many. */
  readonly page?: number;
  readonly pages?: number;
  readonly level?: number;
  /** Host frame, and guest frame under nesting, that it leads to; -1: not told. */
  readonly frame?: number;
  readonly gfn?: number;
  /** Frame of a device-TLB entry's first page, whatever `frame` tells. */
  readonly target?: number;
  readonly path: readonly TableEntry[];
  /** Entries of other caches that it was filled from. */
  readonly upstream: readonly CacheEntry[];
  readonly filled: Trail | null;
  readonly ns: number;
  /** Descriptors carried out before it was filled. */
  readonly born: number;
}

/** What a cache may hold: from its fill until an invalidation that covers it is complete. */
export class CacheEntry implements Dependent {
  readonly cache: CacheName;
  readonly sid: number;
  readonly pasid: number;
  readonly priv: boolean;
  readonly did: number;
  readonly tag: number;
  readonly firstStage: boolean;
  readonly page: number;
  readonly pages: number;
  readonly level: number;
  readonly frame: number;
  readonly gfn: number;
  readonly target: number;
  readonly path: readonly TableEntry[];
  readonly upstream: readonly CacheEntry[];
  readonly filled: Trail | null;
  readonly ns: number;
  readonly born: number;
  readonly changes: Change[] = [];
  live = true;
  /** The same translation in the unit beneath, for an entry of a virtual unit. */
  twin: CacheEntry | null = null;
  /** A report tells of it. */
  told = false;
  /** It was invalidated while what it is filled from was stale. */
  tooEarly = false;
  readonly #onChange: (entry: CacheEntry, change: Change) => void;

  constructor(init: CacheEntryInit, onChange: (entry: CacheEntry, change: Change) => void) {
    this.cache = init.cache;
    this.sid = init.sid;
    this.pasid = init.pasid;
    this.priv = init.priv ?? false;
    this.did = init.did ?? -1;
    this.tag = init.tag ?? -1;
    this.firstStage = init.firstStage ?? false;
    this.page = init.page ?? 0;
    this.pages = init.pages ?? 0;
    this.level = init.level ?? 0;
    this.frame = init.frame ?? -1;
    this.gfn = init.gfn ?? -1;
    this.target = init.target ?? -1;
    this.path = init.path;
    this.upstream = init.upstream;
    this.filled = init.filled;
    this.ns = init.ns;
    this.born = init.born;
    this.#onChange = onChange;
  }

  changed(change: Change): void {
    if (!this.live || this.changes.includes(change) || this.changes.length >= MAX_CHANGES) return;
    this.changes.push(change);
    this.#onChange(this, change);
  }

  /** How many frames it leads to: a table is one, whatever it spans. */
  get frames(): number {
    return this.cache === 'IOTLB' || this.cache === 'device-TLB' ? this.pages : 1;
  }

  /** Its name within its cache. */
  get key(): string {
    const { cache, sid, pasid, priv, page, pages, level, did, tag } = this;
    if (cache.endsWith('structure cache')) return `${cache} ${did} ${tag} ${level} ${page}`;
    return `${cache} ${sid} ${pasid} ${priv ? 1 : 0} ${level} ${page} ${pages}`;
  }

  /** Whether something that it is filled from, and that does not go `together` with it, is stale too. */
  isRefillable(together: ReadonlySet<CacheEntry>): boolean {
    return this.upstream.some(
      (above) =>
        above.live &&
        !together.has(above) &&
        above.changes.some((change) => this.changes.includes(change)),
    );
  }

  describe(): string {
    const { cache, did, tag, page, pages, frame, pasid } = this;
    const tags = [did >= 0 ? `did=${did}` : '', tag >= 0 ? `pasid=${tag}` : ''].filter(Boolean);
    if (cache === 'context cache') return `${cache}: function`;
    if (cache === 'PASID cache') return [`${cache}:`, ...tags].join(' ');
    if (cache === 'device-TLB' && pasid >= 0) tags.push(`pasid=${pasid}`);
    const where = `0x${(page * 4096).toString(16)}`;
    const to = frame >= 0 ? ` -> frame 0x${frame.toString(16)}` : '';
    return [`${cache}:`, ...tags, `${where}${to}, ${pages} page${pages === 1 ? '' : 's'}`].join(
      ' ',
    );
  }
}

interface Range {
  readonly first: number;
  readonly end: number;
}

function rangeOf(address: number, pages: number): Range {
  const page = address / 4096;
  const first = page - (page % pages);
  return { first, end: first + pages };
}

function meets(entry: CacheEntry, { first, end }: Range): boolean {
  return entry.page < end && first < entry.page + entry.pages;
}

const FUNCTION_MASK = [0, 4, 6, 7] as const;

/** Whether a descriptor drops the entry (VT-d spec 6.5.2; the device's part: PCIe ATS). */
export function covers(d: Descriptor, e: CacheEntry): boolean {
  switch (d.type) {
    case 'cc':
      if (e.cache !== 'context cache') return false;
      if (d.granularity !== CC_GRANULARITY.DEVICE) return true;
      return ((e.sid ^ d.sid) & ~FUNCTION_MASK[d.fm & 3]! & 0xffff) === 0;
    case 'pc':
      if (e.cache !== 'PASID cache') return false;
      if (d.granularity === PASID_CACHE_GRANULARITY.GLOBAL) return true;
      if (d.did !== e.did) return false;
      return d.granularity === PASID_CACHE_GRANULARITY.DOMAIN || d.pasid === e.tag;
    case 'iotlb': {
      if (!isTranslation(e)) return false;
      if (d.granularity === IOTLB_GRANULARITY.GLOBAL) return true;
      if (d.did !== e.did) return false;
      if (d.granularity === IOTLB_GRANULARITY.DOMAIN || e.firstStage) return true;
      if (d.ih && e.cache === 'second-stage structure cache') return false;
      return meets(e, rangeOf(d.address, 2 ** d.am));
    }
    case 'p_iotlb': {
      if (!isTranslation(e) || d.did !== e.did || d.pasid !== e.tag) return false;
      if (d.granularity === PASID_IOTLB_GRANULARITY.ALL) return true;
      if (!e.firstStage || (d.ih && e.cache === 'first-stage structure cache')) return false;
      return meets(e, rangeOf(d.address, 2 ** d.am));
    }
    case 'dev_tlb':
    case 'p_dev_tlb': {
      if (e.cache !== 'device-TLB' || e.sid !== d.sid) return false;
      if (d.type === 'dev_tlb' ? e.pasid >= 0 : e.pasid < 0) return false;
      if (d.type === 'p_dev_tlb' && !d.global && d.pasid !== e.pasid) return false;
      if (d.sizeLog2 === 'all') return true;
      return meets(e, rangeOf(d.address, 2 ** (d.sizeLog2 - 12)));
    }
    default:
      return false;
  }
}

function isTranslation(e: CacheEntry): boolean {
  return e.cache === 'IOTLB' || e.cache.endsWith('structure cache');
}
