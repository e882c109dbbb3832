/** Second-stage domains: what iommufd maps guest memory or plain IOVAs with. */

import { SS_LO } from '../../../devices/spec/x86/paging.ts';
import { host } from '../../../trace/catalogue/host.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { DirtyOps, IommuDomainOps, IommuOps } from '../iommu/ops.ts';
import { PROT } from '../iommu/ops.ts';
import type { PageRange } from './cache.ts';
import { CacheTags } from './cache.ts';
import type { IntelDevice } from './device.ts';
import { DirtyTracking, dirtyOps } from './dirty.ts';
import type { FaultHandler, IntelDomain, TaggedDomain } from './domain.ts';
import type { EntryWords, SecondStage } from './pasid-entry.ts';
import { secondStageEntry } from './pasid-entry.ts';
import { hasBug } from './platform.ts';
import type { Leaves } from './second-stage.ts';
import { SecondStageTable } from './second-stage.ts';
import type { IntelUnit } from './unit.ts';

const PAGE_BYTES = 4096;

/** A domain id and cache tags for one attachment; all or nothing. Errno ENOSPC, ENOMEM. */
export function acquireTags(domain: TaggedDomain, device: IntelDevice, pasid: number): number {
  const { domainIds, platform } = device.unit;
  using undo = new DisposableStack();
  platform.failpoints.point('intel:domain-id');
  const did = domainIds.acquire(domain);
  undo.defer(() => domainIds.release(domain));
  domain.tags.assign('IOTLB', device, did, pasid);
  undo.defer(() => domain.tags.unassign('IOTLB', device, did, pasid));
  if (device.atsEnabled) domain.tags.assign('DEVTLB', device, did, pasid);
  undo.move();
  return did;
}

/** Gives back what `acquireTags` took. */
export function releaseTags(domain: TaggedDomain, device: IntelDevice, pasid: number): void {
  const { domainIds } = device.unit;
  const did = domainIds.of(domain);
  if (did === undefined) return;
  if (device.atsEnabled) domain.tags.unassign('DEVTLB', device, did, pasid);
  domain.tags.unassign('IOTLB', device, did, pasid);
  domainIds.release(domain);
}

/** A second-stage page table as a domain. With `nestParent` guests' tables may lie on it. */
export class PagingDomain implements IntelDomain, TaggedDomain {
  readonly type = 'paging';
  readonly label: string;
  readonly ops: IommuDomainOps;
  readonly owner: IommuOps;
  readonly pageSizes: number;
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly nestParent: boolean;
  readonly tags: CacheTags;
  /** Who has its table in a PASID-table entry, guests' tables on it included. */
  readonly dirty: DirtyTracking;
  readonly dirtyOps?: DirtyOps;
  faultHandler: FaultHandler = null;
  /** Every leaf has SNP. */
  #forceSnooping = false;
  readonly #table: SecondStageTable;
  readonly #unit: IntelUnit;
  readonly #addressWidth: number;

