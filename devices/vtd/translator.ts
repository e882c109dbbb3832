import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { PhysicalMemory } from '../memory.ts';
import { type AddressType, AT, type CompletionStatus, CPL } from '../pci/fabric.ts';
import { INTERRUPT_WINDOW_PAGES } from '../spec/msi.ts';
import { ridToString } from '../spec/pci.ts';
import {
  describeFault,
  FAULT,
  FAULT_TYPE,
  FAULTS,
  recordsOnTranslationRequest,
  translatedReply,
} from '../spec/vtd/faults.ts';
import { PGTT } from '../spec/vtd/pasid.ts';
import { TTM } from '../spec/vtd/registers.ts';
import type { Caches } from './caches.ts';
import { CheckedWalk, WalkRequest } from './checked-walk.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import type { FaultLog } from './fault-log.ts';
import { FirstStage } from './first-stage.ts';
import { type Iotlb, TLB } from './iotlb.ts';
import { legacyFault } from './legacy-faults.ts';
import { Nested } from './nested.ts';
import { Outcome } from './outcome.ts';
import { permissionText } from './page-request-queue.ts';
import { SecondStage } from './second-stage.ts';
import { Structures } from './structures.ts';
import { TableBus } from './table-bus.ts';
import { WalkLog } from './walk-log.ts';

/** What `resolve` is asked for: a memory request by its address type, or a page request. */
export const PAGE_REQUEST = 3;
export type RequestKind = AddressType | typeof PAGE_REQUEST;

/** log2 of the range that a pass-through translation is answered with. */
const PASS_THROUGH_SHIFT = 21;

const { FIRST: WINDOW_FIRST, LAST: WINDOW_LAST } = INTERRUPT_WINDOW_PAGES;

/** What came of the last request; one object, overwritten by each. */
export interface TranslationResult {
  /** 0, or the fault reason code, recorded or not. */
  fault: number;
  /** Frame number of the 4 KiB page asked for. */
  pfn: number;
  /** log2 of the bytes that the translation covers. */
  shift: number;
  read: boolean;
  write: boolean;
  status: CompletionStatus;
  /** The ATS N flag: the No Snoop attribute may not be used. */
  noSnoop: boolean;
  /** The request was made, and answered, in privileged mode. */
  priv: boolean;
  untranslatedOnly: boolean;
}

interface TranslatorParts {
  readonly config: UnitConfig;
  readonly memory: PhysicalMemory;
  readonly caches: Caches;
  readonly faults: FaultLog;
  readonly trace: Tracer;
}

/**
 * DMA remapping of memory requests (VT-d spec 3.4 to 3.9, 4.2, 7.1.3): IOTLB, else the structures
 * and a walk; and the answer and record of whatever fails.
 */
export class Translator {
  readonly result: TranslationResult = {
    fault: 0,
    pfn: 0,
    shift: 12,
    read: false,
    write: false,
    status: CPL.SUCCESS,
    noSnoop: false,
    priv: false,
    untranslatedOnly: false,
  };
  readonly structures: Structures;
  /** GSTS.TES. */
  enabled = false;
  translations = 0;
  iotlbHits = 0;
  walks = 0;
  /** Requests that ended in UR or CA, and page requests refused. */
  faulted = 0;
  readonly #config: UnitConfig;
  readonly #iotlb: Iotlb;
  readonly #faults: FaultLog;
  readonly #trace: Tracer;
  readonly #bus: TableBus;
  readonly #log: WalkLog;
  readonly #outcome = new Outcome();
  readonly #request = new WalkRequest();
  readonly #second: SecondStage;
  readonly #first: FirstStage;
  readonly #nested: Nested;
  readonly #checked: CheckedWalk;
  readonly #noWriteFlag: boolean;
  /** Of `resolve`: effective privilege, and whether the function may use ATS. */
  #priv = false;
  #ats = false;

