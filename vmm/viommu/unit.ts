import type { Descriptor } from '../../devices/spec/vtd/invalidation.ts';
import { describeDescriptor } from '../../devices/spec/vtd/invalidation.ts';
import { CAP, ECAP, GSTS, REG, REGISTERS, RTADDR, TTM } from '../../devices/spec/vtd/registers.ts';
import type { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { VtdUnit } from '../../devices/vtd/unit.ts';
import type { VtdWorld } from '../../devices/vtd/world.ts';
import type { Syscalls, Task } from '../../host/syscall.ts';
import { vmm as ev } from '../../trace/catalogue/vmm.ts';
import { allOnes } from '../exit.ts';
import type { GuestMemory } from '../guest-memory.ts';
import type { Heap } from '../heap.ts';
import type { InterruptSink } from '../interrupt-sink.ts';
import { GUEST_ADDRESS_BITS } from '../layout.ts';
import type { MmioHandler } from '../memory-map.ts';
import type { PollSource } from '../threads.ts';
import type { GuestCapabilities } from './capabilities.ts';
import { descriptorWords } from './descriptor-words.ts';
import { Faults } from './faults.ts';
import { GuestTables } from './guest-tables.ts';
import type { HostSide } from './host-side.ts';
import { Invalidations } from './invalidate.ts';
import { PasidAttachments } from './pasid.ts';
import { UnitClock } from './unit-clock.ts';

export interface VirtualUnitOptions {
  readonly sys: Syscalls;
  readonly heap: Heap;
  readonly host: HostSide;
  readonly capabilities: GuestCapabilities;
  readonly memory: GuestMemory;
  readonly interrupts: InterruptSink;
  readonly now: () => number;
  /** Requester id of the assigned function in the guest. */
  readonly rid: number;
  readonly faultFd: number;
  /** Watches the unit, whose function has that requester id on the host. */
  readonly sanitize?: { readonly sanitizer: Sanitizer; readonly hostRid: number } | undefined;
}

/** A descriptor the unit stopped at, with the cause that led to it. */
interface Forwarded {
  readonly descriptor: Descriptor;
  readonly cause: number;
}

const NAMES = new Map(REGISTERS.map((register) => [register.offset, register.name]));
/** The events of the unit, told apart by the MSI data that the guest gave them. */
const EVENTS = [
  { data: REG.PEDATA, what: 'VTD page request' },
  { data: REG.IEDATA, what: 'VTD invalidation done' },
  { data: REG.FEDATA, what: 'VTD fault' },
] as const;

/**
 * The guest's VT-d unit: devices/vtd with guest memory beneath it and iommufd behind it. The unit
 * does registers, queues and faults; descriptors that concern the host stop it, are carried out with
 * ioctls before the guest runs on, and let it go on.
 */
export class VirtualUnit implements MmioHandler {
  readonly #options: VirtualUnitOptions;
  readonly #unit: VtdUnit;
  readonly #clock: UnitClock;
  readonly #tables: GuestTables;
  readonly #pasids: PasidAttachments;
  readonly #invalidations: Invalidations;
  readonly #faults: Faults;
  #forwarded: Forwarded | null = null;
  #remapped = false;
  #settling = false;

  constructor(options: VirtualUnitOptions) {
    const { host, capabilities, memory, sys, heap } = options;
    this.#options = options;
    this.#clock = new UnitClock(options.now, host.trace);
    const hasLevels5 = CAP.decode([capabilities.cap]).FS5LP === 1;
    const ecap = ECAP.decode([capabilities.ecap]);
    this.#tables = new GuestTables(memory, options.rid, ecap, hasLevels5);
    this.#faults = new Faults({
      name: host.name,
      sys,
      trace: host.trace,
      fd: options.faultFd,
      heap,
      rid: options.rid,
      pageRequest: (...request) => this.#unit.pageRequest(...request),
    });
    this.#pasids = new PasidAttachments(host, this.#tables, this.#faults);
    this.#invalidations = new Invalidations(host, this.#pasids);
    this.#unit = new VtdUnit({
      cap: capabilities.cap,
      ecap: capabilities.ecap,
      haw: GUEST_ADDRESS_BITS,
      world: this.#watched(this.#world()),
      trace: host.trace,
      name: host.name,
    });
  }

  /** Size of the register window. */
  get bytes(): number {
    return this.#unit.registerBytes;
  }

  /** The fault queue's descriptor and what to do when it is readable. */
  faultSource(): PollSource {
    return { fd: this.#options.faultFd, handle: (): Task => this.#takeFaults() };
  }

  /** An interrupt message of the assigned function: remapped or let through by the unit. */
  deviceInterrupt(what: () => string, address: number, data: number): void {
    if (!this.#unit.interruptRequest(this.#options.rid, address, data)) return;
    this.#options.interrupts.message(what, address, data);
  }

  describe(offset: number): string {
    return `VTD ${NAMES.get(offset) ?? `+0x${offset.toString(16)}`}`;
  }

  *read(offset: number, size: number): Task<bigint> {
    if ((size !== 4 && size !== 8) || offset % size !== 0) return allOnes(size);
    const value = this.#unit.readRegister(offset, size);
    yield* this.#settle();
    return BigInt.asUintN(8 * size, value);
  }

  *write(offset: number, size: number, value: bigint): Task {
    if ((size !== 4 && size !== 8) || offset % size !== 0) return;
    this.#unit.writeRegister(offset, size, BigInt.asUintN(8 * size, value));
    yield* this.#settle();
  }

  /** Emits the unit's counters and gives the host's attachments back. */
  *release(): Task {
    this.#unit.emitStats();
    yield* this.#pasids.release();
  }

  #world(): VtdWorld {
    const { memory, interrupts } = this.#options;
    return {
      memory,
      clock: this.#clock,
      interrupt: (address, data) => interrupts.message(() => this.#eventName(data), address, data),
      // Device-TLBs and page group responses of a virtual unit go through `forward`.
      deviceInvalidate: () => false,
      pageGroupResponse: (_sid, pasid, prgi, code) => this.#faults.unitResponded(pasid, prgi, code),
      forward: (descriptor) => this.#forward(descriptor),
      remapped: (change) => {
        if (change === 'root') this.#latchRoot();
        this.#remapped = true;
      },
    };
  }

  #watched(world: VtdWorld): VtdWorld {
    const { sanitize, host, memory, rid } = this.#options;
    if (sanitize === undefined) return world;
    const parts = {
      memory,
      clock: this.#clock,
      readRegister: (offset: number, size: 4 | 8): bigint => this.#unit.readRegister(offset, size),
    };
    const assigned = { guest: rid, host: sanitize.hostRid };
    return { ...world, observer: sanitize.sanitizer.watchGuest(host.name, parts, assigned) };
  }

  /** True: nothing to do on the host. False: the unit waits until `#settle` has done it. */
  #forward(descriptor: Descriptor): boolean {
    const { name, trace } = this.#options.host;
    let cause = trace.cause;
    if (trace.on) {
      const [qw0, qw1] = descriptorWords(descriptor);
      const text = describeDescriptor(descriptor);
      const seen = { vm: name, descriptor: text, qw0: qw0!, qw1: qw1! };
      cause = trace.emit(ev.descriptor, seen);
    }
    if (!needsHost(descriptor)) return true;
    this.#forwarded = { descriptor, cause };
    return false;
  }

  /**
   * Lets the unit finish what it began: its scheduled work, and the descriptors it stopped at. One
   * thread does; another that comes along leaves the descriptors to it.
   */
  *#settle(): Task {
    this.#clock.drain();
    if (this.#settling) return;
    this.#settling = true;
    const { trace } = this.#options.host;
    const outer = trace.cause;
    try {
      while (this.#remapped || this.#forwarded !== null) {
        if (this.#remapped) yield* this.#remap();
        if (this.#forwarded !== null) yield* this.#carryOut(this.#forwarded);
        trace.cause = outer;
        this.#clock.drain();
      }
    } finally {
      this.#settling = false;
    }
    yield* this.#faults.sendAnswers();
    yield* this.#options.interrupts.wakeUp();
  }

  *#carryOut(forwarded: Forwarded): Task {
    this.#forwarded = null;
    this.#options.host.trace.cause = forwarded.cause;
    yield* this.#onHost(forwarded.descriptor);
    this.#unit.resume();
  }

  *#onHost(d: Descriptor): Task {
    if (d.type === 'pc') yield* this.#pasids.pasidCache(d);
    else if (d.type === 'cc') yield* this.#pasids.contextCache(d, this.#options.rid);
    else if (d.type === 'p_iotlb') yield* this.#invalidations.pasidIotlb(d);
    else if (d.type === 'iotlb') yield* this.#invalidations.iotlb(d);
    else if (d.type === 'pgrp') yield* this.#faults.respond(d);
    else if (d.type === 'inv_wait') yield* this.#faults.drain();
  }

  /** The set-root-table-pointer command took effect: what RTADDR holds now is what counts. */
  #latchRoot(): void {
    const { RTA, TTM: mode } = RTADDR.decode([this.#unit.readRegister(REG.RTADDR, 8)]);
    this.#tables.root = mode === TTM.SCALABLE ? RTA : -1;
  }

  /** The root table or TE changed: the host follows the tables that hold now. */
  *#remap(): Task {
    this.#remapped = false;
    const status = Number(this.#unit.readRegister(REG.GSTS, 4));
    yield* this.#pasids.remap((status & GSTS.TES) !== 0);
  }

  *#takeFaults(): Task {
    yield* this.#faults.drain();
    yield* this.#settle();
    yield* this.#options.interrupts.wakeUp();
  }

  #eventName(data: number): string {
    const found = EVENTS.find(
      (event) => Number(this.#unit.readRegister(event.data, 4)) === (data & 0xffff_ffff) >>> 0,
    );
    return found?.what ?? 'VTD';
  }
}

/** Whether a descriptor has an effect beyond the virtual unit itself (vtd.md 6.6). */
function needsHost(d: Descriptor): boolean {
  switch (d.type) {
    case 'pc':
    case 'cc':
    case 'p_iotlb':
    case 'iotlb':
    case 'pgrp':
      return true;
    case 'inv_wait':
      return d.drainPageRequests;
    default:
      return false;
  }
}
