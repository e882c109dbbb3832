/** Invalidation queue descriptors as bits (VT-d specification, queued invalidation). */

import { bitStruct } from '../bits.ts';

/** Descriptor type codes: qw0 bits 11:9 and 3:0. */
export const DESCRIPTOR_TYPE = {
  CC: 1,
  IOTLB: 2,
  DEV_TLB: 3,
  IEC: 4,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
  PASID_DEV_TLB: 8,
  PAGE_GROUP_RESPONSE: 9,
} as const;

export const CC_GRANULARITY = { GLOBAL: 1, DOMAIN: 2, DEVICE: 3 } as const;
export const IOTLB_GRANULARITY = { GLOBAL: 1, DOMAIN: 2, PAGE: 3 } as const;
export const IEC_GRANULARITY = { GLOBAL: 0, INDEX: 1 } as const;
export const PASID_IOTLB_GRANULARITY = { ALL: 2, PAGE: 3 } as const;
export const PASID_CACHE_GRANULARITY = { DOMAIN: 0, PASID: 1, GLOBAL: 3 } as const;

/** 128-bit descriptors occupy 16 bytes, 256-bit ones 32 (IQA.DW). */
export const DESCRIPTOR_BYTES = 32;

/** Type and reserved bits that every descriptor shares: qw2 and qw3 stay zero. */
const TYPE = { TYPE: [0, 3, 0], TYPE_HI: [0, 11, 9] } as const;

export const ccLayout = bitStruct(4, {
  ...TYPE,
  G: [0, 5, 4],
  DID: [0, 31, 16],
  SID: [0, 47, 32],
  FM: [0, 49, 48],
});

export const iotlbLayout = bitStruct(4, {
  ...TYPE,
  G: [0, 5, 4],
  DW: [0, 6, 6],
  DR: [0, 7, 7],
  DID: [0, 31, 16],
  AM: [1, 5, 0],
  IH: [1, 6, 6],
  ADDR: [1, 63, 12, 'address'],
});

export const devTlbLayout = bitStruct(4, {
  ...TYPE,
  PFSID_LO: [0, 15, 12],
  MIP: [0, 20, 16],
  SID: [0, 47, 32],
  PFSID_HI: [0, 63, 52],
  S: [1, 0, 0],
  ADDR: [1, 63, 12, 'address'],
});

export const iecLayout = bitStruct(4, {
  ...TYPE,
  G: [0, 4, 4],
  IM: [0, 31, 27],
  IIDX: [0, 47, 32],
});

export const waitLayout = bitStruct(4, {
  ...TYPE,
  IF: [0, 4, 4],
  SW: [0, 5, 5],
  FN: [0, 6, 6],
  PD: [0, 7, 7],
  DATA: [0, 63, 32],
  ADDR: [1, 63, 2, 'address'],
});

export const pasidIotlbLayout = bitStruct(4, {
  ...TYPE,
  G: [0, 5, 4],
  DID: [0, 31, 16],
  PASID: [0, 51, 32],
  AM: [1, 5, 0],
  IH: [1, 6, 6],
  ADDR: [1, 63, 12, 'address'],
});

export const pasidCacheLayout = bitStruct(4, {
  ...TYPE,
  G: [0, 5, 4],
  DID: [0, 31, 16],
  PASID: [0, 51, 32],
});

export const pasidDevTlbLayout = bitStruct(4, {
  ...TYPE,
  MIP: [0, 8, 4],
  PFSID_LO: [0, 15, 12],
  SID: [0, 31, 16],
  PASID: [0, 51, 32],
  PFSID_HI: [0, 63, 52],
  GI: [1, 0, 0],
  S: [1, 11, 11],
  ADDR: [1, 63, 12, 'address'],
});

export const pageGroupResponseLayout = bitStruct(4, {
  ...TYPE,
  PP: [0, 4, 4],
  RC: [0, 15, 12],
  RID: [0, 31, 16],
  PASID: [0, 51, 32],
  LPIG: [1, 2, 2],
  PRGI: [1, 11, 3],
});
