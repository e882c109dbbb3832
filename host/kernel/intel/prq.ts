/** The page-request queue and its thread (drivers/iommu/intel/prq.c). */
import type { PhysicalMemory } from '../../../devices/memory.ts';
import { pageGroupRespDesc, waitDesc } from '../../../devices/spec/vtd/invalidation.ts';
import { PAGE_REQUEST_BYTES, PAGE_REQUEST_TYPE } from '../../../devices/spec/vtd/page-request.ts';
import { PQA, PRS, REG } from '../../../devices/spec/vtd/registers.ts';
import { isCanonicalPage } from '../../../devices/spec/x86/paging.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { permText } from '../../../trace/perm.ts';
import { WaitQueue } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import {
  IOMMU_PGFAULT_PERM_EXEC,
  IOMMU_PGFAULT_PERM_PRIV,
  IOMMU_PGFAULT_PERM_READ,
  IOMMU_PGFAULT_PERM_WRITE,
} from '../../uapi/iommufd.ts';
import type { IopfQueue } from '../iommu/io-pgfault.ts';
import type { Fault, ResponseCode } from '../iommu/ops.ts';
import { RESPONSE } from '../iommu/ops.ts';
import { INTEL_NS } from './costs.ts';
import type { IntelDevice } from './device.ts';
import { PASS_THROUGH_DID } from './domain-id.ts';
import { EVENT, enableEvent } from './event.ts';
import { deviceTlb, flush, iotlbDomain, pasidIotlbAll } from './flush.ts';
import { allocTables, hasBug } from './platform.ts';
import type { IntelUnit } from './unit.ts';

/** 16 pages: 2048 requests. */
const PAGES_LOG2 = 4;
const RING_BYTES = 2 ** PAGES_LOG2 * 4096;
/** Linear addresses of the CPUs: 57 bits where the unit walks 5 levels, else 48. */
const widthOf = (unit: IntelUnit): number => (unit.cap.FS5LP === 1 ? 57 : 48);

/** Fields of the first two 32-bit words of a request. */
const W0 = { PP: 0x100, RID_SHIFT: 16, TYPE: 0xff } as const;
const W1 = { PASID: 0xf_ffff, EXR: 1 << 20, PMR: 1 << 21 } as const;
/** Fields of the third. */
const W2 = { RDR: 1, WRR: 2, LPIG: 4, PRGI_SHIFT: 3, PRGI: 0x1ff } as const;

/** Takes page requests of the unit's functions and has them answered. */
export class PageRequestQueue {
  readonly base: number;
  readonly #unit: IntelUnit;
  readonly #ram: PhysicalMemory;
  readonly #faults: IopfQueue;
  readonly #deviceOf: (rid: number) => IntelDevice | undefined;
  readonly #wake = new WaitQueue();
  /** Woken after each pass through the ring. */
  readonly #passed = new WaitQueue();
  readonly #addressWidth: number;
  #pending = false;

  /** Errno ENOMEM. */
  constructor(
    unit: IntelUnit,
    faults: IopfQueue,
    deviceOf: (rid: number) => IntelDevice | undefined,
  ) {
    this.#unit = unit;
    this.#ram = unit.platform.machine.ram;
    this.#faults = faults;
    this.#deviceOf = deviceOf;
    this.#addressWidth = widthOf(unit);
    this.base = allocTables(unit.platform, 2 ** PAGES_LOG2, 'intel:prq');
  }

  /** Gives the ring to the unit, starts the thread and takes the interrupt. */
  enable(): void {
    const { registers, platform } = this.#unit;
    registers.write64(REG.PQH, 0n);
    registers.write64(REG.PQT, 0n);
    registers.write64(REG.PQA, PQA.encode({ BASE: this.base, PQS: PAGES_LOG2 })[0]!);
    platform.machine.scheduler.spawn('irq/dmar-prq', this.#thread());
    enableEvent(this.#unit, EVENT.PAGE_REQUEST, 'dmar-prq', () => {
      this.#pending = true;
      this.#wake.wake();
    });
  }

  /** The answer to a request's group, on its way through the invalidation queue. */
  *respond(device: IntelDevice, fault: Fault, code: ResponseCode): Task {
    const { pasid, pasidValid, grpid } = fault;
    const { platform } = this.#unit;
    yield* this.#post(device.rid, pasid, pasidValid, grpid, code);
    if (hasBug(platform, 'host-answers-twice')) {
      yield* this.#post(device.rid, pasid, pasidValid, grpid, code);
    }
    if (hasBug(platform, 'host-answers-unasked')) {
      yield* this.#post(device.rid, pasid, pasidValid, grpid ^ 0x100, code);
    }
  }

