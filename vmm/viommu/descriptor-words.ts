import type { Descriptor } from '../../devices/spec/vtd/invalidation.ts';
import {
  ccDesc,
  devTlbDesc,
  iecDesc,
  iotlbDesc,
  pageGroupRespDesc,
  pasidCacheDesc,
  pasidDevTlbDesc,
  pasidIotlbDesc,
  waitDesc,
} from '../../devices/spec/vtd/invalidation.ts';

/** The words of a descriptor as the guest wrote them, from its decoded form (for traces). */
export function descriptorWords(d: Descriptor): BigUint64Array {
  switch (d.type) {
    case 'cc':
      return ccDesc(d);
    case 'iotlb':
      return iotlbDesc(d);
    case 'dev_tlb':
      return devTlbDesc(d);
    case 'iec':
      return iecDesc(d);
    case 'inv_wait':
      return waitDesc(d);
    case 'p_iotlb':
      return pasidIotlbDesc(d);
    case 'pc':
      return pasidCacheDesc(d);
    case 'p_dev_tlb':
      return pasidDevTlbDesc(d);
    case 'pgrp':
      return pageGroupRespDesc(d);
    case 'invalid':
      return new BigUint64Array(4);
  }
}
