import type { Tracer } from '../../trace/tracer.ts';
import { type AddressType, AT, type CompletionStatus, CPL } from '../pci/fabric.ts';
import { INTERRUPT_WINDOW_PAGES } from '../spec/msi.ts';
import { ridToString } from '../spec/pci.ts';
import { FAULT, FAULT_TYPE, FAULTS, translatedReply } from '../spec/vtd/faults.ts';
import { PGTT } from '../spec/vtd/pasid.ts';
import { TTM } from '../spec/vtd/registers.ts';
import type { Caches } from './caches.ts';
import { WalkRequest } from './checked-walk.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import type { FaultLog } from './fault-log.ts';
import { atsStatus, FaultReport, isRecorded, requestText } from './fault-report.ts';
import { HitTrace } from './hit-trace.ts';
import { type Iotlb, TLB } from './iotlb.ts';
import { legacyFault } from './legacy-faults.ts';
import type { MemoryRequest } from './memory-request.ts';
import type { NotPresentCache } from './not-present-cache.ts';
import type { VtdObserver } from './observer.ts';
import { Outcome } from './outcome.ts';
import { permissionText } from './page-request-queue.ts';
import { PAGE_REQUEST, type RequestKind, Resolver } from './resolver.ts';
import { Structures } from './structures.ts';
import { TableBus } from './table-bus.ts';
import { TranslationResult } from './translation-result.ts';
import { WalkLog } from './walk-log.ts';
import { Walks } from './walks.ts';
import type { VtdWorld } from './world.ts';

// What the hottest code reads of other modules is constant to the compiler only when it is here.
const { UNTRANSLATED } = AT;
const { R, W } = TLB;
const { PASS_THROUGH } = PGTT;
const { FIRST: WINDOW_FIRST, LAST: WINDOW_LAST } = INTERRUPT_WINDOW_PAGES;

interface TranslatorParts {
  readonly config: UnitConfig;
  readonly world: VtdWorld;
  readonly caches: Caches;
  readonly faults: FaultLog;
  readonly trace: Tracer;
}

/**
 * DMA remapping of memory requests (VT-d spec 3.4 to 3.9, 4.2, 7.1.3): IOTLB, else the structures
 * and a walk; and the answer and record of whatever fails.
 */
export class Translator {
  readonly result = new TranslationResult();
  readonly structures: Structures;
  readonly #resolver: Resolver;
  /** GSTS.TES. */
  enabled = false;
  iotlbHits = 0;
  /** Requests that ended in UR or CA, and page requests refused. */
  faulted = 0;
  readonly #config: UnitConfig;
  readonly #iotlb: Iotlb;
  readonly #absent: NotPresentCache | null;
  readonly #faults: FaultReport;
  readonly #bus: TableBus;
  readonly #log: WalkLog;
  readonly #outcome = new Outcome();
  readonly #request = new WalkRequest();
  readonly #walks: Walks;
  readonly #noWriteFlag: boolean;
  readonly #trace: Tracer;
  readonly #hits: HitTrace;
  readonly #observer: VtdObserver | null;
  #missed = 0;
  /** Where the IOTLB has an entry of the page that does not allow what is asked, or -1. */
  #held = -1;
  /** What `request` adds to a read or write; false outside it. */
  #atomic = false;
  #zeroLength = false;

  constructor(parts: TranslatorParts) {
    const { config, caches, trace } = parts;
    const { memory, atomics } = parts.world;
    this.#observer = parts.world.observer ?? null;
    this.#config = config;
    this.#trace = trace;
    this.#hits = new HitTrace(trace, config.name);
    this.#iotlb = caches.iotlb;
    this.#faults = new FaultReport({ config, faults: parts.faults, trace });
    this.#noWriteFlag = config.ecap.NWFS === 1;
    const bus = new TableBus(memory, config.haw, atomics);
    const log = new WalkLog(trace, config.name);
    const outcome = this.#outcome;
    const { contexts, pasids, absent, epoch, first: cache } = caches;
    this.#bus = bus;
    this.#log = log;
    this.structures = new Structures({ config, bus, log, contexts, pasids, absent, epoch });
    const { structures } = this;
    this.#resolver = new Resolver({ config, structures, epoch });
    this.#absent = absent;
    const walkCaches = { first: cache, second: caches.second };
    this.#walks = new Walks({ config, memory, bus, log, caches: walkCaches, outcome });
  }

  get translations(): number {
    return this.iotlbHits + this.#missed;
  }

  /** Walks of page tables. */
  get walks(): number {
    return this.#walks.count;
  }

