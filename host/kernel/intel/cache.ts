/**
 * Cache tags: everything that may hold translations of a domain, and flushes of address ranges
 * through them (drivers/iommu/intel/cache.c).
 */
import {
  IOTLB_GRANULARITY,
  iotlbDesc,
  PASID_IOTLB_GRANULARITY,
  pasidIotlbDesc,
} from '../../../devices/spec/vtd/invalidation.ts';
import { host } from '../../../trace/catalogue/host.ts';
import type { Task } from '../../syscall.ts';
import type { HostBug } from '../bugs.ts';
import type { IntelDevice } from './device.ts';
import { deviceTlb, flush, iotlbDomain, pasidIotlbAll } from './flush.ts';
import { hasBug } from './platform.ts';
import type { DescriptorWords } from './qi.ts';
import type { IntelUnit } from './unit.ts';

const TYPES = ['IOTLB', 'DEVTLB', 'NESTING_IOTLB', 'NESTING_DEVTLB'] as const;
export type CacheTagType = (typeof TYPES)[number];

interface CacheTag {
  readonly type: CacheTagType;
  readonly device: IntelDevice;
  readonly did: number;
  readonly pasid: number;
  users: number;
}

/** Descriptors submitted with one wait (cache.c: QI_MAX_BATCHED_DESC_COUNT). */
const BATCH = 16;

/** Page numbers are below 2^52, so this mask covers everything. */
const ALL = 52;

/** Pages from `start` on; `pages` Infinity is everything. */
export interface PageRange {
  /** First page number. */
  readonly start: number;
  readonly pages: number;
}

export const EVERYTHING: PageRange = { start: 0, pages: Infinity };

/** The aligned power of two of pages that covers a range: its log2, 52 for everything. */
export function coveringMask(range: PageRange): number {
  if (!Number.isFinite(range.pages)) return ALL;
  let mask = Math.max(0, Math.ceil(Math.log2(Math.max(1, range.pages))));
  const last = range.start + Math.max(1, range.pages) - 1;
  while (mask < ALL && Math.floor(range.start / 2 ** mask) !== Math.floor(last / 2 ** mask)) mask++;
  return mask;
}

/** Descriptors that go out 16 at a time, each time with one wait, to one unit after the other. */
class Batch {
  #unit: IntelUnit | null = null;
  #descriptors: DescriptorWords[] = [];

