import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { NO_PASID } from '../pci/fabric.ts';
import { ridToString } from '../spec/pci.ts';
import {
  type DescriptorSupport,
  type DevTlbDescriptor,
  decodeDescriptor,
  describeDescriptor,
  type PasidDevTlbDescriptor,
  type ValidDescriptor,
  type WaitDescriptor,
} from '../spec/vtd/invalidation.ts';
import {
  FSTS,
  ICS,
  IQ_OFFSET_MASK,
  IQA,
  IQEI,
  IQERCD,
  invalidationQueueBytes,
  REG,
  TTM,
} from '../spec/vtd/registers.ts';
import type { Caches } from './caches.ts';
import type { UnitConfig } from './config.ts';
import { VTD_NS } from './costs.ts';
import { DeviceTlbs } from './device-tlbs.ts';
import type { EventSource } from './event-source.ts';
import type { RegisterFile } from './registers.ts';
import type { VtdWorld } from './world.ts';

/** Waits that may stand behind unanswered device-TLB invalidations before fetching stops. */
const MAX_PENDING_WAITS = 64;

/** Descriptor types that a queue in legacy mode knows. */
const LEGACY_TYPES: ReadonlySet<ValidDescriptor['type']> = new Set([
  'cc',
  'iotlb',
  'dev_tlb',
  'iec',
  'inv_wait',
]);

interface PendingWait {
  readonly wait: WaitDescriptor;
  /** It completes when all device-TLB requests numbered below have been answered. */
  readonly order: number;
}

interface QueueParts {
  readonly config: UnitConfig;
  readonly registers: RegisterFile;
  readonly caches: Caches;
  readonly world: VtdWorld;
  readonly trace: Tracer;
  readonly faultEvent: EventSource;
  readonly completionEvent: EventSource;
  /** The translation mode in force, and whether RTADDR named one that the unit has. */
  readonly mode: () => { readonly ttm: number; readonly valid: boolean };
}

/**
 * The invalidation queue (VT-d spec 6.5.2): one descriptor per event of the clock, in order, while
 * enabled, not empty and without an error. Completion of device-TLB invalidations is the device's
 * business; waits stand behind them. On a virtual unit every descriptor also goes to the world,
 * which may hold the queue until `resume`.
 */
export class InvalidationQueue {
  /** Descriptors carried out. */
  descriptors = 0;
  readonly #parts: QueueParts;
  readonly #support: DescriptorSupport;
  readonly #deviceTlbs: DeviceTlbs;
  #enabled = false;
  #base = 0;
  #bytes = 0;
  #width = 32;
  #scheduled = false;
  readonly #waits: PendingWait[] = [];
  /** What the world has not finished with. */
  #held: ValidDescriptor | null = null;
  /** `resume` came, perhaps before the world's own return. */
  #resumed = false;
  /** The queue was disabled meanwhile. */
  #abandoned = false;

