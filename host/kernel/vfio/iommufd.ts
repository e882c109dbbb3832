/** A VFIO device's side of iommufd (drivers/vfio/iommufd.c): what is attached, and taking it back. */
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import { NO_PASID } from '../iommu/ops.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import {
  attachDevice,
  bindDevice,
  detachDevice,
  replaceDevice,
  unbindDevice,
} from '../iommufd/device.ts';
import type { IommufdCtx } from '../iommufd/object.ts';
import type { PciDev } from '../pci.ts';

/** The numbers of attached PASIDs are kept in an IDA, which ends there. */
const PASID_END = 2 ** 31;

/** A device bound to an iommufd. */
export class VfioIommufd {
  readonly idev: IommufdDevice;
  #attached = false;
  readonly #pasids = new Set<number>();

  private constructor(idev: IommufdDevice) {
    this.idev = idev;
  }

  /** @throws Errno as bindDevice */
  static *bind(ctx: IommufdCtx, pdev: PciDev): Task<VfioIommufd> {
    return new VfioIommufd(yield* bindDevice(ctx, pdev));
  }

  /** Detaches everything, PASIDs first in ascending order, and gives the device back. */
  *unbind(): Task {
    for (const pasid of [...this.#pasids].sort((a, b) => a - b)) yield* this.detachPasid(pasid);
    yield* this.detach();
    yield* unbindDevice(this.idev);
  }

  /** Attaches the RID, or replaces what it has. @returns the HWPT's id @throws Errno */
  *attach(ptId: number): Task<number> {
    if (this.#attached) return yield* replaceDevice(this.idev, NO_PASID, ptId);
    const id = yield* attachDevice(this.idev, NO_PASID, ptId);
    this.#attached = true;
    return id;
  }

  /** Silent when nothing is attached. */
  *detach(): Task {
    if (!this.#attached) return;
    yield* detachDevice(this.idev, NO_PASID);
    this.#attached = false;
  }

  /** Attaches a PASID, or replaces what it has. @throws Errno; ENOSPC: no such number can be kept */
  *attachPasid(pasid: number, ptId: number): Task<number> {
    if (this.#pasids.has(pasid)) return yield* replaceDevice(this.idev, pasid, ptId);
    if (pasid >= PASID_END) throw new Errno('ENOSPC', `PASID ${pasid} is not below 2^31`);
    this.idev.ctx.kernel.failpoints.point('vfio:pasid_number');
    const id = yield* attachDevice(this.idev, pasid, ptId);
    this.#pasids.add(pasid);
    return id;
  }

  /** Silent when it is not attached. */
  *detachPasid(pasid: number): Task {
    if (!this.#pasids.has(pasid)) return;
    yield* detachDevice(this.idev, pasid);
    this.#pasids.delete(pasid);
  }
}