  constructor(parts: TranslatorParts) {
    const { config, memory, caches, trace } = parts;
    this.#config = config;
    this.#iotlb = caches.iotlb;
    this.#faults = parts.faults;
    this.#trace = trace;
    this.#noWriteFlag = config.ecap.NWFS === 1;
    const bus = new TableBus(memory, config.haw);
    const log = new WalkLog(trace, config.name);
    const outcome = this.#outcome;
    const { contexts, pasids, first: cache } = caches;
    this.#bus = bus;
    this.#log = log;
    this.structures = new Structures({ config, bus, log, contexts, pasids });
    const second = new SecondStage({ config, memory, bus, log, cache: caches.second });
    this.#second = second;
    this.#first = new FirstStage({ config, memory, cache, outcome });
    this.#nested = new Nested({ config, memory, cache, second, outcome });
    this.#checked = new CheckedWalk({ config, bus, log, cache, second, outcome });
  }

  /** Table entries read. */
  get loads(): number {
    return this.#bus.loads + this.#second.loads + this.#first.loads + this.#nested.loads;
  }

  /** See `VtdUnit.translate`. */
  translate(
    sid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    vpn: number,
    write: boolean,
    noWrite: boolean,
  ): boolean {
    this.translations++;
    const hi = (vpn / 2 ** 32) | 0;
    const lo = vpn | 0;
    const at = this.#iotlb.find(sid, pasid, priv && pasid >= 0, hi, lo);
    if (at >= 0) {
      const flags = this.#iotlb.payload[at + 1]!;
      const readOnly = noWrite && this.#noWriteFlag;
      let need: number = write ? TLB.W : TLB.R;
      if (type !== AT.UNTRANSLATED) {
        need = readOnly ? TLB.R | TLB.ATS : TLB.R | TLB.W | TLB.ATS;
      }
      if ((flags & need) === need) {
        this.iotlbHits++;
        const grants = type !== AT.UNTRANSLATED && readOnly ? flags & ~TLB.W : flags;
        this.#answer(this.#iotlb.frame(at), this.#iotlb.shift(at), grants, priv && pasid >= 0);
        return true;
      }
    }
    return this.#miss(sid, pasid, priv, type, vpn, hi, lo, write, noWrite);
  }

  /** See `VtdUnit.translated`. */
  translated(sid: number, pfn: number, write: boolean): boolean {
    const { result, structures } = this;
    if (!this.enabled) {
      this.#unsupported();
      return false;
    }
    let fault = structures.modeFault(false, false);
    if (fault === 0) {
      const context = structures.context(sid);
      if (context === null) fault = structures.fault;
      else if (!context.dte) fault = context.legacy ? FAULT.LEGACY_TT_FORBIDS_ATS : FAULT.DTE_CLEAR;
      else fault = this.#outputFault(pfn, context.legacy !== null);
    }
    if (fault === 0) {
      result.fault = 0;
      result.status = CPL.SUCCESS;
      result.pfn = pfn;
      return true;
    }
    const status = translatedReply(fault) === 'CA' ? CPL.COMPLETER_ABORT : CPL.UNSUPPORTED_REQUEST;
    this.#refuse(fault, status);
    const recorded = this.#record(fault, sid, -1, false, pfn, AT.TRANSLATED, write);
    this.#noteFault(fault, sid, -1, pfn, 'translated', recorded);
    return false;
  }

