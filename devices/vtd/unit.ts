import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { AddressType } from '../pci/fabric.ts';
import { describeFault } from '../spec/vtd/faults.ts';
import type { PageRequest } from '../spec/vtd/page-request.ts';
import { FSTS, ICS, PRS, REG } from '../spec/vtd/registers.ts';
import { Caches } from './caches.ts';
import { Commands } from './commands.ts';
import { type UnitConfig, unitConfig } from './config.ts';
import { EventSource } from './event-source.ts';
import { FaultLog } from './fault-log.ts';
import { InterruptRemapper } from './interrupt-remapping.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import type { MemoryRequest } from './memory-request.ts';
import { addMemoryTypes } from './memory-types.ts';
import { PageRequestQueue } from './page-request-queue.ts';
import { REGISTER_BYTES, RegisterFile } from './registers.ts';
import { PAGE_REQUEST } from './resolver.ts';
import type { TranslationResult } from './translation-result.ts';
import { Translator } from './translator.ts';
import type { VtdWorld } from './world.ts';

/** Architecture version 1.0. */
const VERSION = 0x10;

const FAULT_STATUS = FSTS.PFO | FSTS.PPF | FSTS.IQE | FSTS.ICE | FSTS.ITE;

/** Counters of a unit, since it was made. */
export interface VtdStats {
  readonly translations: number;
  readonly iotlbHits: number;
  readonly walks: number;
  readonly loads: number;
  readonly faults: number;
  readonly pageRequests: number;
  readonly descriptors: number;
}

export interface VtdOptions {
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Host address width in bits, 39 to 52. */
  readonly haw: number;
  readonly world: VtdWorld;
  readonly trace: Tracer;
  /** `host`, or the VM's name; also the space of its queues' causality marks. */
  readonly name: string;
  /**
   * A unit in caching mode (CAP.CM) that uses the leave to cache what is not present; default false.
   * Without CAP.CM it does not count.
   */
  readonly cacheNotPresent?: boolean;
  /** Whether the unit has paging-structure caches (VT-d spec 6.2.5); default true. */
  readonly structureCaches?: boolean;
}

/**
 * An Intel VT-d remapping unit: the host's silicon, or a guest's virtual unit. Software drives it
 * through registers and tables in memory, functions through requests (VT-d specification).
 */
export class VtdUnit {
  readonly registerBytes: number = REGISTER_BYTES;
  readonly #config: UnitConfig;
  readonly #registers = new RegisterFile();
  readonly #caches: Caches;
  readonly #translator: Translator;
  readonly #remapper: InterruptRemapper;
  readonly #queue: InvalidationQueue;
  readonly #pageRequests: PageRequestQueue;
  readonly #trace: Tracer;
  #requested = 0;