  constructor(parts: QueueParts) {
    const { config, registers, world } = parts;
    this.#parts = parts;
    const { PSI, MAMV } = config.cap;
    const { DT, DIT, PRS, PDS } = config.ecap;
    this.#support = { PSI, MAMV, DT, DIT, PRS, PDS };
    this.#deviceTlbs = new DeviceTlbs(world.clock, (sid) => this.#timeout(sid));
    if (config.ecap.QI === 0) return;
    registers.writable64(REG.IQA, 0xffff_ffff_ffff_f807n);
    registers.writable(REG.IQT, IQ_OFFSET_MASK);
    registers.onWrite(REG.IQT, () => this.#tailWritten());
    registers.onWrite(REG.ICS, (value) => parts.completionEvent.clear(value & ICS.IWC));
  }

  /** GCMD.QIE 0 to 1: takes IQA as it stands. */
  enable(): void {
    const iqa = IQA.decode([this.#parts.registers.get64(REG.IQA)]);
    this.#base = iqa.BASE;
    this.#bytes = invalidationQueueBytes(iqa.QS);
    this.#width = iqa.DW === 1 ? 32 : 16;
    this.#enabled = true;
    this.kick();
  }

  /** GCMD.QIE 1 to 0: the head returns to 0; waits that stand are forgotten. */
  disable(): void {
    this.#enabled = false;
    this.#abandoned = true;
    this.#waits.length = 0;
    this.#parts.registers.set64(REG.IQH, 0n);
  }

  /** Software cleared IQE or ITE, or something else may let the queue go on. */
  kick(): void {
    if (this.#scheduled || !this.#mayFetch()) return;
    this.#scheduled = true;
    this.#parts.world.clock.after(VTD_NS.DESCRIPTOR, () => this.#run());
  }

  /** The world has finished with the descriptor it held back. */
  resume(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    this.#resumed = true;
    if (held.type === 'inv_wait' && !this.#abandoned) this.#wait(held);
    this.kick();
  }

  /** A function answered an invalidate request. An answer nobody waits for raises ICE. */
  invalidateComplete(sid: number, itag: number): void {
    if (!this.#deviceTlbs.complete(sid, itag)) {
      this.#recordSource('ICESID', sid);
      this.#parts.faultEvent.raise(FSTS.ICE);
      return;
    }
    this.#completeWaits();
    this.kick();
  }

  #tailWritten(): void {
    const { registers, trace, config } = this.#parts;
    if (!trace.on) {
      this.kick();
      return;
    }
    const value = registers.get(REG.IQT);
    const unit = config.name;
    const effect = this.#enabled ? 'the queue has work up to here' : 'the queue is off';
    using _span = trace.span(vtd.register, { unit, register: 'IQT', value, effect });
    this.kick();
  }

  #mayFetch(): boolean {
    const { registers } = this.#parts;
    return (
      this.#enabled &&
      this.#held === null &&
      (registers.get(REG.FSTS) & (FSTS.IQE | FSTS.ITE)) === 0 &&
      registers.get(REG.IQH) !== registers.get(REG.IQT) &&
      this.#waits.length < MAX_PENDING_WAITS &&
      this.#waits.at(-1)?.wait.fence !== true
    );
  }

  #run(): void {
    this.#scheduled = false;
    if (!this.#mayFetch()) return;
    const { registers, trace, world, config } = this.#parts;
    const head = registers.get(REG.IQH);
    const address = this.#base + head;
    const fault = this.#tailFault() || this.#modeFault();
    if (fault !== 0) {
      this.#stop(fault, 0n);
      return;
    }
    if (address + this.#width > 2 ** config.haw || !world.memory.contains(address, this.#width)) {
      this.#stop(IQEI.FETCH_ERROR, 0n);
      return;
    }
    const words = this.#fetch(address);
    const descriptor = decodeDescriptor(words, this.#support);
    const outer = trace.cause;
    if (descriptor.type === 'invalid') {
      trace.adopt(config.name, address);
      const isType = descriptor.reason === 'type';
      this.#stop(isType ? IQEI.BAD_TYPE : IQEI.RESERVED_FIELD, words[0]!);
    } else if (this.#parts.mode().ttm === TTM.LEGACY && !LEGACY_TYPES.has(descriptor.type)) {
      trace.adopt(config.name, address);
      this.#stop(IQEI.BAD_TYPE, words[0]!);
    } else if (this.#isStalled(descriptor)) {
      return;
    } else {
      trace.adopt(config.name, address);
      registers.set(REG.IQH, (head + this.#width) % this.#bytes);
      this.descriptors++;
      this.#carryOut(descriptor, words, address);
      trace.cause = outer;
      this.kick();
    }
    trace.cause = outer;
  }

  /** A tail that cannot be: outside the queue, or between two descriptors. */
  #tailFault(): number {
    const tail = this.#parts.registers.get(REG.IQT);
    if (tail >= this.#bytes) return IQEI.TAIL_OUT_OF_RANGE;
    return tail % this.#width === 0 ? 0 : IQEI.TAIL_MISALIGNED;
  }

  /** Scalable and abort-DMA modes take only 256-bit descriptors. */
  #modeFault(): number {
    const { ttm, valid } = this.#parts.mode();
    if (!valid) return IQEI.BAD_TTM;
    return ttm !== TTM.LEGACY && this.#width === 16 ? IQEI.BAD_WIDTH : 0;
  }

  #fetch(address: number): bigint[] {
    const { memory } = this.#parts.world;
    return Array.from({ length: this.#width / 8 }, (_, i) => memory.read64(address + 8 * i));
  }

  /** Whether a device-TLB invalidation must wait for a tag; an answer will start the queue again. */
  #isStalled(d: ValidDescriptor): boolean {
    if (this.#parts.world.forward !== undefined) return false;
    if (d.type !== 'dev_tlb' && d.type !== 'p_dev_tlb') return false;
    return !this.#deviceTlbs.accepts(d.sid, d.mip);
  }

  #carryOut(d: ValidDescriptor, words: readonly bigint[], address: number): void {
    const { trace, config, world } = this.#parts;
    const dropped = this.#drop(d);
    using _span = trace.on
      ? trace.span(vtd.descriptor, {
          unit: config.name,
          descriptor: describeDescriptor(d),
          qw0: words[0]!,
          qw1: words[1]!,
          dropped,
        })
      : null;
    world.observer?.descriptor(d, address);
    if (world.forward !== undefined) {
      this.#hold(d);
      const isDone = world.forward(d);
      if (!isDone || this.#resumed) return;
      this.#held = null;
    } else if (d.type === 'dev_tlb' || d.type === 'p_dev_tlb') {
      this.#invalidateDevice(d);
    } else if (d.type === 'pgrp') {
      const pasid = d.pasidPresent ? d.pasid : NO_PASID;
      this.#respond(d.rid, pasid, d.prgi, d.code);
    }
    if (d.type === 'inv_wait') this.#wait(d);
  }

  #hold(d: ValidDescriptor): void {
    this.#held = d;
    this.#resumed = false;
    this.#abandoned = false;
  }

  #drop(d: ValidDescriptor): number {
    const { caches } = this.#parts;
    switch (d.type) {
      case 'cc':
        return caches.contextCache(d, this.#parts.mode().ttm);
      case 'pc':
        return caches.pasidCache(d);
      case 'iotlb':
        return caches.iotlbInvalidate(d);
      case 'p_iotlb':
        return caches.pasidIotlb(d);
      case 'iec':
        return caches.interrupts.invalidate(d);
      default:
        return 0;
    }
  }

  #invalidateDevice(d: DevTlbDescriptor | PasidDevTlbDescriptor): void {
    const { trace, config, world } = this.#parts;
    const hasPasid = d.type === 'p_dev_tlb';
    const pasid = hasPasid ? d.pasid : NO_PASID;
    const shift = d.sizeLog2 === 'all' ? 64 : d.sizeLog2;
    const itag = this.#deviceTlbs.issue(d.sid);
    world.observer?.issued(d.sid, itag);
    using _span = trace.on
      ? trace.span(vtd.deviceInvalidate, {
          unit: config.name,
          sid: ridToString(d.sid),
          pasid,
          address: d.address,
          shift,
          itag,
        })
      : null;
    // A function that is not there never answers; the timer finds out.
    world.deviceInvalidate(d.sid, itag, pasid, hasPasid && d.global, d.address / 4096, shift);
  }

  #respond(sid: number, pasid: number, prgi: number, code: number): void {
    const { trace, config, world } = this.#parts;
    using _span = trace.on
      ? trace.span(vtd.pageResponse, {
          unit: config.name,
          sid: ridToString(sid),
          pasid,
          prgi,
          code,
        })
      : null;
    world.pageGroupResponse(sid, pasid, prgi, code);
  }

  #wait(wait: WaitDescriptor): void {
    this.#waits.push({ wait, order: this.#deviceTlbs.issued });
    this.#completeWaits();
  }

  #completeWaits(): void {
    for (;;) {
      const first = this.#waits[0];
      if (first === undefined || !this.#deviceTlbs.doneBefore(first.order)) return;
      this.#waits.shift();
      this.#complete(first.wait);
    }
  }

  /** Everything before the wait is done. Page requests received are in their queue already. */
  #complete(wait: WaitDescriptor): void {
    const { trace, config, world, completionEvent } = this.#parts;
    const { statusAddress: address, statusData: data } = wait;
    if (trace.on) trace.emit(vtd.waitDone, { unit: config.name, address, data });
    world.observer?.waited(wait.drainPageRequests);
    if (wait.statusWrite && world.memory.contains(address, 4)) world.memory.write32(address, data);
    if (wait.interrupt) completionEvent.raise(ICS.IWC);
  }

  /** A function did not answer in time: standing waits are aborted and fetching stops. */
  #timeout(sid: number): void {
    const { trace, config, registers, faultEvent } = this.#parts;
    this.#waits.length = 0;
    this.#recordSource('ITESID', sid);
    using _span = trace.on
      ? trace.span(vtd.queueError, {
          unit: config.name,
          error: `ITE: ${ridToString(sid)} did not answer`,
          head: registers.get(REG.IQH),
          info: registers.get64(REG.IQERCD),
        })
      : null;
    faultEvent.raise(FSTS.ITE);
  }

