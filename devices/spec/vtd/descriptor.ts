/** Invalidation queue descriptors as values. */

import type { AtsRange } from './ats-range.ts';

/** Context-cache invalidation. */
export interface CcDescriptor {
  readonly type: 'cc';
  /** One of CC_GRANULARITY. */
  readonly granularity: number;
  readonly did: number;
  readonly sid: number;
  /** Function mask 0 to 3: compares all, or ignores function bits 2, 2:1, 2:0. */
  readonly fm: number;
}

/** IOTLB invalidation. */
export interface IotlbDescriptor {
  readonly type: 'iotlb';
  /** One of IOTLB_GRANULARITY. */
  readonly granularity: number;
  readonly did: number;
  readonly drainWrites: boolean;
  readonly drainReads: boolean;
  /** Address mask: 2^am pages. */
  readonly am: number;
  /** Invalidation hint: paging-structure caches may be kept. */
  readonly ih: boolean;
  readonly address: number;
}

/** Device-TLB invalidation of mappings made by requests without a PASID. */
export interface DevTlbDescriptor extends AtsRange {
  readonly type: 'dev_tlb';
  readonly sid: number;
  readonly pfsid: number;
  /** Maximum invalidations pending (queue depth of the device). */
  readonly mip: number;
}

/** Interrupt-entry-cache invalidation. */
export interface IecDescriptor {
  readonly type: 'iec';
  /** One of IEC_GRANULARITY. */
  readonly granularity: number;
  /** Index mask: the low `im` bits of the index are ignored. */
  readonly im: number;
  readonly index: number;
}

/** Invalidation wait. */
export interface WaitDescriptor {
  readonly type: 'inv_wait';
  /** IF: raise the invalidation-completion event. */
  readonly interrupt: boolean;
  /** SW: write `statusData` to `statusAddress`. */
  readonly statusWrite: boolean;
  /** FN: later descriptors start only after this one. */
  readonly fence: boolean;
  /** PD: complete behind page requests already received. */
  readonly drainPageRequests: boolean;
  readonly statusData: number;
  /** Byte address, a multiple of 4. */
  readonly statusAddress: number;
}

/** PASID-based IOTLB invalidation. */
export interface PasidIotlbDescriptor {
  readonly type: 'p_iotlb';
  /** One of PASID_IOTLB_GRANULARITY. */
  readonly granularity: number;
  readonly did: number;
  readonly pasid: number;
  /** Address mask: 2^am pages. */
  readonly am: number;
  /** Invalidation hint: paging-structure caches may be kept. */
  readonly ih: boolean;
  readonly address: number;
}

/** PASID-cache invalidation. */
export interface PasidCacheDescriptor {
  readonly type: 'pc';
  /** One of PASID_CACHE_GRANULARITY. */
  readonly granularity: number;
  readonly did: number;
  readonly pasid: number;
}

/** Device-TLB invalidation of mappings made with a PASID. */
export interface PasidDevTlbDescriptor extends AtsRange {
  readonly type: 'p_dev_tlb';
  readonly sid: number;
  readonly pasid: number;
  readonly pfsid: number;
  /** Maximum invalidations pending (queue depth of the device). */
  readonly mip: number;
  /** GI: all PASIDs of the function. */
  readonly global: boolean;
}

/** Page group response. */
export interface PageGroupResponseDescriptor {
  readonly type: 'pgrp';
  readonly rid: number;
  readonly pasid: number;
  readonly pasidPresent: boolean;
  /** Response code: one of RESPONSE. */
  readonly code: number;
  readonly prgi: number;
  /** Set by Linux; ignored by hardware. */
  readonly last: boolean;
}

/** A descriptor that stops the queue: IQEI 3 for `type`, 4 for `reserved`. */
export interface InvalidDescriptor {
  readonly type: 'invalid';
  readonly reason: 'type' | 'reserved';
}

export type ValidDescriptor =
  | CcDescriptor
  | IotlbDescriptor
  | DevTlbDescriptor
  | IecDescriptor
  | WaitDescriptor
  | PasidIotlbDescriptor
  | PasidCacheDescriptor
  | PasidDevTlbDescriptor
  | PageGroupResponseDescriptor;

export type Descriptor = ValidDescriptor | InvalidDescriptor;
