/**
 * The seam between the iommu core, its drivers (intel, mock) and its users (iommufd, vfio):
 * struct iommu_ops, iommu_domain_ops, iommu_domain, iopf_fault (include/linux/iommu.h).
 */
import type { Task } from '../../syscall.ts';

export const NO_PASID = 0;

export type DomainType = 'blocked' | 'identity' | 'paging' | 'nested';

/** Protection bits of a mapping (IOMMU_READ, IOMMU_WRITE). */
export const PROT = { READ: 1, WRITE: 2 } as const;

/** Driver-side flags of domain allocation: the uAPI's IOMMU_HWPT_ALLOC_* bits. */
export interface IommuDomain {
  readonly type: DomainType;
  /** The HWPT it belongs to, for a domain that iommufd made (domain->iommufd_hwpt). */
  iommufdHwpt?: { readonly id: number };
  /** What traces call it, such as `nested#3`; its type where the driver gives no name. */
  readonly label?: string;
  readonly ops: IommuDomainOps;
  readonly owner: IommuOps;
  /** Page sizes as a bitmap (bit n: 2^n bytes). Paging domains. */
  readonly pageSizes: number;
  /** Inclusive IOVA range. */
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  /** Only of domains made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING (struct iommu_dirty_ops). */
  readonly dirtyOps?: DirtyOps;
  /** Set by iommufd on a domain whose faults it wants. Called in the fault thread. */
  faultHandler: ((group: FaultGroup) => Task<number>) | null;
}

/** Dirty page tracking of one domain (struct iommu_dirty_ops). */
export interface DirtyOps {
  /** Turns tracking on or off. Errno: what the driver says; then it is as it was. */
  setDirtyTracking(domain: IommuDomain, enable: boolean): Task;
  /**
   * Reports every dirty leaf that meets `[iova, iova + bytes)` to `record` (null: nobody wants to
   * know) and, with `clear`, clears its dirty bits and flushes what is cached of them before it
   * returns. Errno EINVAL: somebody wants to know, and tracking is off.
   */
  readAndClearDirty(
    domain: IommuDomain,
    iova: bigint,
    bytes: bigint,
    clear: boolean,
    record: DirtyRecord | null,
  ): Task;
}

/** A run of dirty bytes: iommu_dirty_bitmap_record. */
export type DirtyRecord = (iova: bigint, bytes: bigint) => void;

/** All may throw Errno; what they say of undo is part of the contract. */
export interface IommuDomainOps {
  /** RID attach. On throw the device is where it was, or blocked where the driver cannot avoid it. */
  attachDev?(domain: IommuDomain, dev: IommuDev, old: IommuDomain): Task;
  /** PASID attach (`old` null) or replace. On throw `old` is still in force for the PASID. */
  setDevPasid?(domain: IommuDomain, dev: IommuDev, pasid: number, old: IommuDomain | null): Task;
  /** Maps physically contiguous bytes; all or nothing. Bytes: multiples of 4096. */
  map?(domain: IommuDomain, iova: bigint, paddr: number, bytes: number, prot: number): Task;
  /** Unmaps whole leaves in the range and flushes before it returns; returns the bytes unmapped. */
  unmap?(domain: IommuDomain, iova: bigint, bytes: bigint): Task<bigint>;
  /** Physical address behind `iova`, or -1. */
  iovaToPhys?(domain: IommuDomain, iova: bigint): number;
  /**
   * From now on all DMA through the domain is cache coherent, whatever the device asks for. Before
   * the first `map`. False: it cannot be.
   */
  enforceCacheCoherency?(domain: IommuDomain): boolean;
  /** IOMMU_HWPT_INVALIDATE on a nested domain: see UserArray. */
  cacheInvalidateUser?(domain: IommuDomain, array: UserArray): Task;
  free(domain: IommuDomain): void;
}