  *add(unit: IntelUnit, descriptor: DescriptorWords): Task {
    if (unit !== this.#unit) yield* this.submit();
    this.#unit = unit;
    this.#descriptors.push(descriptor);
    if (this.#descriptors.length === BATCH) yield* this.submit();
  }

  *submit(): Task {
    if (this.#unit === null || this.#descriptors.length === 0) return;
    const descriptors = this.#descriptors;
    this.#descriptors = [];
    yield* flush(this.#unit, descriptors);
  }
}

/** The first half of a range of more than one page. */
function half({ start, pages }: PageRange): PageRange {
  return { start, pages: Math.max(1, Math.floor(pages / 2)) };
}

function hasAnyBug(tags: readonly CacheTag[], bug: HostBug): boolean {
  return tags.some(({ device }) => hasBug(device.unit.platform, bug));
}

/** The cache tags of one domain. */
export class CacheTags {
  /** Whether what is cached carries a PASID: nested domains, flushed by PASID-based invalidation. */
  readonly #perPasid: boolean;
  readonly #label: string;
  /** In the order of their first use. A domain may have a million, so they are found by a key. */
  readonly #tags = new Map<number, CacheTag>();
  /** A number for every unit and device that a key names. */
  readonly #owners = new Map<IntelUnit | IntelDevice, number>();

  constructor(label: string, perPasid: boolean) {
    this.#label = label;
    this.#perPasid = perPasid;
  }

  get size(): number {
    return this.#tags.size;
  }

  /** Counts one more use of a tag. Errno ENOMEM at its failure point, before anything changed. */
  assign(type: CacheTagType, device: IntelDevice, did: number, pasid: number): void {
    device.unit.platform.failpoints.point('intel:cache-tag');
    const key = this.#key(type, device, did, pasid);
    const known = this.#tags.get(key);
    if (known === undefined) this.#tags.set(key, { type, device, did, pasid, users: 1 });
    else known.users++;
  }

  unassign(type: CacheTagType, device: IntelDevice, did: number, pasid: number): void {
    const key = this.#key(type, device, did, pasid);
    const tag = this.#tags.get(key);
    if (tag !== undefined && --tag.users === 0) this.#tags.delete(key);
  }

  /**
   * Drops a range from every cache that may have it. `leafOnly`: only leaf entries changed, so
   * caches of upper levels may stay.
   */
  *flushRange(range: PageRange, leafOnly: boolean): Task {
    const batch = new Batch();
    // A device may refill its TLB from the IOTLB, so the IOTLB goes first.
    const iotlb = this.#tagsOf('IOTLB', 'NESTING_IOTLB');
    const devTlb = this.#tagsOf('DEVTLB', 'NESTING_DEVTLB');
    if (hasAnyBug(devTlb, 'host-flush-no-device-tlb')) devTlb.length = 0;
    if (hasAnyBug(devTlb, 'host-flush-device-first')) {
      for (const tag of devTlb.splice(0)) {
        yield* batch.add(tag.device.unit, this.#devTlb(tag, range));
      }
    }
    for (const tag of iotlb) {
      yield* batch.add(tag.device.unit, this.#iotlb(tag, range, leafOnly));
    }
    for (const tag of devTlb) {
      yield* batch.add(tag.device.unit, this.#devTlb(tag, range));
    }
    yield* batch.submit();
  }

  /** After entries became present: only caching mode may have cached that they were not. */
  *flushNewRange(range: PageRange): Task {
    const batch = new Batch();
    for (const tag of this.#tagsOf('IOTLB', 'NESTING_IOTLB')) {
      const { unit } = tag.device;
      if (unit.cachingMode) yield* batch.add(unit, this.#iotlb(tag, range, false));
    }
    yield* batch.submit();
  }

  /** A copy: while a flush waits, attachments come and go. */
  #tagsOf(...types: readonly CacheTagType[]): CacheTag[] {
    const found: CacheTag[] = [];
    for (const tag of this.#tags.values()) if (types.includes(tag.type)) found.push(tag);
    return found;
  }

  /** IOTLBs are the unit's, device-TLBs the device's. Domain ids have 16 bits, PASIDs 20. */
  #key(type: CacheTagType, device: IntelDevice, did: number, pasid: number): number {
    const owner = type === 'IOTLB' || type === 'NESTING_IOTLB' ? device.unit : device;
    let number = this.#owners.get(owner);
    if (number === undefined) {
      number = this.#owners.size;
      this.#owners.set(owner, number);
    }
    return ((number * TYPES.length + TYPES.indexOf(type)) * 2 ** 16 + did) * 2 ** 20 + pasid;
  }

  #iotlb(tag: CacheTag, range: PageRange, leafOnly: boolean): DescriptorWords {
    this.#emit(tag, range);
    const { pasid } = tag;
    const { platform } = tag.device.unit;
    const did = hasBug(platform, 'host-flush-wrong-did') ? tag.did + 1 : tag.did;
    if (hasBug(platform, 'host-flush-leaf-only')) leafOnly = true;
    const mask = coveringMask(hasBug(platform, 'host-flush-too-narrow') ? half(range) : range);
    const address = range.start * 4096;
    if (this.#perPasid) {
      if (mask >= ALL) return pasidIotlbAll(did, pasid);
      const granularity = PASID_IOTLB_GRANULARITY.PAGE;
      return pasidIotlbDesc({ granularity, did, pasid, am: mask, ih: leafOnly, address });
    }
    const { PSI, MAMV } = tag.device.unit.cap;
    if (PSI === 0 || mask > MAMV) return iotlbDomain(did);
    return iotlbDesc({
      granularity: IOTLB_GRANULARITY.PAGE,
      did,
      drainReads: true,
      drainWrites: true,
      am: mask,
      ih: leafOnly,
      address,
    });
  }

  #devTlb(tag: CacheTag, range: PageRange): DescriptorWords {
    this.#emit(tag, range);
    const { rid } = tag.device;
    const mask = coveringMask(range);
    // Which guest addresses lead to a changed page of the second stage nobody knows.
    if (tag.type === 'NESTING_DEVTLB' || mask >= ALL) return deviceTlb(rid, tag.pasid, 0, 'all');
    return deviceTlb(rid, tag.pasid, range.start * 4096, mask + 12);
  }

  #emit(tag: CacheTag, range: PageRange): void {
    const { trace } = tag.device.unit.platform;
    if (!trace.on) return;
    const everything = !Number.isFinite(range.pages);
    trace.emit(host.cacheTag, {
      domain: this.#label,
      tag: tag.type,
      did: tag.did,
      pasid: tag.pasid,
      start: range.start * 4096,
      end: everything ? 0xffff_ffff_ffff_ffffn : (range.start + range.pages) * 4096 - 1,
    });
  }
}
