/**
 * Invalidation queue descriptors (VT-d specification, queued invalidation): encoders here, types,
 * layouts, decoding and printing re-exported from their own files.
 */

import { encodeRange } from './ats-range.ts';
import type {
  CcDescriptor,
  DevTlbDescriptor,
  IecDescriptor,
  IotlbDescriptor,
  PageGroupResponseDescriptor,
  PasidCacheDescriptor,
  PasidDevTlbDescriptor,
  PasidIotlbDescriptor,
  ValidDescriptor,
  WaitDescriptor,
} from './descriptor.ts';
import {
  ccLayout,
  DESCRIPTOR_TYPE,
  devTlbLayout,
  iecLayout,
  iotlbLayout,
  pageGroupResponseLayout,
  pasidCacheLayout,
  pasidDevTlbLayout,
  pasidIotlbLayout,
  waitLayout,
} from './descriptor-layout.ts';

export * from './ats-range.ts';
export * from './decode-descriptor.ts';
export * from './describe-descriptor.ts';
export type * from './descriptor.ts';
export * from './descriptor-layout.ts';

/** What an encoder takes: the named fields are required, the others default to 0 or false. */
type Options<D extends ValidDescriptor, Required extends keyof D> = Pick<D, Required> & {
  readonly [K in Exclude<keyof D, 'type' | Required>]?: D[K] | undefined;
};

/** Encodes a context-cache invalidation. All encoders throw RangeError naming a bad field. */
export function ccDesc(d: Options<CcDescriptor, 'granularity'>): BigUint64Array<ArrayBuffer> {
  const { granularity, did, sid, fm } = d;
  return ccLayout.encode({ TYPE: DESCRIPTOR_TYPE.CC, G: granularity, DID: did, SID: sid, FM: fm });
}

export function iotlbDesc(d: Options<IotlbDescriptor, 'granularity'>): BigUint64Array<ArrayBuffer> {
  return iotlbLayout.encode({
    TYPE: DESCRIPTOR_TYPE.IOTLB,
    G: d.granularity,
    DW: d.drainWrites,
    DR: d.drainReads,
    DID: d.did,
    AM: d.am,
    IH: d.ih,
    ADDR: d.address,
  });
}

/** Invalidates the 2^sizeLog2-byte range around `address` (default 0), or 'all'. */
export function devTlbDesc(
  d: Options<DevTlbDescriptor, 'sid' | 'sizeLog2'>,
): BigUint64Array<ArrayBuffer> {
  const range = encodeRange(d.address ?? 0, d.sizeLog2);
  return devTlbLayout.encode({
    TYPE: DESCRIPTOR_TYPE.DEV_TLB,
    PFSID_LO: (d.pfsid ?? 0) & 0xf,
    PFSID_HI: (d.pfsid ?? 0) >>> 4,
    MIP: d.mip,
    SID: d.sid,
    S: range.s,
    ADDR: range.address,
  });
}

export function iecDesc(d: Options<IecDescriptor, 'granularity'>): BigUint64Array<ArrayBuffer> {
  const { granularity, im, index } = d;
  return iecLayout.encode({ TYPE: DESCRIPTOR_TYPE.IEC, G: granularity, IM: im, IIDX: index });
}

export function waitDesc(d: Options<WaitDescriptor, never>): BigUint64Array<ArrayBuffer> {
  return waitLayout.encode({
    TYPE: DESCRIPTOR_TYPE.WAIT,
    IF: d.interrupt,
    SW: d.statusWrite,
    FN: d.fence,
    PD: d.drainPageRequests,
    DATA: d.statusData,
    ADDR: d.statusAddress,
  });
}

export function pasidIotlbDesc(
  d: Options<PasidIotlbDescriptor, 'granularity' | 'did' | 'pasid'>,
): BigUint64Array<ArrayBuffer> {
  return pasidIotlbLayout.encode({
    TYPE: DESCRIPTOR_TYPE.PASID_IOTLB,
    G: d.granularity,
    DID: d.did,
    PASID: d.pasid,
    AM: d.am,
    IH: d.ih,
    ADDR: d.address,
  });
}

export function pasidCacheDesc(
  d: Options<PasidCacheDescriptor, 'granularity'>,
): BigUint64Array<ArrayBuffer> {
  const { granularity, did, pasid } = d;
  const TYPE = DESCRIPTOR_TYPE.PASID_CACHE;
  return pasidCacheLayout.encode({ TYPE, G: granularity, DID: did, PASID: pasid });
}

/** Invalidates the 2^sizeLog2-byte range around `address` (default 0), or 'all', of a PASID. */
export function pasidDevTlbDesc(
  d: Options<PasidDevTlbDescriptor, 'sid' | 'pasid' | 'sizeLog2'>,
): BigUint64Array<ArrayBuffer> {
  const range = encodeRange(d.address ?? 0, d.sizeLog2);
  return pasidDevTlbLayout.encode({
    TYPE: DESCRIPTOR_TYPE.PASID_DEV_TLB,
    PFSID_LO: (d.pfsid ?? 0) & 0xf,
    PFSID_HI: (d.pfsid ?? 0) >>> 4,
    MIP: d.mip,
    SID: d.sid,
    PASID: d.pasid,
    GI: d.global,
    S: range.s,
    ADDR: range.address,
  });
}

/** Answers a page request group; one response per group, after its last request. */
export function pageGroupRespDesc(
  d: Options<PageGroupResponseDescriptor, 'rid' | 'code' | 'prgi'>,
): BigUint64Array<ArrayBuffer> {
  return pageGroupResponseLayout.encode({
    TYPE: DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE,
    PP: d.pasidPresent,
    RC: d.code,
    RID: d.rid,
    PASID: d.pasid,
    LPIG: d.last,
    PRGI: d.prgi,
  });
}
