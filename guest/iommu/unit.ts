/** A remapping unit and its devices, as the driver knows them. */
import type { Cap, Ecap } from '../../devices/spec/vtd/registers.ts';
import type { Core } from '../core.ts';
import type { PciFunction } from '../pci.ts';
import type { PasidTable } from './pasid-table.ts';
import type { InvalidationQueue } from './qi.ts';
import type { UnitRegisters } from './registers.ts';

/** DID of every SVA and pass-through entry (Linux FLPT_DEFAULT_DID); 0 is never used with CM=1. */
export const FLPT_DEFAULT_DID = 1;
/** The first DID for DMA domains. */
export const FIRST_DOMAIN_DID = 2;

export interface Unit {
  readonly core: Core;
  readonly registers: UnitRegisters;
  readonly cap: Cap;
  readonly ecap: Ecap;
  readonly qi: InvalidationQueue;
  /** Guest physical address of the root table. */
  readonly root: number;
  /** Caching mode: newly present entries must be invalidated too. */
  readonly cachingMode: boolean;
  readonly pasidSupported: boolean;
  /** The CPU's page tables may be used for devices as they are. */
  readonly svmCapable: boolean;
  /** Second-stage width code (AW) that goes into every PASID entry. */
  readonly addressWidth: number;
}

export interface IommuDevice {
  readonly unit: Unit;
  readonly pci: PciFunction;
  readonly rid: number;
  /** PASIDs the device may use: 0 to that minus one. */
  readonly pasids: number;
  readonly pasidTable: PasidTable;
  /** Guest physical address of its context entry. */
  readonly context: number;
  readonly pasidEnabled: boolean;
  readonly atsSupported: boolean;
  readonly priSupported: boolean;
  /** Device-TLB invalidations it takes at a time (MIP), 1 to 32. */
  readonly queueDepth: number;
  /** DID of its default DMA domain. */
  domainDid: number;
  atsEnabled: boolean;
  priEnabled: boolean;
}
