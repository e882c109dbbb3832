import { AW, secondStageLevels } from '../../../devices/spec/vtd/pasid.ts';
import type { Cap, Ecap } from '../../../devices/spec/vtd/registers.ts';
import { SAGAW } from '../../../devices/spec/vtd/registers.ts';
import { Errno } from '../errno.ts';
import { DomainIds } from './domain-id.ts';
import type { Platform } from './platform.ts';
import { InvalidationQueue } from './qi.ts';
import { Registers } from './registers.ts';

/** One remapping unit as the driver sees it (struct intel_iommu). */
export class IntelUnit {
  readonly platform: Platform;
  readonly registers: Registers;
  readonly queue: InvalidationQueue;
  readonly domainIds: DomainIds;

  /**
   * @param base physical address of its registers
   * Errno ENODEV: the unit has no scalable mode or second stage. ENOMEM.
   */
  constructor(platform: Platform, base: number) {
    this.platform = platform;
    this.registers = new Registers(platform, base);
    const { ecap } = this.registers;
    if (ecap.SMTS === 0 || ecap.SSTS === 0 || ecap.QI === 0) {
      throw new Errno('ENODEV', `unit at 0x${base.toString(16)} lacks scalable mode or QI or SSTS`);
    }
    this.queue = new InvalidationQueue(platform, this.registers);
    this.domainIds = new DomainIds(this.registers.cap.ND);
  }

  get cap(): Cap {
    return this.registers.cap;
  }

  get ecap(): Ecap {
    return this.registers.ecap;
  }

  /** Caching mode: what was not present may be cached, so making it present must be flushed too. */
  get cachingMode(): boolean {
    return this.cap.CM === 1;
  }

  get nestedSupported(): boolean {
    return this.ecap.NEST === 1;
  }

  get pasidSupported(): boolean {
    return this.ecap.PASID === 1;
  }

  /** PASIDs the unit takes: 2^(PSS + 1). */
  get maxPasids(): number {
    return this.pasidSupported ? 2 ** (this.ecap.PSS + 1) : 0;
  }

  /** The widest second stage of up to 48 bits that the unit walks, as an AW value. */
  get addressWidth(): number {
    const { SAGAW: widths } = this.cap;
    if ((widths & SAGAW.BITS_48) !== 0) return AW.BITS_48;
    return (widths & SAGAW.BITS_39) !== 0 ? AW.BITS_39 : AW.BITS_57;
  }

  /** Levels of that second stage. */
  get levels(): number {
    return secondStageLevels(this.addressWidth);
  }
}
