/** The page-request queue (drivers/iommu/intel/prq.c). */
import { ridToString } from '../../devices/spec/pci.ts';
import { waitDesc } from '../../devices/spec/vtd/invalidation.ts';
import {
  decodePageRequest,
  isStopMarker,
  PAGE_REQUEST_BYTES,
  type PageRequest,
  RESPONSE,
} from '../../devices/spec/vtd/page-request.ts';
import { PQA, PRS, pageRequestQueueBytes, REG } from '../../devices/spec/vtd/registers.ts';
import { inputWidth, isCanonicalPage, PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import { PERM, permText } from '../../trace/perm.ts';
import type { Core } from '../core.ts';
import { Signal, type Task, WaitQueue, waitAtMost } from '../task.ts';
import { drainDescriptors } from './flush.ts';
import type { IoPageFaults } from './io-pgfault.ts';
import type { UnitRegisters } from './registers.ts';
import type { IommuDevice } from './unit.ts';

/** 2^4 pages: 2048 requests. */
const PQS = 4;
const RING_BYTES = pageRequestQueueBytes(PQS);
const RING_MASK = RING_BYTES - PAGE_REQUEST_BYTES;

/** A drain looks again at least this often, and gives up after this many looks. */
const DRAIN_LOOK_NS = 20_000;
const DRAIN_MAX_LOOKS = 10_000;
/** Repeats of a drain that met an overflow. */
const DRAIN_MAX_ROUNDS = 64;

export class PageRequestQueue {
  readonly #core: Core;
  readonly #registers: UnitRegisters;
  readonly #faults: IoPageFaults;
  readonly #devices: ReadonlyMap<number, IommuDevice>;
  readonly #ring: number;
  readonly #interrupted = new Signal();
  readonly #passed = new WaitQueue();

  /** `devices`: by requester id. GuestError ENOMEM. */
  constructor(
    core: Core,
    registers: UnitRegisters,
    faults: IoPageFaults,
    devices: ReadonlyMap<number, IommuDevice>,
  ) {
    this.#core = core;
    this.#registers = registers;
    this.#faults = faults;
    this.#devices = devices;
    this.#ring = core.pages.allocRun(RING_BYTES / PAGE_SIZE);
  }

  /** Programs the ring and the interrupt, and starts the handler's thread. GuestError ENOSPC. */
  *enable(): Task {
    yield* this.#registers.write64(REG.PQH, 0n);
    yield* this.#registers.write64(REG.PQT, 0n);
    const [pqa] = PQA.encode({ BASE: this.#ring, PQS });
    yield* this.#registers.write64(REG.PQA, pqa!);
    const line = this.#core.interrupts.allocate('dmar-prq', () => {
      this.#interrupted.raise();
    });
    yield* this.#registers.programEvent(REG.PECTL, line);
    this.#core.sched.spawn('irq/dmar-prq', this.#thread());
  }

  *#thread(): Task {
    while (true) {
      yield* this.#interrupted.wait();
      yield* this.#pass();
      this.#passed.wake();
    }
  }

  /** One pass over the ring. PPR is cleared first, so that a request that comes now interrupts. */
  *#pass(): Task {
    yield* this.#registers.write32(REG.PRS, PRS.PPR);
    const { head, tail } = yield* this.#positions();
    const outer = this.#core.trace.cause;
    for (let at = head; at !== tail; at = (at + PAGE_REQUEST_BYTES) & RING_MASK) {
      yield* this.#take(this.#ring + at);
      this.#core.trace.cause = outer;
    }
    yield* this.#registers.write64(REG.PQH, BigInt(tail));
    yield* this.#overflow();
  }

  *#positions(): Task<{ head: number; tail: number }> {
    const tail = Number((yield* this.#registers.read64(REG.PQT)) & BigInt(RING_MASK));
    const head = Number((yield* this.#registers.read64(REG.PQH)) & BigInt(RING_MASK));
    return { head, tail };
  }

  *#overflow(): Task {
    const status = yield* this.#registers.read32(REG.PRS);
    if ((status & PRS.PRO) === 0) return;
    const { head, tail } = yield* this.#positions();
    if (head !== tail) {
      this.#interrupted.raise();
      return;
    }
    this.#faults.dropPartial();
    yield* this.#registers.write32(REG.PRS, PRS.PRO);
  }

  *#take(address: number): Task {
    const { trace, vm } = this.#core;
    trace.adopt(vm, address);
    const request = this.#read(address);
    if (request === undefined) return;
    const { pasid, prgi } = request;
    using _span = trace.span(guest.prqReport, {
      vm,
      rid: ridToString(request.rid),
      pasid,
      address: request.address,
      prgi,
      perm: permissions(request),
      last: request.last ? 1 : 0,
    });
    const device = this.#devices.get(request.rid);
    if (this.#malformed(request)) {
      if (device !== undefined) yield* this.#refuse(device, request);
      return;
    }
    if (isStopMarker(request) || device === undefined) return;
    yield* this.#faults.report(device, request);
  }

  #read(address: number): PageRequest | undefined {
    const { cpu } = this.#core;
    return decodePageRequest([cpu.read64(address), cpu.read64(address + 8)]);
  }

  /** No PASID, an address the CPU could not use, privileged, or execute: never served. */
  #malformed(request: PageRequest): boolean {
    const width = inputWidth(this.#core.pagingLevels);
    if (!request.pasidPresent || !isCanonicalPage(request.address / PAGE_SIZE, width)) return true;
    const asks = request.read || request.write;
    return (request.priv && asks) || (request.exec && request.read);
  }

  *#refuse(device: IommuDevice, request: PageRequest): Task {
    if (request.last) yield* this.#faults.respond(device, request, RESPONSE.INVALID);
  }

  /**
   * Returns when no page request of this PASID is left anywhere: not in the ring, not in the work
   * queue, and not on its way from the device (vtd specification, page request draining).
   */
  *drain(device: IommuDevice, pasid: number): Task {
    if (!device.priEnabled) return;
    for (let round = 0; round < DRAIN_MAX_ROUNDS; round++) {
      yield* this.#emptyRing(pasid);
      yield* this.#faults.flush();
      const fence = waitDesc({ fence: true, statusData: 2 });
      yield* device.unit.qi.submit([fence, ...drainDescriptors(device, pasid)], true);
      yield* this.#emptyRing(pasid);
      yield* this.#faults.flush();
      const status = yield* this.#registers.read32(REG.PRS);
      if ((status & PRS.PRO) === 0) return;
      yield* waitAtMost(this.#passed, DRAIN_LOOK_NS);
    }
  }

  /** Waits for handler passes until the ring holds no request of the PASID. */
  *#emptyRing(pasid: number): Task {
    for (let look = 0; look < DRAIN_MAX_LOOKS; look++) {
      const { head, tail } = yield* this.#positions();
      if (!this.#holds(head, tail, pasid)) return;
      yield* waitAtMost(this.#passed, DRAIN_LOOK_NS);
    }
  }

  #holds(head: number, tail: number, pasid: number): boolean {
    for (let at = head; at !== tail; at = (at + PAGE_REQUEST_BYTES) & RING_MASK) {
      const request = this.#read(this.#ring + at);
      if (request?.pasidPresent === true && request.pasid === pasid) return true;
    }
    return false;
  }
}

function permissions({ read, write, exec, priv }: PageRequest): string {
  const { R, W, X, P } = PERM;
  return permText((read ? R : 0) | (write ? W : 0) | (exec ? X : 0) | (priv ? P : 0));
}