  /** Table entries read. */
  get loads(): number {
    return this.#bus.loads + this.#walks.loads;
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
    const hi = (vpn / 2 ** 32) | 0;
    const lo = vpn | 0;
    const asked = priv && pasid >= 0;
    const iotlb = this.#iotlb;
    const at = iotlb.find(sid, pasid, asked, hi, lo);
    if (at >= 0) {
      const flags = iotlb.flags(at);
      const grants = type === UNTRANSLATED ? flags : this.#atsGrants(flags, noWrite);
      if ((grants & (write && type === UNTRANSLATED ? W : R)) !== 0) {
        this.iotlbHits++;
        if (this.#trace.hot) this.#hits.note(sid, pasid, flags, lo, hi);
        this.result.answer(iotlb.frame(at), grants, asked);
        return true;
      }
    }
    this.#held = at;
    return this.#miss(sid, pasid, priv, type, hi, lo, write, noWrite);
  }

  /** What a cached translation says to a translation request; 0: it must be asked for anew. */
  #atsGrants(flags: number, noWrite: boolean): number {
    const readOnly = noWrite && this.#noWriteFlag;
    const need = readOnly ? R | TLB.ATS : R | W | TLB.ATS;
    if ((flags & need) !== need) return 0;
    return readOnly ? flags & ~W : flags;
  }