  /**
   * The checks of a request down to its PASID entry (spec 3.2 steps 3 to 9). Null: the reason is in
   * `structures.fault`.
   */
  resolve(sid: number, pasid: number, priv: boolean, kind: RequestKind): PasidConfig | null {
    const { structures } = this;
    structures.fpd = false;
    const modeFault = structures.modeFault(pasid >= 0, kind === PAGE_REQUEST);
    if (modeFault !== 0) return this.#fail(modeFault);
    const context = structures.context(sid);
    if (context === null) return null;
    this.#ats = context.dte;
    this.#priv = priv;
    if (kind === AT.TRANSLATION && !context.dte) {
      return this.#fail(context.legacy ? FAULT.LEGACY_TT_FORBIDS_ATS : FAULT.DTE_CLEAR);
    }
    if (context.legacy !== null) {
      this.#priv = false;
      return context.legacy;
    }
    let effective = pasid;
    if (pasid < 0) {
      effective = context.ridPasid;
      this.#priv = context.ridPriv;
    } else if (!context.paside) {
      return this.#fail(FAULT.PASIDE_CLEAR);
    } else if (pasid >= 2 ** (this.#config.ecap.PSS + 1)) {
      return this.#fail(FAULT.PASID_TOO_WIDE);
    } else if (pasid >= context.pasids) {
      return this.#fail(FAULT.PASID_BEYOND_PDTS);
    } else if (pasid === context.ridPasid) {
      return this.#fail(FAULT.PASID_IS_RID_PASID);
    }
    if (kind === PAGE_REQUEST && !context.pre) return this.#fail(FAULT.PRE_CLEAR);
    const how = structures.pasid(context, effective);
    if (how === null || kind === PAGE_REQUEST) return how;
    const usesFirst = how.pgtt === PGTT.FIRST_STAGE || how.pgtt === PGTT.NESTED;
    return this.#priv && usesFirst && !how.sre ? this.#fail(FAULT.SRE_CLEAR) : how;
  }

  /** Records the fault that made `resolve` refuse a page request, unless FPD asks for silence. */
  refusePageRequest(sid: number, pasid: number, priv: boolean, page: number): void {
    const { fault } = this.structures;
    this.faulted++;
    const type = PAGE_REQUEST;
    const recorded = this.#record(fault, sid, pasid, priv, page, type, false);
    const info = FAULTS.get(fault);
    this.result.status = info?.pr === 'IR' ? CPL.UNSUPPORTED_REQUEST : CPL.SUCCESS;
    this.#noteFault(fault, sid, pasid, page, 'page request', recorded);
  }

  #fail(fault: number): null {
    this.structures.fault = fault;
    return null;
  }

