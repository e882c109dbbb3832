import type { Descriptor, ValidDescriptor } from '../../spec/vtd/invalidation.ts';
import {
  CC_GRANULARITY,
  ccDesc,
  decodeDescriptor,
  describeDescriptor,
  devTlbDesc,
  IOTLB_GRANULARITY,
  iotlbDesc,
  PASID_CACHE_GRANULARITY,
  PASID_IOTLB_GRANULARITY,
  pasidCacheDesc,
  pasidDevTlbDesc,
  pasidIotlbDesc,
} from '../../spec/vtd/invalidation.ts';
import { CACHES, type CacheEntry, covers } from './cache-entry.ts';
import { descendsFrom, type Trail } from './history.ts';
import type { Kind } from './report.ts';
import type { Change } from './tables.ts';

/** A descriptor that the unit carried out. */
export interface Carried {
  readonly d: ValidDescriptor;
  readonly order: number;
  readonly trail: Trail | null;
}

/** What is wrong with the invalidation that a change owed. */
export interface Diagnosis {
  readonly kind: Kind;
  /** The entry that shows it best. */
  readonly entry: CacheEntry;
  readonly missing: string;
  readonly instead: string;
  /** The descriptor that was to do it and does not. */
  readonly wrong: Carried | null;
}

/**
 * Judges what the caches still hold after a change.
 *
 * @param held entries that are stale because of it, at least one
 * @param underway descriptors that are queued, or carried out and not confirmed
 * @param carried descriptors carried out of late, oldest first
 */
export function diagnose(
  change: Change,
  held: readonly CacheEntry[],
  underway: readonly Descriptor[],
  carried: readonly Carried[],
): Diagnosis {
  const isUnderway = (entry: CacheEntry): boolean =>
    !entry.live || underway.some((d) => covers(d, entry));
  const missing = held.filter((entry) => !isUnderway(entry));
  if (missing.length === 0) {
    const [entry] = held;
    const wait = 'inv_wait with a status write, and to wait for it';
    return { kind: 'not-waited', entry: entry!, missing: wait, instead: '', wrong: null };
  }
  const entry = missing.reduce((a, b) => (rank(a) <= rank(b) ? a : b));
  const needed = neededFor(missing);
  const wrong = nearMiss(change, entry, carried);
  if (wrong !== null) {
    const instead = describeDescriptor(wrong.carried.d);
    return { kind: wrong.kind, entry, missing: needed, instead, wrong: wrong.carried };
  }
  if (entry.tooEarly) {
    const instead = 'it was carried out before the invalidation of the cache above it';
    return { kind: 'wrong-order', entry, missing: needed, instead, wrong: null };
  }
  const kind = entry.cache === 'device-TLB' ? 'no-device-tlb-invalidation' : 'missing-invalidation';
  return { kind, entry, missing: needed, instead: '', wrong: null };
}

function rank(entry: CacheEntry): number {
  return CACHES.indexOf(entry.cache);
}

/** The descriptors that would rid the caches of all these, as text. */
export function neededFor(entries: readonly CacheEntry[]): string {
  const groups = new Map<string, CacheEntry[]>();
  for (const entry of [...entries].sort((a, b) => rank(a) - rank(b))) {
    const key = groupOf(entry);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [entry]);
    else group.push(entry);
  }
  const texts = [...groups.values()].map((group) => {
    const words = descriptorFor(group);
    return describeDescriptor(decodeDescriptor(words));
  });
  return texts.slice(0, MOST_NAMED).join(', then ');
}

/** Descriptors named in one report. */
const MOST_NAMED = 4;

function groupOf(e: CacheEntry): string {
  const isTranslation = e.cache === 'IOTLB' || e.cache.endsWith('structure cache');
  if (isTranslation) return e.firstStage ? `fs ${e.did} ${e.tag}` : `ss ${e.did}`;
  return `${e.cache} ${e.sid} ${e.did} ${e.pasid}`;
}

