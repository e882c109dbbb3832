/** Decoding of invalidation queue descriptors, with the checks a unit makes. */

import type { Words } from '../bits.ts';
import { decodeRange } from './ats-range.ts';
import type { Descriptor, InvalidDescriptor } from './descriptor.ts';
import {
  ccLayout,
  DESCRIPTOR_TYPE,
  devTlbLayout,
  IOTLB_GRANULARITY,
  iecLayout,
  iotlbLayout,
  PASID_IOTLB_GRANULARITY,
  pageGroupResponseLayout,
  pasidCacheLayout,
  pasidDevTlbLayout,
  pasidIotlbLayout,
  waitLayout,
} from './descriptor-layout.ts';

/** What a unit supports, as 0 or 1, from CAP and ECAP: it decides which descriptors are valid. */
export interface DescriptorSupport {
  readonly PSI: number;
  readonly MAMV: number;
  readonly DT: number;
  readonly DIT: number;
  readonly PRS: number;
  readonly PDS: number;
}

const FULL_SUPPORT: DescriptorSupport = { PSI: 1, MAMV: 63, DT: 1, DIT: 1, PRS: 1, PDS: 1 };

const BAD_TYPE: InvalidDescriptor = { type: 'invalid', reason: 'type' };
const RESERVED: InvalidDescriptor = { type: 'invalid', reason: 'reserved' };

type Decoder = (words: Words, support: DescriptorSupport) => Descriptor;

const decodeCc: Decoder = (words) => {
  const f = ccLayout.decode(words);
  if (ccLayout.hasReserved(words) || f.G === 0) return RESERVED;
  return { type: 'cc', granularity: f.G, did: f.DID, sid: f.SID, fm: f.FM };
};

const decodeIotlb: Decoder = (words, support) => {
  const f = iotlbLayout.decode(words);
  if (iotlbLayout.hasReserved(words) || f.G === 0) return RESERVED;
  const isPage = f.G === IOTLB_GRANULARITY.PAGE;
  if (isPage && (support.PSI === 0 || f.AM > support.MAMV)) return RESERVED;
  return {
    type: 'iotlb',
    granularity: f.G,
    did: f.DID,
    drainWrites: f.DW === 1,
    drainReads: f.DR === 1,
    am: f.AM,
    ih: f.IH === 1,
    address: f.ADDR,
  };
};

const decodeDevTlb: Decoder = (words, support) => {
  if (support.DT === 0) return BAD_TYPE;
  const f = devTlbLayout.decode(words);
  const pfsid = (f.PFSID_HI << 4) | f.PFSID_LO;
  if (devTlbLayout.hasReserved(words) || (support.DIT === 0 && pfsid !== 0)) return RESERVED;
  const range = decodeRange(words[1] ?? 0n, f.S);
  return { type: 'dev_tlb', sid: f.SID, pfsid, mip: f.MIP, ...range };
};

const decodeIec: Decoder = (words) => {
  const f = iecLayout.decode(words);
  if (iecLayout.hasReserved(words)) return RESERVED;
  return { type: 'iec', granularity: f.G, im: f.IM, index: f.IIDX };
};

const decodeWait: Decoder = (words, support) => {
  const f = waitLayout.decode(words);
  if (waitLayout.hasReserved(words) || (f.PD === 1 && support.PDS === 0)) return RESERVED;
  return {
    type: 'inv_wait',
    interrupt: f.IF === 1,
    statusWrite: f.SW === 1,
    fence: f.FN === 1,
    drainPageRequests: f.PD === 1,
    statusData: f.DATA,
    statusAddress: f.ADDR,
  };
};

const decodePasidIotlb: Decoder = (words) => {
  const f = pasidIotlbLayout.decode(words);
  if (pasidIotlbLayout.hasReserved(words) || f.G < PASID_IOTLB_GRANULARITY.ALL) return RESERVED;
  return {
    type: 'p_iotlb',
    granularity: f.G,
    did: f.DID,
    pasid: f.PASID,
    am: f.AM,
    ih: f.IH === 1,
    address: f.ADDR,
  };
};

const decodePasidCache: Decoder = (words) => {
  const f = pasidCacheLayout.decode(words);
  if (pasidCacheLayout.hasReserved(words) || f.G === 2) return RESERVED;
  return { type: 'pc', granularity: f.G, did: f.DID, pasid: f.PASID };
};

const decodePasidDevTlb: Decoder = (words, support) => {
  if (support.DT === 0) return BAD_TYPE;
  const f = pasidDevTlbLayout.decode(words);
  const pfsid = (f.PFSID_HI << 4) | f.PFSID_LO;
  if (pasidDevTlbLayout.hasReserved(words) || (support.DIT === 0 && pfsid !== 0)) return RESERVED;
  const range = decodeRange(words[1] ?? 0n, f.S);
  const global = f.GI === 1;
  return { type: 'p_dev_tlb', sid: f.SID, pasid: f.PASID, pfsid, mip: f.MIP, global, ...range };
};

const decodePageGroupResponse: Decoder = (words, support) => {
  if (support.PRS === 0) return BAD_TYPE;
  const f = pageGroupResponseLayout.decode(words);
  if (pageGroupResponseLayout.hasReserved(words)) return RESERVED;
  return {
    type: 'pgrp',
    rid: f.RID,
    pasid: f.PASID,
    pasidPresent: f.PP === 1,
    code: f.RC,
    prgi: f.PRGI,
    last: f.LPIG === 1,
  };
};

const DECODERS: Readonly<Record<number, Decoder>> = {
  [DESCRIPTOR_TYPE.CC]: decodeCc,
  [DESCRIPTOR_TYPE.IOTLB]: decodeIotlb,
  [DESCRIPTOR_TYPE.DEV_TLB]: decodeDevTlb,
  [DESCRIPTOR_TYPE.IEC]: decodeIec,
  [DESCRIPTOR_TYPE.WAIT]: decodeWait,
  [DESCRIPTOR_TYPE.PASID_IOTLB]: decodePasidIotlb,
  [DESCRIPTOR_TYPE.PASID_CACHE]: decodePasidCache,
  [DESCRIPTOR_TYPE.PASID_DEV_TLB]: decodePasidDevTlb,
  [DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE]: decodePageGroupResponse,
};

/** The 7-bit descriptor type: qw0 bits 11:9 above bits 3:0. */
export function descriptorType(words: Words): number {
  const qw0 = words[0] ?? 0n;
  return Number(((qw0 >> 5n) & 0x70n) | (qw0 & 0xfn));
}

/**
 * Decodes one descriptor of 2 or 4 words and checks it as the unit does: unknown type or a type
 * the unit lacks gives reason `type`; a reserved bit, an invalid granularity, or a field the unit
 * lacks gives `reserved`. Without `support` everything is taken as supported.
 */
export function decodeDescriptor(
  words: Words,
  support: DescriptorSupport = FULL_SUPPORT,
): Descriptor {
  const decode = DECODERS[descriptorType(words)];
  return decode === undefined ? BAD_TYPE : decode(words, support);
}
