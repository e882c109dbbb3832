/** Binding address spaces to devices (drivers/iommu/iommu-sva.c). */

import { ridToString } from '../../devices/spec/pci.ts';
import { PASID_LIMIT } from '../../devices/spec/vtd/pasid.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { GuestError } from '../errno.ts';
import type { AddressSpace } from '../mm/mm.ts';
import { Mutex, type Task } from '../task.ts';
import type { IoPageFaults } from './io-pgfault.ts';
import type { PageRequestQueue } from './prq.ts';
import { SvaDomain } from './svm.ts';
import type { IommuDevice } from './unit.ts';

/** The lowest free number is dealt first (ida_alloc_range). 0 is for requests without a PASID. */
export class PasidAllocator {
  readonly #used = new Set<number>();

  /** 1 to limit - 1. Throws GuestError ENOSPC. */
  alloc(limit: number): number {
    for (let pasid = 1; pasid < limit; pasid++) {
      if (this.#used.has(pasid)) continue;
      this.#used.add(pasid);
      return pasid;
    }
    throw new GuestError('ENOSPC', `all ${limit - 1} PASIDs are in use`);
  }

  free(pasid: number): void {
    this.#used.delete(pasid);
  }
}

/** One bind: an address space on a device; shared by all who bind the same pair. */
export interface SvaHandle {
  readonly device: IommuDevice;
  readonly domain: SvaDomain;
  users: number;
}

export class IommuSva {
  readonly #core: Core;
  readonly #faults: IoPageFaults;
  readonly #prq: PageRequestQueue | null;
  readonly #pasids = new PasidAllocator();
  readonly #domains = new Map<AddressSpace, SvaDomain>();
  readonly #handles: SvaHandle[] = [];
  readonly #lock = new Mutex();

  constructor(core: Core, faults: IoPageFaults, prq: PageRequestQueue | null) {
    this.#core = core;
    this.#faults = faults;
    this.#prq = prq;
  }

  /**
   * Binds `mm` to `device` under the PASID that the address space keeps for all devices. A second
   * bind of the pair only counts. Throws GuestError EOPNOTSUPP when the unit or the device cannot
   * share the CPU's tables, ENOSPC without a PASID, or what the entry's set-up raises.
   */
  *bind(device: IommuDevice, mm: AddressSpace): Task<SvaHandle> {
    requireSva(device);
    yield* this.#lock.lock();
    try {
      const known = this.#handles.find((h) => h.device === device && h.domain.mm === mm);
      if (known !== undefined) {
        known.users++;
        return known;
      }
      return yield* this.#attach(device, mm);
    } finally {
      this.#lock.unlock();
    }
  }

  *#attach(device: IommuDevice, mm: AddressSpace): Task<SvaHandle> {
    if (mm.pasid === 0) mm.pasid = this.#pasids.alloc(Math.min(device.pasids, PASID_LIMIT));
    const pasid = mm.pasid;
    const { trace, vm } = this.#core;
    const values = { vm, pid: mm.pid, rid: ridToString(device.rid), pasid, pgd: mm.pgd };
    using _span = trace.span(guest.bind, values);
    const existing = this.#domains.get(mm);
    const domain = existing ?? new SvaDomain(mm, pasid, this.#faults, this.#prq);
    mm.notifiers.add(domain);
    try {
      yield* domain.attach(device);
    } catch (error) {
      if (existing === undefined) mm.notifiers.delete(domain);
      throw error;
    }
    this.#domains.set(mm, domain);
    const handle: SvaHandle = { device, domain, users: 1 };
    this.#handles.push(handle);
    return handle;
  }

  /** Ends one bind; the last one takes the PASID entry down. The PASID stays with the mm. */
  *unbind(handle: SvaHandle): Task {
    yield* this.#lock.lock();
    try {
      if (--handle.users > 0) return;
      const { device, domain } = handle;
      const { trace, vm } = this.#core;
      const { pid } = domain.mm;
      const values = { vm, pid, rid: ridToString(device.rid), pasid: domain.pasid };
      using _span = trace.span(guest.unbind, values);
      this.#handles.splice(this.#handles.indexOf(handle), 1);
      yield* domain.detach(device);
      if (domain.devices === 0) {
        this.#domains.delete(domain.mm);
        domain.mm.notifiers.delete(domain);
      }
    } finally {
      this.#lock.unlock();
    }
  }

  /** The address space is gone for good: its PASID may serve another (mm_pasid_drop). */
  dropPasid(mm: AddressSpace): void {
    if (mm.pasid === 0) return;
    this.#pasids.free(mm.pasid);
    mm.pasid = 0;
  }
}

/** What SVA needs of the unit and the device (intel_iommu_enable_sva). */
function requireSva(device: IommuDevice): void {
  const missing = [
    device.unit.svmCapable ? '' : 'a unit that can share CPU page tables',
    device.pasidEnabled ? '' : 'PASID',
    device.atsEnabled ? '' : 'ATS',
    device.priSupported && !device.priEnabled ? 'page requests enabled' : '',
  ].filter((what) => what !== '');
  if (missing.length > 0) {
    throw new GuestError(
      'EOPNOTSUPP',
      `SVA on ${ridToString(device.rid)}: no ${missing.join(', ')}`,
    );
  }
}
