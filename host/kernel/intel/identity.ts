import type { IommuDomainOps, IommuOps } from '../iommu/ops.ts';
import type { FaultHandler, IntelDomain } from './domain.ts';
import type { EntryWords } from './pasid-entry.ts';
import { passThroughEntry } from './pasid-entry.ts';
import type { IntelUnit } from './unit.ts';

/** DMA addresses are physical addresses. One for all devices; it has no tables and no tags. */
export class IdentityDomain implements IntelDomain {
  readonly type = 'identity';
  readonly label = 'identity';
  readonly ops: IommuDomainOps;
  readonly owner: IommuOps;
  readonly pageSizes = 0;
  readonly aperture = { start: 0n, last: 0xffff_ffff_ffff_ffffn };
  faultHandler: FaultHandler = null;

  constructor(owner: IommuOps, ops: IommuDomainOps) {
    this.owner = owner;
    this.ops = ops;
  }

  acquire(): void {
    // Every pass-through entry has the same, reserved domain id, and nothing to flush ever changes.
  }

  release(): void {
    // See acquire.
  }

  entry(unit: IntelUnit): EntryWords {
    return passThroughEntry(unit);
  }
}
