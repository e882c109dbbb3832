/** An SVA domain: one address space bound to devices under its PASID (drivers/iommu/intel/svm.c). */
import { RESPONSE } from '../../devices/spec/vtd/page-request.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import { type AddressSpace, faultResolved, type MmuNotifier } from '../mm/mm.ts';
import type { Task } from '../task.ts';
import { flushRange } from './flush.ts';
import type { FaultGroup, FaultHandler, IoPageFaults } from './io-pgfault.ts';
import type { FirstStage } from './pasid.ts';
import { replaceFirstStage, setupFirstStage, tearDown } from './pasid.ts';
import type { PageRequestQueue } from './prq.ts';
import { FLPT_DEFAULT_DID, type IommuDevice } from './unit.ts';

export class SvaDomain implements MmuNotifier, FaultHandler {
  readonly mm: AddressSpace;
  readonly pasid: number;
  /** Devices whose caches may hold translations of this domain (its cache tags). */
  readonly #devices = new Set<IommuDevice>();
  readonly #faults: IoPageFaults;
  readonly #prq: PageRequestQueue | null;

  constructor(mm: AddressSpace, pasid: number, faults: IoPageFaults, prq: PageRequestQueue | null) {
    this.mm = mm;
    this.pasid = pasid;
    this.#faults = faults;
    this.#prq = prq;
  }

  /** Devices it is attached to. */
  get devices(): number {
    return this.#devices.size;
  }

  #firstStage(): FirstStage {
    return { root: this.mm.pgd, did: FLPT_DEFAULT_DID, levels: this.mm.table.levels };
  }

  /** intel_svm_set_dev_pasid. GuestError EBUSY, ENOMEM, EINVAL, ETIMEDOUT: nothing is left then. */
  *attach(device: IommuDevice): Task {
    this.#devices.add(device);
    this.#faults.attach(device, this.pasid, this);
    try {
      yield* setupFirstStage(device, this.pasid, this.#firstStage());
    } catch (error) {
      this.#devices.delete(device);
      this.#faults.detach(device, this.pasid);
      throw error;
    }
  }

  /** intel_iommu_remove_dev_pasid: cache tags first, then the entry, then its page requests. */
  *detach(device: IommuDevice): Task {
    this.#devices.delete(device);
    yield* tearDown(device, this.pasid, false);
    const skipsDrain = device.unit.core.bugs?.has('guest-teardown-no-drain') === true;
    if (this.#prq !== null && !skipsDrain) yield* this.#prq.drain(device, this.pasid);
    this.#faults.detach(device, this.pasid);
  }

  *invalidateRange(start: number, end: number): Task {
    for (const device of [...this.#devices]) {
      const { core } = device.unit;
      const values = { vm: core.vm, pid: this.mm.pid, pasid: this.pasid, start, end };
      using _span = core.trace.span(guest.notifier, values);
      yield* flushRange(device, FLPT_DEFAULT_DID, this.pasid, start, end);
    }
  }

  *rootChanged(): Task {
    for (const device of [...this.#devices]) {
      yield* replaceFirstStage(device, this.pasid, this.#firstStage());
    }
  }

  /** The process died while bound: block its DMA, without faults, while the tables still live. */
  *release(): Task {
    for (const device of [...this.#devices]) yield* tearDown(device, this.pasid, true);
  }

  /** Serves a group: the first page that cannot be had makes the whole group invalid. */
  serve(group: FaultGroup): number {
    for (const request of group.requests) {
      if (!request.read && !request.write) continue;
      const outcome = this.mm.handleFault(request.address, request.write, 'device');
      if (!faultResolved(outcome)) return RESPONSE.INVALID;
    }
    return RESPONSE.SUCCESS;
  }
}