  /**
   * Waits until no request of the PASID is in the ring or on its way there. The caller has torn down
   * or replaced the entry, so no new ones come from the old translation.
   * (drivers/iommu/intel/prq.c: intel_iommu_drain_pasid_prq)
   */
  *drain(device: IntelDevice, pasid: number): Task {
    const { registers } = this.#unit;
    const did = PASS_THROUGH_DID;
    for (;;) {
      yield* this.#taken(device.rid, pasid);
      const descriptors = [
        waitDesc({ fence: true }),
        pasid === 0 ? iotlbDomain(did) : pasidIotlbAll(did, pasid),
      ];
      const skipsDevice = hasBug(this.#unit.platform, 'host-teardown-no-device-tlb');
      if (device.atsEnabled && !skipsDevice)
        descriptors.push(deviceTlb(device.rid, pasid, 0, 'all'));
      yield* flush(this.#unit, descriptors, { drainPageRequests: true });
      const overflowed = (registers.read32(REG.PRS) & PRS.PRO) !== 0;
      yield* this.#taken(device.rid, pasid);
      if (!overflowed) return;
      // Some were answered by the unit, and are sent again.
      if ((registers.read32(REG.PRS) & PRS.PRO) !== 0) yield this.#passed;
    }
  }

  /**
   * Waits until requests of the PASID that are in the ring now have been taken. The pass under way
   * may have begun before they came, the next one takes them; those that come meanwhile, through a
   * new translation, are not waited for.
   */
  *#taken(rid: number, pasid: number): Task {
    for (let passes = 0; passes < 2 && this.#holds(rid, pasid); passes++) yield this.#passed;
  }

  *#thread(): Task<never> {
    for (;;) {
      while (!this.#pending) yield this.#wake;
      this.#pending = false;
      yield INTEL_NS.THREAD;
      yield* this.#pass();
      this.#passed.wake();
    }
  }

  /** Takes what is in the ring; the unit sees the places free when all of them are done. */
  *#pass(): Task {
    const { registers } = this.#unit;
    // Cleared before the tail is read: a request after that raises the event again.
    registers.write32(REG.PRS, PRS.PPR);
    const tail = this.#offset(REG.PQT);
    for (let at = this.#offset(REG.PQH); at !== tail; ) {
      yield INTEL_NS.PAGE_REQUEST;
      yield* this.#take(this.base + at);
      at = (at + PAGE_REQUEST_BYTES) % RING_BYTES;
    }
    registers.write64(REG.PQH, BigInt(tail));
    if ((registers.read32(REG.PRS) & PRS.PRO) === 0) return;
    if (this.#offset(REG.PQT) !== tail) {
      this.#pending = true;
      return;
    }
    // Last requests of groups may be lost; what came of these groups will come again.
    this.#faults.discardPartial();
    registers.write32(REG.PRS, PRS.PRO);
  }

  *#take(slot: number): Task {
    const { trace } = this.#unit.platform;
    const outer = trace.cause;
    trace.adopt('host', slot);
    try {
      yield* this.#handle(slot);
    } finally {
      trace.cause = outer;
    }
  }

  *#handle(slot: number): Task {
    const w0 = this.#ram.read32(slot);
    const w1 = this.#ram.read32(slot + 4);
    const w2 = this.#ram.read32(slot + 8);
    const page = (this.#ram.read32(slot + 12) >>> 0) * 2 ** 20 + (w2 >>> 12);
    if ((w0 & W0.TYPE) !== PAGE_REQUEST_TYPE) return;
    const rid = w0 >>> W0.RID_SHIFT;
    const pasid = w1 & W1.PASID;
    const pasidValid = (w0 & W0.PP) !== 0;
    const grpid = (w2 >>> W2.PRGI_SHIFT) & W2.PRGI;
    const last = (w2 & W2.LPIG) !== 0;
    const read = (w2 & W2.RDR) !== 0;
    const write = (w2 & W2.WRR) !== 0;
    const priv = (w1 & W1.PMR) !== 0;
    const exec = (w1 & W1.EXR) !== 0;
    const refused =
      !pasidValid ||
      !isCanonicalPage(page, this.#addressWidth) ||
      (priv && (read || write)) ||
      (exec && read);
    if (!refused && last && !read && !write) return; // Stop marker: it takes no answer.
    const device = this.#deviceOf(rid);
    if (refused || device === undefined) {
      if (last) yield* this.#post(rid, pasid, pasidValid, grpid, RESPONSE.INVALID);
      return;
    }
    const perm =
      (read ? IOMMU_PGFAULT_PERM_READ : 0) |
      (write ? IOMMU_PGFAULT_PERM_WRITE : 0) |
      (exec ? IOMMU_PGFAULT_PERM_EXEC : 0) |
      (priv ? IOMMU_PGFAULT_PERM_PRIV : 0);
    const address = BigInt(page) << 12n;
    const { trace } = this.#unit.platform;
    using _span = trace.on
      ? trace.span(host.prqReport, {
          device: device.name,
          pasid,
          address,
          prgi: grpid,
          perm: permText(perm),
          last: last ? 1 : 0,
        })
      : null;
    yield* this.#faults.report(device.dev, { pasidValid, pasid, grpid, last, perm, address });
  }

  *#post(
    rid: number,
    pasid: number,
    pasidPresent: boolean,
    prgi: number,
    code: ResponseCode,
  ): Task {
    const response = pageGroupRespDesc({ rid, pasid, pasidPresent, prgi, code, last: true });
    yield* this.#unit.queue.post(response);
  }

  /** Whether the ring has a request of this function and PASID that no pass has finished with. */
  #holds(rid: number, pasid: number): boolean {
    const tail = this.#offset(REG.PQT);
    for (let at = this.#offset(REG.PQH); at !== tail; at = (at + PAGE_REQUEST_BYTES) % RING_BYTES) {
      const slot = this.base + at;
      const w0 = this.#ram.read32(slot);
      const found = (w0 & W0.PP) !== 0 ? this.#ram.read32(slot + 4) & W1.PASID : 0;
      if (w0 >>> W0.RID_SHIFT === rid && found === pasid) return true;
    }
    return false;
  }

  #offset(register: number): number {
    return Number(this.#unit.registers.read64(register)) & (RING_BYTES - PAGE_REQUEST_BYTES);
  }
}