function descriptorFor(group: readonly CacheEntry[]): BigUint64Array {
  const [e] = group as [CacheEntry];
  const { page, order } = cover(group);
  const address = page * 4096;
  switch (e.cache) {
    case 'context cache':
      return ccDesc({ granularity: CC_GRANULARITY.DEVICE, sid: e.sid });
    case 'PASID cache':
      return pasidCacheDesc({
        granularity: PASID_CACHE_GRANULARITY.PASID,
        did: e.did,
        pasid: e.tag,
      });
    case 'device-TLB': {
      const sizeLog2 = order >= WIDE ? 'all' : order + 12;
      const where = sizeLog2 === 'all' ? 0 : address;
      return e.pasid < 0
        ? devTlbDesc({ sid: e.sid, address: where, sizeLog2 })
        : pasidDevTlbDesc({ sid: e.sid, pasid: e.pasid, address: where, sizeLog2 });
    }
    default: {
      const { did, tag: pasid } = e;
      if (e.firstStage) {
        return order >= WIDE
          ? pasidIotlbDesc({ granularity: PASID_IOTLB_GRANULARITY.ALL, did, pasid })
          : pasidIotlbDesc({
              granularity: PASID_IOTLB_GRANULARITY.PAGE,
              did,
              pasid,
              am: order,
              address,
            });
      }
      const wide = order >= WIDE || group.every(({ cache }) => cache !== 'IOTLB');
      return wide
        ? iotlbDesc({ granularity: IOTLB_GRANULARITY.DOMAIN, did })
        : iotlbDesc({ granularity: IOTLB_GRANULARITY.PAGE, did, am: order, address });
    }
  }
}

/** From this order on a range is spelled as everything. */
const WIDE = 36;

/** The aligned power of two of pages that holds all of the entries. */
function cover(entries: readonly CacheEntry[]): { page: number; order: number } {
  // What a structure entry spans is not what changed under it: its own page stands for it.
  const spans = entries.map((e) => ({ first: e.page, last: e.page + Math.max(1, e.pages) - 1 }));
  const leaves = entries.some((e) => !e.cache.endsWith('structure cache'))
    ? spans.filter((_, i) => !entries[i]!.cache.endsWith('structure cache'))
    : spans.map(({ first }) => ({ first, last: first }));
  const first = Math.min(...leaves.map((span) => span.first));
  const last = Math.max(...leaves.map((span) => span.last));
  let order = 0;
  while (Math.floor(first / 2 ** order) !== Math.floor(last / 2 ** order)) order++;
  return { page: Math.floor(first / 2 ** order) * 2 ** order, order };
}

/** A descriptor of the right type, sent because of the same thing, that misses the entry. */
function nearMiss(
  change: Change,
  entry: CacheEntry,
  carried: readonly Carried[],
): { kind: Kind; carried: Carried } | null {
  let best: { kind: Kind; carried: Carried } | null = null;
  for (const one of carried) {
    if (one.order <= change.order || covers(one.d, entry)) continue;
    if (change.trail !== null && !descendsFrom(one.trail, change.trail.seq)) continue;
    const kind = missBy(one.d, entry);
    if (kind !== null && (best === null || weight(kind) >= weight(best.kind))) {
      best = { kind, carried: one };
    }
  }
  return best;
}

const WEIGHTS: readonly Kind[] = ['wrong-pasid', 'wrong-domain-id', 'too-narrow', 'leaf-only'];
const weight = (kind: Kind): number => WEIGHTS.indexOf(kind);

function missBy(d: ValidDescriptor, e: CacheEntry): Kind | null {
  const isTranslation = e.cache === 'IOTLB' || e.cache.endsWith('structure cache');
  switch (d.type) {
    case 'pc':
      if (e.cache !== 'PASID cache') return null;
      return d.did !== e.did ? wrongDid(d.pasid === e.tag) : 'wrong-pasid';
    case 'p_iotlb':
      if (!isTranslation) return null;
      if (d.did !== e.did) return wrongDid(d.pasid === e.tag);
      if (d.pasid !== e.tag) return 'wrong-pasid';
      return d.ih && covers({ ...d, ih: false }, e) ? 'leaf-only' : 'too-narrow';
    case 'iotlb':
      if (!isTranslation || e.firstStage) return null;
      if (d.did !== e.did) return 'wrong-domain-id';
      return d.ih && covers({ ...d, ih: false }, e) ? 'leaf-only' : 'too-narrow';
    case 'p_dev_tlb':
      if (e.cache !== 'device-TLB' || d.sid !== e.sid || e.pasid < 0) return null;
      return d.pasid === e.pasid ? 'too-narrow' : 'wrong-pasid';
    case 'dev_tlb':
      return e.cache === 'device-TLB' && d.sid === e.sid && e.pasid < 0 ? 'too-narrow' : null;
    default:
      return null;
  }
}

/** Another domain, and the right PASID: else it was about something else. */
function wrongDid(samePasid: boolean): Kind | null {
  return samePasid ? 'wrong-domain-id' : null;
}
