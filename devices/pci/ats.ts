import { AtsCap, PasidCap, PciExtCap, PriCap } from '../spec/pci.ts';
import type { ConfigSpace } from './config-space.ts';

/**
 * The ATS capability: 32 outstanding invalidations, page-aligned, global invalidate. The smallest
 * translation unit can be chosen only together with enabling (PCI Express Base, 10.5.1).
 */
export class AtsCapability {
  readonly #config: ConfigSpace;
  readonly #offset: number;

  /** @param changed called after the enable bit changed */
  constructor(config: ConfigSpace, offset: number, changed: () => void) {
    this.#config = config;
    this.#offset = offset;
    config.addExtCapability(PciExtCap.ATS, AtsCap.VERSION, offset);
    const capability = AtsCap.CAPABILITY_PAGE_ALIGNED | AtsCap.CAPABILITY_GLOBAL_INVALIDATE;
    config.define({ offset: offset + AtsCap.CAPABILITY, size: 2, reset: capability });
    const enable = AtsCap.CONTROL_ENABLE;
    config.define({
      offset: offset + AtsCap.CONTROL,
      size: 2,
      reset: 0,
      writable: enable | AtsCap.CONTROL_STU_MASK,
      rule: (next, before) => ((next & before & enable) !== 0 ? before : next),
      written: (next, before) => {
        if (((next ^ before) & enable) !== 0) changed();
      },
    });
  }

  get enabled(): boolean {
    const control = this.#config.read(this.#offset + AtsCap.CONTROL, 2);
    return (control & AtsCap.CONTROL_ENABLE) !== 0;
  }
}

/**
 * The PASID capability: 20 bits, execute and privileged. Those two can be chosen only while PASID is
 * off or with the same write that turns it on (PCI Express Base, 7.8.9).
 */
export class PasidCapability {
  readonly #config: ConfigSpace;
  readonly #offset: number;

  /** @param changed called after the enable bit changed */
  constructor(config: ConfigSpace, offset: number, bits: number, changed: () => void) {
    this.#config = config;
    this.#offset = offset;
    config.addExtCapability(PciExtCap.PASID, PasidCap.VERSION, offset);
    const capability =
      PasidCap.CAPABILITY_EXEC |
      PasidCap.CAPABILITY_PRIVILEGED |
      (bits << PasidCap.CAPABILITY_WIDTH_SHIFT);
    config.define({ offset: offset + PasidCap.CAPABILITY, size: 2, reset: capability });
    const enable = PasidCap.CONTROL_ENABLE;
    config.define({
      offset: offset + PasidCap.CONTROL,
      size: 2,
      reset: 0,
      writable: enable | PasidCap.CONTROL_EXEC | PasidCap.CONTROL_PRIVILEGED,
      rule: (next, before) => ((next & before & enable) !== 0 ? before : next),
      written: (next, before) => {
        if (((next ^ before) & enable) !== 0) changed();
      },
    });
  }

  get #control(): number {
    return this.#config.read(this.#offset + PasidCap.CONTROL, 2);
  }

  get enabled(): boolean {
    return (this.#control & PasidCap.CONTROL_ENABLE) !== 0;
  }

  get privilegedEnabled(): boolean {
    const both = PasidCap.CONTROL_ENABLE | PasidCap.CONTROL_PRIVILEGED;
    return (this.#control & both) === both;
  }
}

/** What the interface's owner does when software changes its state. */
export interface PriReactions {
  /** Requests that are outstanding right now. */
  readonly outstanding: () => number;
  /** Enabled, disabled, or failure cleared: look again whether requests may be sent. */
  readonly changed: () => void;
  /** Reset while disabled: outstanding requests are forgotten. */
  readonly reset: () => void;
}

/**
 * The page request capability (PCI Express Base, 10.5.2). `stopped` reads 1 when the interface is
 * off and nothing is outstanding, or after a response failure. The allocation can be written only
 * while it is off; a reset counts only then.
 */
export class PriCapability {
  readonly #config: ConfigSpace;
  readonly #offset: number;
  readonly #max: number;
  readonly #reactions: PriReactions;

  constructor(config: ConfigSpace, offset: number, max: number, reactions: PriReactions) {
    this.#config = config;
    this.#offset = offset;
    this.#max = max;
    this.#reactions = reactions;
    config.addExtCapability(PciExtCap.PRI, PriCap.VERSION, offset);
    config.define({
      offset: offset + PriCap.CONTROL,
      size: 2,
      reset: 0,
      writable: PriCap.CONTROL_ENABLE | PriCap.CONTROL_RESET,
      rule: (next) => next & ~PriCap.CONTROL_RESET,
      written: (next) => this.#controlWritten(next),
    });
    config.define({
      offset: offset + PriCap.STATUS,
      size: 2,
      reset: PriCap.STATUS_STOPPED | PriCap.STATUS_PRG_RESPONSE_PASID,
      clearable: PriCap.STATUS_RESPONSE_FAILURE | PriCap.STATUS_UNEXPECTED_PRGI,
      written: () => {
        this.update();
        reactions.changed();
      },
    });
    config.define({ offset: offset + PriCap.MAX_REQUESTS, size: 4, reset: max });
    config.define({
      offset: offset + PriCap.ALLOCATION,
      size: 4,
      reset: 0,
      writable: 0xffff_ffff,
      rule: (next, before) => (this.enabled ? before : next),
    });
  }

  #controlWritten(next: number): void {
    const enable = (next & PriCap.CONTROL_ENABLE) !== 0;
    if (!enable && (next & PriCap.CONTROL_RESET) !== 0) this.#reactions.reset();
    this.update();
    this.#reactions.changed();
  }

  get #status(): number {
    return this.#config.read(this.#offset + PriCap.STATUS, 2);
  }

  get enabled(): boolean {
    const control = this.#config.read(this.#offset + PriCap.CONTROL, 2);
    return (control & PriCap.CONTROL_ENABLE) !== 0;
  }

  /** Whether requests may be sent at all: enabled and not stopped by a failure. */
  get running(): boolean {
    return this.enabled && (this.#status & PriCap.STATUS_RESPONSE_FAILURE) === 0;
  }

  /** Most requests that may be outstanding. */
  get limit(): number {
    return Math.min(this.#max, this.#config.read(this.#offset + PriCap.ALLOCATION, 4));
  }

  /** A response said failure: the interface stops until software clears the bit. */
  responseFailure(): void {
    this.#setStatus(this.#status | PriCap.STATUS_RESPONSE_FAILURE);
    this.update();
  }

  /** A response named a group that has no request. */
  unexpectedResponse(): void {
    this.#setStatus(this.#status | PriCap.STATUS_UNEXPECTED_PRGI);
  }

  /** Brings `stopped` up to date, after the number of outstanding requests changed. */
  update(): void {
    const stopped = !this.running && this.#reactions.outstanding() === 0;
    const status = this.#status & ~PriCap.STATUS_STOPPED;
    this.#setStatus(stopped ? status | PriCap.STATUS_STOPPED : status);
  }

  #setStatus(status: number): void {
    this.#config.set(this.#offset + PriCap.STATUS, 2, status);
  }
}