  /** RangeError for a host address width outside 39 to 52. */
  constructor(options: VtdOptions) {
    const { world, trace } = options;
    const config = unitConfig(options);
    const registers = this.#registers;
    const caches = new Caches({
      absent: config.cap.CM === 1 && options.cacheNotPresent === true,
      structures: options.structureCaches ?? true,
    });
    this.#caches = caches;
    this.#config = config;
    this.#trace = trace;
    registers.set(REG.VER, VERSION);
    registers.set64(REG.CAP, config.capValue);
    registers.set64(REG.ECAP, config.ecapValue);
    addMemoryTypes(registers, config);
    const event = (
      source: string,
      status: number,
      mask: number,
      control: number,
      exists: boolean,
    ): EventSource => {
      const send = (address: number, data: number): void => {
        const values = { unit: config.name, source, address, data };
        using _span = trace.on ? trace.span(vtd.interrupt, values) : null;
        world.interrupt(address, data);
      };
      return new EventSource(registers, status, mask, control, send, exists);
    };
    const { QI, PRS: hasRequests } = config.ecap;
    const faultEvent = event('fault', REG.FSTS, FAULT_STATUS, REG.FECTL, true);
    const completionName = 'invalidation completion';
    const completionEvent = event(completionName, REG.ICS, ICS.IWC, REG.IECTL, QI === 1);
    const requestBits = PRS.PPR | PRS.PRO;
    const requestEvent = event('page request', REG.PRS, requestBits, REG.PECTL, hasRequests === 1);
    const faults = new FaultLog(config, registers, faultEvent);
    const translator = new Translator({ config, world, caches, faults, trace });
    const remapper = new InterruptRemapper({
      config,
      world,
      cache: caches.interrupts,
      faults,
      trace,
    });
    const mode = (): { ttm: number; valid: boolean } => translator.structures;
    const queueParts = { config, registers, caches, world, trace, faultEvent, completionEvent };
    const queue = new InvalidationQueue({ ...queueParts, mode });
    this.#translator = translator;
    this.#remapper = remapper;
    this.#queue = queue;
    this.#pageRequests = new PageRequestQueue({
      config,
      registers,
      world,
      trace,
      event: requestEvent,
    });
    new Commands({
      config,
      registers,
      world,
      trace,
      caches,
      translator,
      remapper,
      queue,
      faults,
      faultEvent,
    });
  }

  /** For a subclass that disturbs the caches. */
  protected get internals(): { readonly caches: Caches; readonly translator: Translator } {
    return { caches: this.#caches, translator: this.#translator };
  }

  /** What came of the last `translate` or `translated`. */
  get result(): TranslationResult {
    return this.#translator.result;
  }

  /** A load from the register window: 4 or 8 bytes, aligned; anything else reads 0. */
  readRegister(offset: number, size: 4 | 8): bigint {
    return this.#registers.read(offset, size);
  }

  /** A store to the register window: 4 or 8 bytes, aligned; anything else is ignored. */
  writeRegister(offset: number, size: 4 | 8, value: bigint): void {
    this.#registers.write(offset, size, value);
  }

  /**
   * An untranslated request or an ATS translation request (`type`) of function `sid` for page
   * `vpn` (52 bits). `pasid` -1: without PASID. `noWrite` is the NW flag of a translation request,
   * for which `write` does not count. True: translated, with at least one permission. Either way
   * `result` has the answer; a translation request that may be repeated after a page request
   * succeeds there without permissions.
   */
  translate(
    sid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    vpn: number,
    write: boolean,
    noWrite: boolean,
  ): boolean {
    return this.#translator.translate(sid, pasid, priv, type, vpn, write, noWrite);
  }

  /**
   * A memory request of any kind, by its attributes: what `translate` and `translated` have no
   * argument for are AtomicOps, zero-length reads (CAP.ZLR), execute requests (fault 5Ch: ECAP.ERS
   * is 0) and translated requests with a PASID (fault 49h: there is no host permission table).
   */
  request(request: MemoryRequest): boolean {
    return this.#translator.request(request);
  }

  /** A request with a translated address (AT=10). False: refused, `result` says how. */
  translated(sid: number, pfn: number, write: boolean): boolean {
    return this.#translator.translated(sid, pfn, write);
  }

  /**
   * A PRI page request message. It ends in the queue, or in an answer by the unit itself, or, if
   * it needs none, nowhere (VT-d spec 7.3).
   */
  pageRequest(
    sid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    read: boolean,
    write: boolean,
    last: boolean,
    prgi: number,
  ): void {
    this.#requested++;
    const request: PageRequest = {
      rid: sid & 0xffff,
      pasid: pasid < 0 ? 0 : pasid & 0xf_ffff,
      pasidPresent: pasid >= 0,
      exec: false,
      priv: priv && pasid >= 0,
      read,
      write,
      last,
      prgi: prgi & 0x1ff,
      address: vpn * 4096,
    };
    const translator = this.#translator;
    if (!translator.enabled || this.#config.ecap.PRS === 0) {
      this.#pageRequests.refuse(request, 'remapping or page requests are off');
      return;
    }
    const how = translator.resolve(sid, pasid, priv, PAGE_REQUEST);
    if (how === null) {
      translator.refusePageRequest(sid, pasid, priv, vpn);
      this.#pageRequests.refuse(request, describeFault(translator.structures.fault));
    } else if (this.#pageRequests.hasRoom) {
      this.#caches.pageRequested(how, vpn);
      this.#pageRequests.enqueue(request);
    } else {
      this.#pageRequests.overflow(request);
    }
  }

  /**
   * A DWORD write without PASID into FEEx_xxxx from function `sid`. True: it may go to the interrupt
   * controller as it is. Where interrupt remapping is on, the unit sends the remapped message
   * itself and says false.
   */
  interruptRequest(sid: number, address: number, data: number): boolean {
    return this.#remapper.request(sid, address, data);
  }

  /** Function `sid` has done the ATS invalidate request with tag `itag`. */
  invalidateComplete(sid: number, itag: number): void {
    this.#queue.invalidateComplete(sid, itag);
  }

  /** Virtual unit: the descriptor that `world.forward` held back is done. */
  resume(): void {
    this.#queue.resume();
  }

  get stats(): VtdStats {
    const { translations, iotlbHits, walks, loads, faulted } = this.#translator;
    return {
      translations,
      iotlbHits,
      walks,
      loads,
      faults: faulted,
      pageRequests: this.#requested,
      descriptors: this.#queue.descriptors,
    };
  }

  /** Emits the counters. */
  emitStats(): void {
    this.#trace.emit(vtd.stats, { unit: this.#config.name, ...this.stats });
  }
}