  #miss(
    sid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    vpn: number,
    hi: number,
    lo: number,
    write: boolean,
    noWrite: boolean,
  ): boolean {
    const isAts = type !== AT.UNTRANSLATED;
    if (!this.enabled) return this.#unremapped(vpn, isAts);
    const readOnly = isAts && noWrite && this.#noWriteFlag;
    if (pasid < 0 && vpn >= WINDOW_FIRST && vpn <= WINDOW_LAST) {
      return this.#interruptWindow(sid, vpn, isAts, write, readOnly);
    }
    const log = this.#log;
    log.begin();
    const loadsBefore = log.on ? this.loads : 0;
    const how = this.resolve(sid, pasid, priv, type);
    let fault = this.structures.fault;
    if (how !== null) {
      const request = this.#request;
      request.vpn = vpn;
      request.hi = hi;
      request.lo = lo;
      request.user = !this.#priv;
      request.read = !isAts && !write;
      request.write = !isAts && write;
      request.dirty = isAts ? !readOnly : write;
      fault = this.#walk(how, request);
      if (fault === 0) fault = this.#outputFault(this.#outcome.frame, false);
      if (fault !== 0 && this.structures.ttm === TTM.LEGACY) {
        fault = legacyFault(fault, request.write);
      }
    }
    if (log.on) this.#noteWalk(sid, pasid, vpn, type, write, fault, loadsBefore);
    if (fault !== 0 || how === null) {
      return this.#deny(fault, sid, pasid, priv, vpn, isAts, write);
    }
    const { frame, shift, flags } = this.#outcome;
    if (how.pgtt !== PGTT.PASS_THROUGH) {
      const kept = this.#ats ? flags | TLB.ATS : flags;
      const firstStage = how.pgtt !== PGTT.SECOND_STAGE;
      const asked = priv && pasid >= 0;
      const iotlb = this.#iotlb;
      iotlb.fill(sid, pasid, asked, hi, lo, frame, shift, kept, how.did, firstStage, how.pasid);
    }
    const grants = readOnly ? flags & ~TLB.W : flags;
    this.#answer(frame, shift, grants, priv && pasid >= 0);
    return (grants & (TLB.R | TLB.W)) !== 0;
  }

  /** 0, or the fault of the page tables; leaves the translation in `#outcome`. */
  #walk(how: PasidConfig, request: WalkRequest): number {
    this.walks++;
    const { hi, lo, user, write, dirty } = request;
    switch (how.pgtt) {
      case PGTT.NESTED:
        if (!this.#log.on && this.#nested.fast(how, hi, lo, user, write, dirty)) return 0;
        return this.#checked.firstStage(how, request);
      case PGTT.FIRST_STAGE:
        if (!this.#log.on && this.#first.fast(how, hi, lo, user, write, dirty)) return 0;
        return this.#checked.firstStage(how, request);
      case PGTT.SECOND_STAGE:
        if (!this.#log.on && hi === 0 && lo >= 0 && this.#fastSecond(how, request)) return 0;
        return this.#checked.secondStage(how, request);
      default:
        return this.#passThrough(how, request.vpn);
    }
  }

  #fastSecond(how: PasidConfig, request: WalkRequest): boolean {
    const second = this.#second;
    const frame = second.fast(how, request.lo);
    return frame >= 0 && this.#checked.reportSecond(how, request, frame);
  }

  #passThrough(how: PasidConfig, vpn: number): number {
    if (vpn >= this.#config.hawPages) return FAULT.ADDRESS_BEYOND_HAW;
    const outcome = this.#outcome;
    const span = 2 ** (PASS_THROUGH_SHIFT - 12);
    const holdsWindow = vpn - (vpn % span) === WINDOW_FIRST - (WINDOW_FIRST % span);
    outcome.frame = vpn;
    outcome.shift = holdsWindow ? 12 : PASS_THROUGH_SHIFT;
    outcome.flags = how.forceSnoop ? TLB.R | TLB.W | TLB.SNOOP : TLB.R | TLB.W;
    return 0;
  }

  /** An output address that no request may have. */
  #outputFault(frame: number, legacy: boolean): number {
    if (frame >= this.#config.hawPages) {
      return legacy ? FAULT.LEGACY_ADDRESS_BEYOND_WIDTH : FAULT.ADDRESS_BEYOND_HAW;
    }
    if (frame < WINDOW_FIRST || frame > WINDOW_LAST) return 0;
    return legacy ? FAULT.LEGACY_OUTPUT_INTERRUPT : FAULT.OUTPUT_INTERRUPT;
  }

  /** Remapping is off: memory requests pass untouched, ATS is refused. */
  #unremapped(vpn: number, isAts: boolean): boolean {
    if (isAts) {
      this.#unsupported();
      return false;
    }
    this.#answer(vpn, 12, TLB.R | TLB.W, false);
    return true;
  }

  /** The interrupt window without a PASID: never memory (VT-d spec 3.14, ATS answer 4.2.3). */
  #interruptWindow(
    sid: number,
    vpn: number,
    isAts: boolean,
    write: boolean,
    readOnly: boolean,
  ): boolean {
    if (!isAts) {
      this.structures.fpd = false;
      return this.#deny(FAULT.IR_NOT_AN_INTERRUPT, sid, -1, false, vpn, false, write);
    }
    this.#answer(vpn, 12, readOnly ? 0 : TLB.W, false);
    this.result.untranslatedOnly = !readOnly;
    return !readOnly;
  }

  #answer(pfn: number, shift: number, flags: number, priv: boolean): void {
    const result = this.result;
    result.fault = 0;
    result.pfn = pfn;
    result.shift = shift;
    result.read = (flags & TLB.R) !== 0;
    result.write = (flags & TLB.W) !== 0;
    result.status = CPL.SUCCESS;
    result.noSnoop = (flags & TLB.SNOOP) !== 0;
    result.priv = priv;
    result.untranslatedOnly = false;
  }

  #unsupported(): void {
    this.#answer(0, 12, 0, false);
    this.result.status = CPL.UNSUPPORTED_REQUEST;
  }

  #refuse(fault: number, status: CompletionStatus): void {
    this.#answer(0, 12, 0, false);
    this.result.fault = fault;
    this.result.status = status;
    if (status !== CPL.SUCCESS) this.faulted++;
  }

  /** Answers, and where the fault table says so records, a request that failed. False. */
  #deny(
    fault: number,
    sid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    isAts: boolean,
    write: boolean,
  ): boolean {
    this.#refuse(fault, isAts ? atsStatus(fault) : CPL.UNSUPPORTED_REQUEST);
    const type = isAts ? AT.TRANSLATION : AT.UNTRANSLATED;
    const records = !isAts || recordsOnTranslationRequest(fault);
    const recorded = records && this.#record(fault, sid, pasid, priv, vpn, type, write);
    this.#noteFault(fault, sid, pasid, vpn, requestText(type, write), recorded);
    return false;
  }

  #record(
    code: number,
    sid: number,
    pasid: number,
    priv: boolean,
    page: number,
    kind: RequestKind,
    write: boolean,
  ): boolean {
    if (this.structures.fpd && FAULTS.get(code)?.qualified === true) return false;
    let type: number = write && kind !== AT.TRANSLATION ? FAULT_TYPE.WRITE : FAULT_TYPE.READ;
    if (kind === PAGE_REQUEST) type = FAULT_TYPE.PAGE_REQUEST;
    const at = kind === PAGE_REQUEST ? AT.UNTRANSLATED : kind;
    return this.#faults.record({ sid, pasid, priv, page, code, type, at });
  }

  #noteFault(
    code: number,
    sid: number,
    pasid: number,
    page: number,
    request: string,
    recorded: boolean,
  ): void {
    if (!this.#trace.on) return;
    this.#trace.emit(vtd.fault, {
      unit: this.#config.name,
      sid: ridToString(sid),
      pasid,
      address: page * 4096,
      request,
      code,
      reason: describeFault(code),
      answer: ANSWERS[this.result.status],
      recorded: recorded ? 1 : 0,
    });
  }

  #noteWalk(
    sid: number,
    pasid: number,
    vpn: number,
    type: AddressType,
    write: boolean,
    fault: number,
    loadsBefore: number,
  ): void {
    const { frame, shift, flags } = this.#outcome;
    const ok = fault === 0;
    this.#log.end({
      sid: ridToString(sid),
      pasid,
      address: vpn * 4096,
      request: requestText(type, write),
      result: ok ? frame * 4096 : 0,
      shift: ok ? shift : 0,
      perm: ok ? permissionText((flags & TLB.R) !== 0, (flags & TLB.W) !== 0) : '--',
      loads: this.loads - loadsBefore,
    });
  }
}

const ANSWERS: Readonly<Record<CompletionStatus, string>> = {
  [CPL.SUCCESS]: 'no translation',
  [CPL.UNSUPPORTED_REQUEST]: 'UR',
  [CPL.COMPLETER_ABORT]: 'CA',
};

function atsStatus(fault: number): CompletionStatus {
  const reply = FAULTS.get(fault)?.tr;
  if (reply === 'UR') return CPL.UNSUPPORTED_REQUEST;
  return reply === 'CA' ? CPL.COMPLETER_ABORT : CPL.SUCCESS;
}

function requestText(type: AddressType, write: boolean): string {
  if (type !== AT.UNTRANSLATED) return 'translation';
  return write ? 'write' : 'read';
}