/** The driver-data payload of HWPT_ALLOC: type and bytes already copied from the caller. */
export interface UserData {
  readonly type: number;
  readonly bytes: Uint8Array;
  /**
   * Copies a payload back to where it came from (iommu_copy_struct_to_user). Errno EINVAL: the
   * caller stated less than `minBytes` or more than `bytes.length`; EFAULT.
   */
  respond?(bytes: Uint8Array, minBytes: number): void;
}

/** The entries of HWPT_INVALIDATE. `done` is what the driver has completed, kept even on a throw. */
export interface UserArray {
  readonly type: number;
  readonly entryLength: number;
  readonly entryCount: number;
  /** Copies entry `index` (throws EFAULT, EINVAL for a bad length; short ones read as zero). */
  entry(index: number, minBytes: number, bytes: number): Uint8Array;
  /**
   * As `entry`, by the looser rule of vIOMMU arrays (iommu_copy_struct_from_full_user_array): any
   * entry length, short ones read as zero. Errno E2BIG: something in the part beyond `bytes`.
   */
  looseEntry?(index: number, bytes: number): Uint8Array;
  done: number;
}

/** Part of a physical IOMMU in a user's hands (struct iommufd_viommu); iommufd's VIOMMU object. */
export interface Viommu {
  /** The uAPI's IOMMU_VIOMMU_TYPE_*. */
  readonly type: number;
  /** The nest parent's domain. */
  readonly parent: IommuDomain;
  /** Set by `viommuInit`; nothing is supported without. */
  ops: ViommuOps | null;
  /** The driver's own state. */
  priv: unknown;
  /** The virtual device with that id (iommufd_viommu_find_dev), or null. */
  findVdevice(virtId: bigint): Vdevice | null;
  /** The virtual id of a device (iommufd_viommu_get_vdev_id). Errno ENOENT: it has none here. */
  virtIdOf(dev: IommuDev): bigint;
  /**
   * Queues an event for the user (iommufd_viommu_report_event); a full queue counts it as lost.
   * Errno EINVAL: an empty payload; EOPNOTSUPP: no queue of that type; ENOMEM.
   */
  reportEvent(type: number, payload: Uint8Array): void;
  /**
   * Lets the user map physical memory through the iommufd (iommufd_viommu_alloc_mmap); `bytes` in
   * whole pages. The owner cannot be destroyed while it is mapped. Returns the file offset. Errno
   * ENOMEM.
   */
  allocMmap(physicalAddress: number, bytes: number): number;
  /** Takes the range back (iommufd_viommu_destroy_mmap). */
  destroyMmap(offset: number): void;
}

/** A device as the guest knows it (struct iommufd_vdevice). */
export interface Vdevice {
  readonly virtId: bigint;
  readonly dev: IommuDev;
  readonly viommu: Viommu;
  /** The driver's own state. */
  priv: unknown;
}

/** A queue of a vIOMMU in guest memory that the hardware reads (struct iommufd_hw_queue). */
export interface HwQueue {
  /** The uAPI's IOMMU_HW_QUEUE_TYPE_*. */
  readonly type: number;
  readonly viommu: Viommu;
  /** Guest physical address of its first byte, in the nest parent. */
  readonly baseIova: bigint;
  readonly bytes: bigint;
  /** The driver's own state. */
  priv: unknown;
  /** Keeps `other` alive as long as this one (iommufd_hw_queue_depend). Errno EINVAL: not of one vIOMMU. */
  depend(other: HwQueue): void;
  undepend(other: HwQueue): void;
}

/** struct iommufd_viommu_ops; what is missing is EOPNOTSUPP. */
export interface ViommuOps {
  destroy?(viommu: Viommu): void;
  /** A guest's table through the vIOMMU. Errno: what the driver says. */
  allocDomainNested?(viommu: Viommu, flags: number, data: UserData): IommuDomain;
  cacheInvalidate?(viommu: Viommu, array: UserArray): Task;
  vdeviceInit?(vdevice: Vdevice): void;
  vdeviceDestroy?(vdevice: Vdevice): void;
  /** Whether there are queues of that type (get_hw_queue_size). */
  hasHwQueue?(viommu: Viommu, type: number): boolean;
  /** @param physicalAddress of the queue's first byte; its pages are contiguous and stay pinned */
  hwQueueInit?(queue: HwQueue, index: number, physicalAddress: number): void;
  hwQueueDestroy?(queue: HwQueue): void;
}

