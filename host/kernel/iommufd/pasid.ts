/** Which HWPT may go where once PASIDs are in play (iommufd_hwpt_pasid_compat, device.c). */

import { Errno } from '../errno.ts';
import { NO_PASID } from '../iommu/ops.ts';
import type { Hwpt } from './hw-pagetable.ts';

/** What the slots of a group are attached to; slot 0 is the RID. */
export type Slots = ReadonlyMap<number, { readonly hwpt: Hwpt }>;

/**
 * A PASID takes only HWPTs made with IOMMU_HWPT_ALLOC_PASID, and while a PASID is attached so must
 * be the RID's.
 *
 * @throws Errno EINVAL
 */
export function checkPasidCompat(slots: Slots, hwpt: Hwpt, pasid: number): void {
  if (pasid === NO_PASID) {
    if (hwpt.pasidCompat) return;
    const other = slots.keys().find((slot) => slot !== NO_PASID);
    if (other === undefined) return;
    const why = `without ALLOC_PASID, and PASID ${other} is attached`;
    throw new Errno('EINVAL', `HWPT ${hwpt.id} for the RID was made ${why}`);
  }
  const rid = slots.get(NO_PASID)?.hwpt;
  if (rid !== undefined && !rid.pasidCompat) {
    throw new Errno('EINVAL', `the RID has HWPT ${rid.id}, made without ALLOC_PASID`);
  }
  if (!hwpt.pasidCompat) {
    throw new Errno('EINVAL', `HWPT ${hwpt.id} for PASID ${pasid} was made without ALLOC_PASID`);
  }
}
