import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { IopfQueue } from '../iommu/io-pgfault.ts';
import type { IommuDev } from '../iommu/ops.ts';
import type { PasidTable } from './pasid-table.ts';
import type { IntelUnit } from './unit.ts';

/** The driver's state of one function (struct device_domain_info). */
export class IntelDevice {
  readonly dev: IommuDev;
  readonly unit: IntelUnit;
  readonly table: PasidTable;
  /** What was enabled on the function at probe. */
  pasidEnabled = false;
  atsEnabled = false;
  priEnabled = false;
  /** The function wants its page request responses with the PASID. */
  responsePasid = true;
  /** Waits until the page requests of a PASID are out of the queue; set with the queue. */
  drain: (pasid: number) => Task = noDrain;
  #faultUsers = 0;

  constructor(dev: IommuDev, unit: IntelUnit, table: PasidTable) {
    this.dev = dev;
    this.unit = unit;
    this.table = table;
  }

  get name(): string {
    return this.dev.name;
  }

  get rid(): number {
    return this.dev.rid;
  }

  /**
   * One more attachment takes page requests. Errno ENODEV: PRI is not enabled on the function.
   * (drivers/iommu/intel/iommu.c: intel_iommu_enable_iopf)
   */
  enableFaults(queue: IopfQueue): void {
    if (!this.priEnabled) throw new Errno('ENODEV', `${this.name} sends no page requests`);
    if (this.#faultUsers === 0) queue.addDevice(this.dev);
    this.#faultUsers++;
  }

  /** One attachment less; with the last, what is open is answered INVALID. */
  *disableFaults(queue: IopfQueue): Task {
    if (this.#faultUsers === 0 || --this.#faultUsers > 0) return;
    yield* queue.removeDevice(this.dev);
  }
}

function* noDrain(): Task {
  // Without PRI no page request is ever under way.
}
