/** Virtual devices: a bound device under the id by which the guest's IOMMU knows it (viommu.c). */
import type { Task } from '../../syscall.ts';
import type { iommu_vdevice_alloc } from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { Vdevice } from '../iommu/ops.ts';
import { IommufdDevice } from './device.ts';
import { IommufdObject } from './object.ts';
import type { Ucmd } from './ucmd.ts';
import { IommufdViommu, unitOf } from './viommu.ts';

/**
 * The VDEVICE object. It holds its vIOMMU. Its device goes without asking it: then it leaves a
 * tombstone.
 */
export class IommufdVdevice extends IommufdObject {
  readonly type = 'VDEVICE';
  readonly viommu: IommufdViommu;
  readonly idev: IommufdDevice;
  /** As the driver knows it. */
  readonly core: Vdevice;

  constructor(viommu: IommufdViommu, idev: IommufdDevice, virtId: bigint) {
    super(viommu.ctx);
    this.viommu = viommu;
    this.idev = idev;
    this.core = { virtId, dev: idev.dev, viommu: viommu.core, priv: null };
    viommu.users++;
    idev.enter();
    idev.vdevice = this;
  }

  override get parentId(): number {
    return this.viommu.id;
  }

  describe(): string {
    const { virtId } = this.core;
    return `${this.idev.dev.name} as 0x${virtId.toString(16)} of vIOMMU ${this.viommu.id}`;
  }

  *destroy(): Task {
    const { viommu, idev, core } = this;
    if (viommu.vdevices.get(core.virtId) === core) {
      viommu.core.ops?.vdeviceDestroy?.(core);
      viommu.vdevices.delete(core.virtId);
    }
    idev.vdevice = null;
    idev.leave();
    viommu.users--;
  }
}

/**
 * IOMMU_VDEVICE_ALLOC.
 *
 * @throws Errno ENOENT: viommu_id, dev_id, a device on its way out; EINVAL: the device is behind
 *   another physical IOMMU; EEXIST: the device has a vDEVICE, or the vIOMMU has the id; ENOMEM;
 *   EFAULT; what the driver says
 */
export function* vdeviceAlloc(ucmd: Ucmd<typeof iommu_vdevice_alloc.fields>): Task {
  const { ctx, args } = ucmd;
  using viommuHold = ctx.lookup(args.viommu_id, IommufdViommu);
  using idevHold = ctx.lookup(args.dev_id, IommufdDevice);
  const [viommu, idev] = [viommuHold.object, idevHold.object];
  if (viommu.unit !== unitOf(idev.dev)) {
    throw new Errno('EINVAL', `${idev.dev.name} is behind another IOMMU than vIOMMU ${viommu.id}`);
  }
  const { mutex } = idev.igroup;
  yield* mutex.lock();
  try {
    if (idev.destroying) throw new Errno('ENOENT', `${idev.dev.name} is being unbound`);
    if (idev.vdevice !== null) {
      throw new Errno('EEXIST', `${idev.dev.name} has vDEVICE ${idev.vdevice.id}`);
    }
    ctx.kernel.failpoints.point('iommufd:vdevice');
    const vdevice = new IommufdVdevice(viommu, idev, args.virt_id);
    try {
      ctx.reserve(vdevice);
    } catch (error) {
      yield* vdevice.destroy();
      throw error;
    }
    try {
      connect(vdevice);
      ucmd.respond({ out_vdevice_id: vdevice.id });
    } catch (error) {
      yield* ctx.abort(vdevice);
      throw error;
    }
    ctx.publish(vdevice);
  } finally {
    mutex.unlock();
  }
}

function connect({ viommu, core }: IommufdVdevice): void {
  const { virtId } = core;
  if (viommu.vdevices.has(virtId)) {
    throw new Errno('EEXIST', `vIOMMU ${viommu.id} has a vDEVICE 0x${virtId.toString(16)}`);
  }
  viommu.ctx.kernel.failpoints.point('iommufd:vdevice_slot');
  viommu.vdevices.set(virtId, core);
  try {
    viommu.core.ops?.vdeviceInit?.(core);
  } catch (error) {
    viommu.vdevices.delete(virtId);
    throw error;
  }
}
