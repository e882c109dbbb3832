/** Nested domains: a guest's first stage on a second stage (drivers/iommu/intel/nested.c). */

import type { Task } from '../../syscall.ts';
import {
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_VTD_INV_FLAGS_LEAF,
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
} from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { IommuDomainOps, IommuOps, UserArray } from '../iommu/ops.ts';
import type { PageRange } from './cache.ts';
import { CacheTags, EVERYTHING } from './cache.ts';
import type { IntelDevice } from './device.ts';
import type { FaultHandler, IntelDomain, TaggedDomain } from './domain.ts';
import type { PagingDomain } from './paging.ts';
import { acquireTags, releaseTags } from './paging.ts';
import type { EntryWords, GuestFirstStage } from './pasid-entry.ts';
import { nestedEntry } from './pasid-entry.ts';
import type { IntelUnit } from './unit.ts';

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * The payload of HWPT_ALLOC. Flags are looked at when attached. Errno EINVAL: it has another length
 * than the structure, whose first version is the only one.
 */
export function readFirstStage(bytes: Uint8Array): GuestFirstStage {
  const { size } = iommu_hwpt_vtd_s1;
  if (bytes.length !== size) {
    throw new Errno('EINVAL', `${bytes.length} bytes of iommu_hwpt_vtd_s1, which has ${size}`);
  }
  return iommu_hwpt_vtd_s1.read(new DataView(bytes.buffer, bytes.byteOffset, size));
}

/** One guest first-stage table. It has a domain id of its own on each unit it is attached to. */
export class NestedDomain implements IntelDomain, TaggedDomain {
  readonly type = 'nested';
  readonly label: string;
  readonly ops: IommuDomainOps;
  readonly owner: IommuOps;
  readonly pageSizes = 0;
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly parent: PagingDomain;
  readonly firstStage: GuestFirstStage;
  readonly tags: CacheTags;
  faultHandler: FaultHandler = null;

  constructor(
    owner: IommuOps,
    ops: IommuDomainOps,
    label: string,
    parent: PagingDomain,
    firstStage: GuestFirstStage,
  ) {
    this.owner = owner;
    this.ops = ops;
    this.label = label;
    this.parent = parent;
    this.firstStage = firstStage;
    this.tags = new CacheTags(label, true);
    this.aperture = { start: 0n, last: U64_MAX };
  }

  acquire(device: IntelDevice, pasid: number): void {
    this.parent.requireCompatible(device.unit);
    using undo = new DisposableStack();
    const did = acquireTags(this, device, pasid);
    undo.defer(() => releaseTags(this, device, pasid));
    // A change of the parent's table concerns what is cached of this domain too.
    const { tags } = this.parent;
    tags.assign('NESTING_IOTLB', device, did, pasid);
    undo.defer(() => tags.unassign('NESTING_IOTLB', device, did, pasid));
    if (device.atsEnabled) tags.assign('NESTING_DEVTLB', device, did, pasid);
    this.parent.dirty.attached({ device, pasid, did });
    undo.move();
  }

  release(device: IntelDevice, pasid: number): void {
    const did = device.unit.domainIds.of(this);
    if (did === undefined) return;
    this.parent.dirty.detached(device, pasid, did);
    if (device.atsEnabled) this.parent.tags.unassign('NESTING_DEVTLB', device, did, pasid);
    this.parent.tags.unassign('NESTING_IOTLB', device, did, pasid);
    releaseTags(this, device, pasid);
  }

  entry(unit: IntelUnit): EntryWords {
    const did = unit.domainIds.of(this)!;
    return nestedEntry(unit, this.firstStage, this.parent.secondStage, did);
  }

  /**
   * IOMMU_HWPT_INVALIDATE: drops what is cached of the guest's table, under the host's domain id and
   * in every device and PASID it is attached to. Ends at the first bad entry; those before are done.
   *
   * Errno EINVAL: another data type, an address that is not page aligned, or "all" with an address.
   * EOPNOTSUPP: unknown flags, or the reserved field is not 0.
   */
  *invalidate(array: UserArray): Task {
    if (array.type !== IOMMU_HWPT_INVALIDATE_DATA_VTD_S1) {
      throw new Errno('EINVAL', `invalidation data of type ${array.type} on a VT-d first stage`);
    }
    const { size } = iommu_hwpt_vtd_s1_invalidate;
    array.done = 0;
    for (let index = 0; index < array.entryCount; index++) {
      const bytes = array.entry(index, size, size);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const { addr, npages, flags, __reserved } = iommu_hwpt_vtd_s1_invalidate.read(view);
      if ((flags & ~IOMMU_VTD_INV_FLAGS_LEAF) !== 0 || __reserved !== 0) {
        throw new Errno('EOPNOTSUPP', `entry ${index}: flags ${flags}, reserved ${__reserved}`);
      }
      if (addr % 4096n !== 0n || (npages === U64_MAX && addr !== 0n)) {
        throw new Errno('EINVAL', `entry ${index}: ${npages} pages at 0x${addr.toString(16)}`);
      }
      yield* this.tags.flushRange(rangeOf(addr, npages), (flags & IOMMU_VTD_INV_FLAGS_LEAF) !== 0);
      array.done++;
    }
  }
}

function rangeOf(addr: bigint, npages: bigint): PageRange {
  const start = addr / 4096n;
  // A range past the end of the address space can only be meant to reach the end.
  if (npages === U64_MAX || start + npages > 2n ** 52n) return EVERYTHING;
  return { start: Number(start), pages: Number(npages) };
}