export interface HwInfo {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/**
 * What a device's IOMMU can do (enum iommu_cap): track dirty pages; DMA that is coherent with the
 * caches of CPUs, and to make it so where the device asks for DMA that is not; answer ATS; keep its
 * interrupts apart from those of others (iommu_group_has_isolated_msi).
 */
export type Capability = 'dirty' | 'coherency' | 'enforce-coherency' | 'ats' | 'isolated-msi';

export interface IommuOps {
  readonly name: string;
  /**
   * The RID's domain may hold a PASID table of the guest, so a fault with a PASID that nobody
   * attached goes to the nested domain of the RID (iommu_ops.user_pasid_table). Not VT-d.
   */
  readonly userPasidTable?: boolean;
  readonly blockedDomain: IommuDomain;
  readonly identityDomain: IommuDomain | null;
  /** `requested` is the uAPI in_data_type; throws EOPNOTSUPP for one it has not. */
  hwInfo?(dev: IommuDev, requested: number): HwInfo;
  capable(dev: IommuDev, capability: Capability): boolean;
  /** Sets up per-device state: PASID table, context entry, PASID/ATS/PRI capabilities. */
  probeDevice(dev: IommuDev): Task;
  releaseDevice(dev: IommuDev): Task;
  domainAllocPaging(dev: IommuDev, flags: number, data: UserData | null): IommuDomain;
  domainAllocNested?(
    dev: IommuDev,
    parent: IommuDomain,
    flags: number,
    data: UserData,
  ): IommuDomain;
  /** Inclusive reserved IOVA ranges of the device (the MSI window, RMRRs). */
  reservedRegions(dev: IommuDev): readonly { readonly start: bigint; readonly last: bigint }[];
  pageResponse?(dev: IommuDev, fault: Fault, code: ResponseCode): Task;
  /** The physical IOMMU of a device, to compare; without it all devices of the driver share one. */
  unitOf?(dev: IommuDev): object;
  /** Whether the unit of `dev` offers vIOMMUs of that type (get_viommu_size). */
  hasViommu?(dev: IommuDev, type: number): boolean;
  /** Sets `viommu.ops`. Errno: what the driver says; then nothing is to be destroyed. */
  viommuInit?(viommu: Viommu, dev: IommuDev, data: UserData | null): void;
}

/** Page response codes: the uAPI's two, and the kernel's FAILURE. */
export const RESPONSE = { SUCCESS: 0, INVALID: 1, FAILURE: 0xf } as const;
export type ResponseCode = (typeof RESPONSE)[keyof typeof RESPONSE];

/** One page request (struct iopf_fault). `perm`: R 1, W 2, X 4, PRIV 8 as in the uAPI. */
export interface Fault {
  readonly pasidValid: boolean;
  readonly pasid: number;
  readonly grpid: number;
  readonly last: boolean;
  readonly perm: number;
  /** Page address. */
  readonly address: bigint;
}

/** All requests of one page request group, the last one last, for one attachment. */
export interface FaultGroup {
  readonly dev: IommuDev;
  readonly handle: AttachHandle;
  readonly faults: readonly Fault[];
}

/** struct iommu_attach_handle: who attached, for the fault path. */
export interface AttachHandle {
  domain: IommuDomain;
}

/** A device behind an IOMMU, as the core knows it (struct dev_iommu). The core creates it. */
export interface IommuDev {
  readonly name: string;
  readonly rid: number;
  readonly ops: IommuOps;
  /** min(2^PASID width, what the unit takes); 0 without PASID. */
  maxPasids: number;
  /** The driver's own state. */
  priv: unknown;
}
