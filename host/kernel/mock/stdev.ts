/** The SELFTEST object: a mock device, bound and attached (struct selftest_obj). */
import type { Task } from '../../syscall.ts';
import { NO_PASID } from '../iommu/ops.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import { attachDevice, bindDevice, detachDevice, unbindDevice } from '../iommufd/device.ts';
import type { IommufdCtx } from '../iommufd/object.ts';
import { IommufdObject } from '../iommufd/object.ts';
import { Undo } from '../undo.ts';
import type { MockDevice } from './device.ts';
import type { MockDriver } from './driver.ts';

export class SelftestDevice extends IommufdObject {
  readonly type = 'SELFTEST';
  readonly #driver: MockDriver;
  #parts: { readonly device: MockDevice; readonly idev: IommufdDevice } | null = null;

  constructor(ctx: IommufdCtx, driver: MockDriver) {
    super(ctx);
    this.#driver = driver;
  }

  /** The bound device. Only a look-up finds the object, and only when it is whole. */
  get idev(): IommufdDevice {
    if (this.#parts === null) throw new Error(`SELFTEST ${this.id} is used before it is made`);
    return this.#parts.idev;
  }

  describe(): string {
    return this.#parts?.device.name ?? 'mock device';
  }

  /**
   * Makes the device, binds it and attaches its RID; all or nothing.
   *
   * @returns the id of the HWPT
   * @throws Errno EINVAL: flags; what bind and attach say
   */
  *make(flags: number, ptId: number): Task<number> {
    const undo = new Undo();
    try {
      const device = yield* this.#driver.createDevice(flags);
      undo.defer(() => this.#driver.removeDevice(device));
      const idev = yield* bindDevice(this.ctx, device, false);
      undo.defer(() => unbindDevice(idev));
      const hwptId = yield* attachDevice(idev, NO_PASID, ptId);
      this.#parts = { device, idev };
      undo.commit();
      return hwptId;
    } finally {
      yield* undo.unwind();
    }
  }

  /** Detaches all that a test has left attached, unbinds and removes the device. */
  *destroy(): Task {
    if (this.#parts === null) return;
    const { device, idev } = this.#parts;
    const pasids = [...idev.igroup.slots.keys()].sort((a, b) => b - a);
    for (const pasid of pasids) yield* detachDevice(idev, pasid);
    yield* unbindDevice(idev);
    yield* this.#driver.removeDevice(device);
  }
}
