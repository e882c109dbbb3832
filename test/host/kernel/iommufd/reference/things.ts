/** The objects of the model, as plain data. */
import type { IoasModel, Range } from './areas.ts';

export type Thing =
  | ({ readonly kind: 'ioas' } & IoasModel)
  | HwptModel
  | DeviceModel
  | AccessModel
  | { readonly kind: 'fault'; open: boolean }
  | { readonly kind: 'stdev'; readonly device: number };

export interface HwptModel {
  readonly kind: 'hwpt';
  /** The parent of a nested one. */
  readonly parent: number | null;
  readonly ioas: number;
  readonly pasid: boolean;
  readonly nestParent: boolean;
  readonly tracksDirty: boolean;
  readonly auto: boolean;
  readonly fault: number | null;
  tracking: boolean;
  /** IOVAs written to since they were last read. */
  dirty: number[];
}

export interface DeviceModel {
  readonly kind: 'device';
  readonly maxPasids: number;
  readonly tracksDirty: boolean;
  /** HWPT by PASID; 0 is the RID. */
  slots: Record<number, number>;
  /** The mock driver's next attach of PASID 1024 fails. */
  faulty: boolean;
}

export interface AccessModel {
  readonly kind: 'access';
  readonly pins: boolean;
  ioas: number;
  items: { readonly id: number; readonly iova: number; readonly length: number }[];
  nextItem: number;
}

export interface HwptFlags {
  readonly nestParent?: boolean;
  readonly dirty?: boolean;
  readonly pasid?: boolean;
  readonly fault?: number;
}

/** What differs between IOMMU drivers. */
export interface DriverFacts {
  readonly aperture: Range;
  readonly pageSize: number;
  /** Ranges reserved while the RID is attached. */
  readonly reserved: readonly Range[];
  /** Every other attach of PASID 1024 fails. */
  readonly faultyPasid: boolean;
}

export interface State {
  things: Map<number, Thing>;
  mmAccounting: boolean;
}

/** How many others hold an object. */
export function usersOf(things: ReadonlyMap<number, Thing>, id: number): number {
  let users = 0;
  for (const [, thing] of things) {
    if (thing.kind === 'hwpt') {
      const holder = thing.parent ?? thing.ioas;
      if (holder === id) users++;
      if (thing.fault === id) users++;
    }
    if (thing.kind === 'access' && thing.ioas === id) users++;
    if (thing.kind === 'device') {
      users += Object.values(thing.slots).filter((hwpt) => hwpt === id).length;
    }
  }
  const self = things.get(id);
  if (self?.kind === 'fault' && self.open) users++;
  if (self?.kind === 'device' || self?.kind === 'access') users++;
  return users;
}
