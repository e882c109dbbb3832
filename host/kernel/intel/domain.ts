import type { Task } from '../../syscall.ts';
import type { DomainType, FaultGroup, IommuDomain } from '../iommu/ops.ts';
import type { CacheTags } from './cache.ts';
import type { IntelDevice } from './device.ts';
import type { EntryWords } from './pasid-entry.ts';
import type { IntelUnit } from './unit.ts';

/** A domain that takes a domain id of the unit and has cache tags. */
export interface TaggedDomain extends IommuDomain {
  readonly label: string;
  readonly tags: CacheTags;
}

/** What the attach path asks of every domain that translates. */
export interface IntelDomain extends IommuDomain {
  readonly label: string;
  /**
   * Takes a domain id and cache tags for an attachment. Errno EINVAL: not compatible with the unit.
   * ENOSPC, ENOMEM. All or nothing.
   */
  acquire(device: IntelDevice, pasid: number): void;
  /** Gives both back. */
  release(device: IntelDevice, pasid: number): void;
  /** The PASID-table entry of an attachment that `acquire` made. Errno EINVAL. */
  entry(unit: IntelUnit): EntryWords;
}

/** How many domains of each type were made, for their names. */
export class DomainNames {
  readonly #made = new Map<DomainType, number>();

  next(type: DomainType): string {
    const number = (this.#made.get(type) ?? 0) + 1;
    this.#made.set(type, number);
    return `${type}#${number}`;
  }
}

export type FaultHandler = ((group: FaultGroup) => Task<number>) | null;