  /** See `VtdUnit.request`. */
  request(r: MemoryRequest): boolean {
    const { sid, pasid, priv, type, page, noWrite } = r;
    const isAts = type === AT.TRANSLATION;
    const write = r.access === 'write' || r.access === 'atomic';
    if (type === AT.TRANSLATED) return this.translated(sid, page, write, pasid, priv);
    this.#atomic = !isAts && r.access === 'atomic';
    this.#zeroLength = !isAts && r.access === 'zero-length read';
    this.#resolver.exec = r.exec && pasid >= 0;
    this.#request.either = this.#zeroLength && this.#config.cap.ZLR === 1;
    try {
      if (!(this.#atomic || this.#resolver.exec || this.#zeroLength)) {
        return this.translate(sid, pasid, priv, type, page, write, noWrite);
      }
      // These have no short way through the IOTLB.
      const hi = (page / 2 ** 32) | 0;
      this.#held = this.#iotlb.find(sid, pasid, priv && pasid >= 0, hi, page | 0);
      return this.#miss(sid, pasid, priv, type, hi, page | 0, write, noWrite);
    } finally {
      this.#atomic = false;
      this.#resolver.exec = false;
      this.#zeroLength = false;
      this.#request.either = false;
    }
  }

  /** See `VtdUnit.translated`; `pasid` as in `request`. */
  translated(sid: number, pfn: number, write: boolean, pasid = -1, priv = false): boolean {
    const { result, structures } = this;
    if (!this.enabled) {
      this.#unsupported();
      return false;
    }
    let fault = structures.modeFault(pasid >= 0, false);
    if (fault === 0) {
      const context = structures.context(sid);
      if (context === null) fault = structures.fault;
      else if (!context.dte) fault = context.legacy ? FAULT.LEGACY_TT_FORBIDS_ATS : FAULT.DTE_CLEAR;
      else if (pasid >= 0) fault = FAULT.EPTR_CLEAR;
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
    this.#report(fault, sid, pasid, priv, pfn, AT.TRANSLATED, write, 'translated');
    return false;
  }

  /** See `Resolver.resolve`. */
  resolve(sid: number, pasid: number, priv: boolean, kind: RequestKind): PasidConfig | null {
    return this.#resolver.resolve(sid, pasid, priv, kind);
  }

  /** Records the fault that made `resolve` refuse a page request, unless FPD asks for silence. */
  refusePageRequest(sid: number, pasid: number, priv: boolean, page: number): void {
    const { fault } = this.structures;
    this.faulted++;
    const info = FAULTS.get(fault);
    this.result.status = info?.pr === 'IR' ? CPL.UNSUPPORTED_REQUEST : CPL.SUCCESS;
    this.#report(fault, sid, pasid, priv, page, PAGE_REQUEST, false, 'page request');
  }

  #miss(
    sid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    hi: number,
    lo: number,
    write: boolean,
    noWrite: boolean,
  ): boolean {
    this.#missed++;
    const isAts = type !== UNTRANSLATED;
    const readOnly = isAts && noWrite && this.#noWriteFlag;
    if (!this.enabled) return this.#unremapped(pageOf(hi, lo), isAts);
    if (pasid < 0 && isWindow(hi, lo)) {
      return this.#interruptWindow(sid, pageOf(hi, lo), isAts, write, readOnly);
    }
    const log = this.#log;
    log.begin();
    const loadsBefore = log.on ? this.loads : 0;
    const how = this.#resolver.resolve(sid, pasid, priv, type);
    let fault = this.structures.fault;
    if (how !== null) {
      const request = this.#request;
      request.hi = hi;
      request.lo = lo;
      request.user = !this.#resolver.priv;
      request.read = !isAts && (this.#atomic || !(write || request.either));
      request.write = !isAts && write;
      request.dirty = isAts ? !readOnly : write;
      const absent = this.#absent;
      fault = absent === null ? this.#walks.walk(how, request) : this.#walkAbsent(how, sid, pasid);
      if (fault === 0) fault = this.#outputFault(this.#outcome.frame, false);
      if (fault !== 0 && this.structures.ttm === TTM.LEGACY) {
        fault = legacyFault(fault, request.write);
      }
    }
    if (log.on) this.#noteWalk(sid, pasid, pageOf(hi, lo), type, write, fault, loadsBefore);
    if (fault !== 0 || how === null) {
      return this.#deny(fault, sid, pasid, priv, pageOf(hi, lo), isAts, write);
    }
    const { frame, shift, flags } = this.#outcome;
    if (how.pgtt !== PASS_THROUGH) this.#keep(how, sid, pasid, priv);
    const grants = readOnly ? flags & ~W : flags;
    this.#answer(frame, shift, grants, priv && pasid >= 0);
    return !isAts || (grants & (R | W)) !== 0;
  }

  /**
   * Translates a page that nobody asked for, and keeps it: no fault is told, no dirty bit set, and
   * `result` stays (VT-d spec 6.1). True: there is something to keep.
   */
  prefetch(sid: number, pasid: number, priv: boolean, vpn: number): boolean {
    const inWindow = pasid < 0 && vpn >= WINDOW_FIRST && vpn <= WINDOW_LAST;
    if (!this.enabled || inWindow) return false;
    const log = this.#log;
    if (this.#observer !== null) log.begin();
    const how = this.resolve(sid, pasid, priv, AT.UNTRANSLATED);
    const found = how !== null && how.pgtt !== PGTT.PASS_THROUGH && this.#lookAt(how, vpn);
    // Nobody asked: the entries are for the observer, no walk is told.
    log.on = false;
    if (!found) return false;
    const { hi, lo } = this.#request;
    this.#held = this.#iotlb.find(sid, pasid, priv && pasid >= 0, hi, lo);
    this.#keep(how, sid, pasid, priv);
    return true;
  }

  #lookAt(how: PasidConfig, vpn: number): boolean {
    const request = this.#request;
    request.lookAt(vpn, !this.#resolver.priv);
    const fault = this.#walks.walk(how, request);
    return fault === 0 && this.#outputFault(this.#outcome.frame, false) === 0;
  }

  /** Puts the outcome of the walk of `#request` into the IOTLB. */
  #keep(how: PasidConfig, sid: number, pasid: number, priv: boolean): void {
    const asked = priv && pasid >= 0;
    const { ats } = this.#resolver;
    this.#iotlb.fill(this.#held, sid, pasid, asked, this.#request, this.#outcome, how, ats);
    if (this.#observer === null) return;
    const { entries } = this.#log;
    const page = this.#request.vpn;
    this.#observer.walked({ sid, pasid, priv, page, how, outcome: this.#outcome, entries });
  }

  /** A walk in caching mode: what the second stage does not map is remembered. */
  #walkAbsent(how: PasidConfig, sid: number, pasid: number): number {
    const absent = this.#absent;
    const request = this.#request;
    if (absent === null || how.pgtt !== PGTT.SECOND_STAGE) return this.#walks.walk(how, request);
    if (absent.hasPage(sid, pasid, request.vpn)) return FAULT.SS_NOT_PRESENT;
    const fault = this.#walks.walk(how, request);
    if (fault === FAULT.SS_NOT_PRESENT) absent.keepPage(sid, pasid, request.vpn, how.pasid);
    return fault;
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
      if (this.#zeroLength) {
        this.#answer(vpn, 12, TLB.R, false);
        return true;
      }
      this.structures.fpd = false;
      return this.#deny(FAULT.IR_NOT_AN_INTERRUPT, sid, -1, false, vpn, false, write);
    }
    this.#answer(vpn, 12, readOnly ? 0 : TLB.W, false);
    if (!readOnly) this.result.onlyUntranslated();
    return !readOnly;
  }

  #answer(pfn: number, shift: number, flags: number, priv: boolean): void {
    this.result.answer(pfn, flags | (shift << TLB.SHIFT), priv);
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
    const request = requestText(type, write);
    this.#report(fault, sid, pasid, priv, vpn, type, write, request, isRecorded(fault, isAts));
    return false;
  }

  #report(
    code: number,
    sid: number,
    pasid: number,
    priv: boolean,
    page: number,
    kind: RequestKind,
    write: boolean,
    request: string,
    mayRecord = true,
  ): void {
    let type: number = write && kind !== AT.TRANSLATION ? FAULT_TYPE.WRITE : FAULT_TYPE.READ;
    if (this.#atomic) type = FAULT_TYPE.ATOMIC;
    if (kind === PAGE_REQUEST) type = FAULT_TYPE.PAGE_REQUEST;
    const at = kind === PAGE_REQUEST ? AT.UNTRANSLATED : kind;
    const blocked = { request, status: this.result.status, fpd: this.structures.fpd };
    this.#faults.report({ sid, pasid, priv, page, code, type, at }, blocked, mayRecord);
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
      hits: this.iotlbHits,
    });
  }
}

/** A page number from its halves. */
function pageOf(hi: number, lo: number): number {
  return hi * 2 ** 32 + (lo >>> 0);
}

function isWindow(hi: number, lo: number): boolean {
  return hi === 0 && lo >= WINDOW_FIRST && lo <= WINDOW_LAST;
}