  /** Errno ENOMEM. */
  constructor(
    owner: IommuOps,
    ops: IommuDomainOps,
    unit: IntelUnit,
    label: string,
    use: { readonly nestParent: boolean; readonly dirtyTracking: boolean },
  ) {
    this.owner = owner;
    this.ops = ops;
    this.label = label;
    this.nestParent = use.nestParent;
    this.tags = new CacheTags(label, false);
    this.#unit = unit;
    this.#addressWidth = unit.addressWidth;
    this.#table = new SecondStageTable(unit.platform, unit.levels, unit.cap.SSLPS);
    this.dirty = new DirtyTracking(this.#table, this.tags);
    if (use.dirtyTracking) this.dirtyOps = dirtyOps(this.dirty);
    this.pageSizes = this.#table.pageSizes;
    const pages = Math.min(this.#table.limit, 2 ** (unit.cap.MGAW + 1 - 12));
    this.aperture = { start: 0n, last: BigInt(pages) * 4096n - 1n };
  }

  get secondStage(): SecondStage {
    return {
      root: this.#table.root,
      addressWidth: this.#addressWidth,
      dirty: this.dirty.on,
      forceSnooping: this.#forceSnooping,
    };
  }

  /** Before anything is mapped. @returns whether the unit can */
  enforceCacheCoherency(): boolean {
    this.#forceSnooping = this.#unit.ecap.SC === 1;
    return this.#forceSnooping;
  }

  /**
   * Whether another unit can walk this table. Errno EINVAL.
   * (drivers/iommu/intel/iommu.c: paging_domain_compatible)
   */
  requireCompatible(unit: IntelUnit): void {
    const { SAGAW, SSLPS } = unit.cap;
    if ((SAGAW & (1 << this.#addressWidth)) === 0) {
      throw new Errno('EINVAL', `${this.label}: the unit has no AW=${this.#addressWidth}`);
    }
    if ((this.#unit.cap.SSLPS & ~SSLPS) !== 0) {
      throw new Errno('EINVAL', `${this.label} may have large pages that the unit has not`);
    }
    if (this.dirtyOps !== undefined && unit.ecap.SSADS === 0) {
      throw new Errno('EINVAL', `${this.label} tracks dirty pages, which the unit cannot`);
    }
    if (this.#forceSnooping && unit.ecap.SC === 0) {
      throw new Errno('EINVAL', `${this.label} enforces snooping, which the unit cannot`);
    }
    if (this.#unit.ecap.SMPWCS !== unit.ecap.SMPWCS) {
      throw new Errno('EINVAL', `${this.label}: page walks of the unit have another coherency`);
    }
  }

  acquire(device: IntelDevice, pasid: number): void {
    this.requireCompatible(device.unit);
    const did = acquireTags(this, device, pasid);
    this.dirty.attached({ device, pasid, did });
  }

  release(device: IntelDevice, pasid: number): void {
    const did = device.unit.domainIds.of(this);
    if (did !== undefined) this.dirty.detached(device, pasid, did);
    releaseTags(this, device, pasid);
  }

  entry(unit: IntelUnit): EntryWords {
    return secondStageEntry(unit, this.secondStage, unit.domainIds.of(this)!);
  }

  /**
   * Maps physically contiguous bytes; all or nothing. Errno EINVAL: misaligned, empty, outside the
   * aperture, or no access. EEXIST: part of it is mapped. ENOMEM.
   */
  *map(iova: bigint, paddr: number, bytes: number, prot: number): Task {
    const range = this.#range(iova, bytes);
    const access = prot & (PROT.READ | PROT.WRITE);
    if (paddr % PAGE_BYTES !== 0 || access === 0) {
      throw new Errno('EINVAL', `map of 0x${paddr.toString(16)} with access ${prot}`);
    }
    const leaves: Leaves = { size4K: 0, size2M: 0, size1G: 0 };
    try {
      const flags =
        ((access & PROT.READ) !== 0 ? SS_LO.R : 0) |
        ((access & PROT.WRITE) !== 0 ? SS_LO.W : 0) |
        (this.#forceSnooping ? SS_LO.SNP : 0);
      this.#table.map(range.start, paddr / PAGE_BYTES, range.pages, flags, leaves);
    } catch (error) {
      const mapped = leaves.size4K + leaves.size2M * 512 + leaves.size1G * 512 * 512;
      if (mapped > 0) yield* this.#unmapPages({ start: range.start, pages: mapped });
      throw error;
    }
    const { trace } = this.#unit.platform;
    using _span = trace.on
      ? trace.span(host.map, {
          domain: this.label,
          iova,
          paddr,
          bytes,
          leaves: describeLeaves(leaves),
        })
      : null;
    yield* this.tags.flushNewRange(range);
  }

  /** Unmaps the whole leaves in the range and flushes; returns the bytes unmapped. */
  *unmap(iova: bigint, bytes: bigint): Task<bigint> {
    const last = iova + bytes - 1n;
    if (iova % 4096n !== 0n || bytes <= 0n || iova > this.aperture.last) return 0n;
    const end = last < this.aperture.last ? last : this.aperture.last;
    const pages = Number((end + 1n - iova) / 4096n);
    if (pages === 0) return 0n;
    const { trace } = this.#unit.platform;
    using _span = trace.span(host.unmap, {
      domain: this.label,
      iova,
      bytes: Number(bytes),
    });
    return BigInt(yield* this.#unmapPages({ start: Number(iova / 4096n), pages })) * 4096n;
  }

  /** Physical address behind an IOVA, or -1. */
  iovaToPhys(iova: bigint): number {
    if (iova < 0n || iova > this.aperture.last) return -1;
    const pfn = this.#table.lookup(Number(iova / 4096n));
    return pfn < 0 ? -1 : pfn * PAGE_BYTES + Number(iova % 4096n);
  }

  /** Frees the table; the domain must not be attached. */
  free(): void {
    this.#table.free();
  }

  *#unmapPages(range: PageRange): Task<number> {
    const { platform } = this.#unit;
    if (hasBug(platform, 'host-unmap-keeps-entries')) return range.pages;
    const { pages, tables } = this.#table.unmap(range.start, range.pages);
    if (hasBug(platform, 'host-unmap-frees-tables')) this.#table.freeTables(tables.splice(0));
    if (hasBug(platform, 'host-unmap-no-flush')) return pages;
    if (pages > 0 || tables.length > 0) {
      yield* this.tags.flushRange(range, tables.length === 0);
      // Paging-structure caches led to these tables until now.
      this.#table.freeTables(tables);
    }
    return pages;
  }

  #range(iova: bigint, bytes: number): PageRange {
    const aligned = iova % 4096n === 0n && bytes % PAGE_BYTES === 0;
    if (!aligned || bytes <= 0 || iova < 0n || iova + BigInt(bytes) - 1n > this.aperture.last) {
      throw new Errno('EINVAL', `map of ${bytes} bytes at IOVA 0x${iova.toString(16)}`);
    }
    return { start: Number(iova / 4096n), pages: bytes / PAGE_BYTES };
  }
}

function describeLeaves(leaves: Leaves): string {
  const shown: readonly (readonly [number, string])[] = [
    [leaves.size1G, '1G'],
    [leaves.size2M, '2M'],
    [leaves.size4K, '4K'],
  ];
  return shown
    .filter(([count]) => count > 0)
    .map(([count, size]) => `${count}x${size}`)
    .join(' ');
}
