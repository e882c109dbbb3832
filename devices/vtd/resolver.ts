import { type AddressType, AT } from '../pci/fabric.ts';
import { FAULT } from '../spec/vtd/faults.ts';
import { PGTT } from '../spec/vtd/pasid.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import type { Epoch } from './epoch.ts';
import type { Structures } from './structures.ts';

/** What `resolve` is asked for: a memory request by its address type, or a page request. */
export const PAGE_REQUEST = 3;
export type RequestKind = AddressType | typeof PAGE_REQUEST;

// Constant to the compiler only when it is here.
const { UNTRANSLATED } = AT;

/**
 * The checks of a request down to its PASID entry (VT-d spec 3.2 steps 3 to 9), through the context
 * and PASID caches. What the last plain request came to is taken again as it is, as long as the root
 * pointer and the caches are as they were: streams come from one client.
 */
export class Resolver {
  /** Effective privilege, and whether the function may use ATS. */
  priv = false;
  ats = false;
  /** The request asks to execute. */
  exec = false;
  readonly #structures: Structures;
  readonly #epoch: Epoch;
  /** PASIDs that the unit has (ECAP.PSS). */
  readonly #pasidLimit: number;
  #lastSid = 0;
  #lastPasid = 0;
  #lastFpd = false;
  #lastEpoch = 0;
  #last: PasidConfig | null = null;

  constructor(parts: {
    config: UnitConfig;
    structures: Structures;
    epoch: Epoch;
  }) {
    this.#structures = parts.structures;
    this.#epoch = parts.epoch;
    this.#pasidLimit = 2 ** (parts.config.ecap.PSS + 1);
  }

  /** Null: the reason is in `Structures.fault`. */
  resolve(sid: number, pasid: number, priv: boolean, kind: RequestKind): PasidConfig | null {
    const last = this.#last;
    if (last === null || sid !== this.#lastSid || pasid !== this.#lastPasid) {
      return this.#lookUp(sid, pasid, priv, kind);
    }
    if (priv || this.exec || kind !== UNTRANSLATED || this.#epoch.value !== this.#lastEpoch) {
      return this.#lookUp(sid, pasid, priv, kind);
    }
    this.#structures.fpd = this.#lastFpd;
    return last;
  }

  #lookUp(sid: number, pasid: number, priv: boolean, kind: RequestKind): PasidConfig | null {
    this.#last = null;
    const how = this.#find(sid, pasid, priv, kind);
    if (how === null || priv || this.priv || kind !== UNTRANSLATED) return how;
    this.#last = how;
    this.#lastSid = sid;
    this.#lastPasid = pasid;
    this.#lastFpd = this.#structures.fpd;
    this.#lastEpoch = this.#epoch.value;
    return how;
  }

  #find(sid: number, pasid: number, priv: boolean, kind: RequestKind): PasidConfig | null {
    const structures = this.#structures;
    structures.fpd = false;
    const modeFault = structures.modeFault(pasid >= 0, kind === PAGE_REQUEST);
    if (modeFault !== 0) return this.#fail(modeFault);
    const context = structures.context(sid);
    if (context === null) return null;
    this.ats = context.dte;
    this.priv = priv;
    if (kind === AT.TRANSLATION && !context.dte) {
      return this.#fail(context.legacy ? FAULT.LEGACY_TT_FORBIDS_ATS : FAULT.DTE_CLEAR);
    }
    if (context.legacy !== null) {
      this.priv = false;
      return context.legacy;
    }
    let effective = pasid;
    if (pasid < 0) {
      effective = context.ridPasid;
      this.priv = context.ridPriv;
    } else if (!context.paside) {
      return this.#fail(FAULT.PASIDE_CLEAR);
    } else if (pasid >= this.#pasidLimit) {
      return this.#fail(FAULT.PASID_TOO_WIDE);
    } else if (pasid >= context.pasids) {
      return this.#fail(FAULT.PASID_BEYOND_PDTS);
    } else if (pasid === context.ridPasid) {
      return this.#fail(FAULT.PASID_IS_RID_PASID);
    }
    if (kind === PAGE_REQUEST && !context.pre) return this.#fail(FAULT.PRE_CLEAR);
    const how = structures.pasid(context, effective);
    if (how === null || kind === PAGE_REQUEST) return how;
    if (this.exec) return this.#fail(FAULT.ERE_CLEAR);
    const usesFirst = how.pgtt === PGTT.FIRST_STAGE || how.pgtt === PGTT.NESTED;
    return this.priv && usesFirst && !how.sre ? this.#fail(FAULT.SRE_CLEAR) : how;
  }

  #fail(fault: number): null {
    this.#structures.fault = fault;
    return null;
  }
}
