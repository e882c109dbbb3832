/** Printable invalidation descriptors, under the type names Linux's qi_submit tracepoint prints. */

import { hex } from '../bits.ts';
import { ridToString } from '../pci.ts';
import type { AtsRange } from './ats-range.ts';
import type { Descriptor } from './descriptor.ts';
import { responseName } from './page-request.ts';

/** Type names as Linux prints them in its intel_iommu tracepoints. */
export const DESCRIPTOR_NAMES = {
  cc: 'cc_inv',
  iotlb: 'iotlb_inv',
  dev_tlb: 'dev_tlb_inv',
  iec: 'iec_inv',
  inv_wait: 'inv_wait',
  p_iotlb: 'p_iotlb_inv',
  pc: 'pc_inv',
  p_dev_tlb: 'p_dev_tlb_inv',
  pgrp: 'page_grp_resp',
  invalid: 'invalid',
} as const satisfies Record<Descriptor['type'], string>;

const CC_NAMES = ['reserved', 'global', 'domain', 'device'] as const;
const IOTLB_NAMES = ['reserved', 'global', 'domain', 'page'] as const;
const PASID_IOTLB_NAMES = ['reserved', 'reserved', 'pasid', 'page'] as const;
const PASID_CACHE_NAMES = ['domain', 'pasid', 'reserved', 'global'] as const;

function formatRange(range: AtsRange): string {
  if (range.sizeLog2 === 'all') return 'all';
  return `${hex(range.address)}+${hex(2 ** range.sizeLog2)}`;
}

function formatPages(d: { address: number; am: number; ih: boolean }): string {
  return `${hex(d.address)} am=${d.am}${d.ih ? ' IH' : ''}`;
}

function flags(shown: Readonly<Record<string, boolean>>): string {
  return Object.entries(shown)
    .filter(([, on]) => on)
    .map(([name]) => name)
    .join(' ');
}

function details(d: Descriptor): readonly string[] {
  switch (d.type) {
    case 'cc': {
      const target = d.granularity === 3 ? `sid=${ridToString(d.sid)}` : '';
      return [CC_NAMES[d.granularity]!, d.granularity > 1 ? `did=${d.did}` : '', target];
    }
    case 'iotlb':
      return [
        IOTLB_NAMES[d.granularity]!,
        d.granularity > 1 ? `did=${d.did}` : '',
        d.granularity === 3 ? formatPages(d) : '',
        flags({ DR: d.drainReads, DW: d.drainWrites }),
      ];
    case 'dev_tlb':
      return [`sid=${ridToString(d.sid)}`, formatRange(d)];
    case 'iec':
      return d.granularity === 0 ? ['global'] : [`index=${d.index} im=${d.im}`];
    case 'inv_wait':
      return [
        flags({ IF: d.interrupt, SW: d.statusWrite, FN: d.fence, PD: d.drainPageRequests }),
        d.statusWrite ? `${hex(d.statusData)} -> ${hex(d.statusAddress)}` : '',
      ];
    case 'p_iotlb':
      return [
        PASID_IOTLB_NAMES[d.granularity]!,
        `did=${d.did} pasid=${d.pasid}`,
        d.granularity === 3 ? formatPages(d) : '',
      ];
    case 'pc':
      return [
        PASID_CACHE_NAMES[d.granularity]!,
        d.granularity === 3 ? '' : `did=${d.did}`,
        d.granularity === 1 ? `pasid=${d.pasid}` : '',
      ];
    case 'p_dev_tlb':
      return [
        `sid=${ridToString(d.sid)}`,
        d.global ? 'pasid=all' : `pasid=${d.pasid}`,
        formatRange(d),
      ];
    case 'pgrp':
      return [
        responseName(d.code),
        `rid=${ridToString(d.rid)}`,
        d.pasidPresent ? `pasid=${d.pasid}` : '',
        `prgi=${d.prgi}`,
      ];
    case 'invalid':
      return [d.reason];
  }
}

/** `p_iotlb_inv page did=1 pasid=5 0x7f0000001000 am=0`: one line for traces. */
export function describeDescriptor(d: Descriptor): string {
  return [DESCRIPTOR_NAMES[d.type], ...details(d)].filter((part) => part !== '').join(' ');
}