  /** Stops at the descriptor at the head. */
  #stop(iqei: number, qw0: bigint): void {
    const { trace, config, registers, faultEvent } = this.#parts;
    const kept = registers.get64(REG.IQERCD) & ~IQERCD.masks.IQEI;
    registers.set64(REG.IQERCD, kept | BigInt(iqei));
    using _span = trace.on
      ? trace.span(vtd.queueError, {
          unit: config.name,
          error: `IQE: ${IQEI_TEXT[iqei]!}`,
          head: registers.get(REG.IQH),
          info: qw0,
        })
      : null;
    faultEvent.raise(FSTS.IQE);
  }

  #recordSource(field: 'ITESID' | 'ICESID', sid: number): void {
    const { registers } = this.#parts;
    const kept = registers.get64(REG.IQERCD) & ~IQERCD.masks[field];
    registers.set64(REG.IQERCD, kept | IQERCD.encode({ [field]: sid })[0]!);
  }
}

const IQEI_TEXT: Readonly<Record<number, string>> = {
  [IQEI.TAIL_OUT_OF_RANGE]: 'tail out of range',
  [IQEI.FETCH_ERROR]: 'descriptor not accessible',
  [IQEI.BAD_TYPE]: 'descriptor type',
  [IQEI.RESERVED_FIELD]: 'reserved field of the descriptor',
  [IQEI.BAD_WIDTH]: 'descriptor width',
  [IQEI.TAIL_MISALIGNED]: 'tail misaligned',
  [IQEI.BAD_TTM]: 'translation mode',
};
