/** IOMMU_HWPT_ALLOC (iommufd_hwpt_alloc, hw_pagetable.c). */
import type { Task } from '../../syscall.ts';
import type { iommu_hwpt_alloc } from '../../uapi/iommufd.ts';
import { IOMMU_HWPT_DATA_NONE, IOMMU_HWPT_FAULT_ID_VALID } from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import { COST } from './cost.ts';
import { IommufdDevice } from './device.ts';
import { FaultQueue } from './eventq.ts';
import type { Hwpt } from './hw-pagetable.ts';
import { allocNested, allocPaging, allocViommuNested, HwptPaging } from './hw-pagetable.ts';
import { Ioas } from './ioas.ts';
import type { Hold, IommufdCtx } from './object.ts';
import { IommufdObject } from './object.ts';
import type { Ucmd } from './ucmd.ts';
import { reservedZero, userData } from './ucmd.ts';
import { IommufdViommu, unitOf } from './viommu.ts';

type AllocUcmd = Ucmd<typeof iommu_hwpt_alloc.fields>;

/**
 * Makes a HWPT for a device: paging from an IOAS, nested from a parent HWPT or through a vIOMMU.
 *
 * @throws Errno EOPNOTSUPP: flags, reserved; EINVAL: data, pt_id; ENOENT: dev_id, fault_id; ENOMEM;
 *   EFAULT; what the driver says
 */
export function* hwptAlloc(ucmd: AllocUcmd): Task {
  const { ctx, process, args } = ucmd;
  reservedZero(args.__reserved);
  const none = args.data_type === IOMMU_HWPT_DATA_NONE;
  if (none !== (args.data_len === 0)) {
    throw new Errno('EINVAL', `data_type ${args.data_type} with data_len ${args.data_len}`);
  }
  const data = none ? null : userData(process.mm, args.data_type, args.data_uptr, args.data_len);
  using idev = ctx.lookup(args.dev_id, IommufdDevice);
  using pt = lookupPt(ctx, args.pt_id);
  yield COST.IOCTL;
  if (pt.object instanceof Ioas) {
    const { mutex } = pt.object;
    yield* mutex.lock();
    try {
      const request = { flags: args.flags, data, auto: false };
      const hwpt = yield* allocPaging(pt.object, idev.object.dev, request);
      yield* finish(ucmd, hwpt);
    } finally {
      mutex.unlock();
    }
    return;
  }
  if (pt.object instanceof IommufdViommu) {
    const { dev } = idev.object;
    if (pt.object.unit !== unitOf(dev)) {
      throw new Errno('EINVAL', `${dev.name} is behind another IOMMU than vIOMMU ${args.pt_id}`);
    }
    yield* finish(ucmd, allocViommuNested(pt.object, args.flags, data));
    return;
  }
  if (!(pt.object instanceof HwptPaging)) {
    throw new Errno('EINVAL', `pt_id ${args.pt_id} is of type ${pt.object.type}`);
  }
  yield* finish(ucmd, allocNested(pt.object, idev.object.dev, args.flags, data));
}

/** An unknown pt_id is EINVAL, unlike every other id. */
function lookupPt(ctx: IommufdCtx, id: number): Hold<IommufdObject> {
  try {
    return ctx.lookup(id, IommufdObject);
  } catch (error) {
    if (error instanceof Errno && error.code === 'ENOENT') {
      throw new Errno('EINVAL', `pt_id: ${error.reason}`);
    }
    throw error;
  }
}

/** Connects the fault queue, replies and publishes; or takes the HWPT back. */
function* finish(ucmd: AllocUcmd, hwpt: Hwpt): Task {
  const { ctx, args } = ucmd;
  try {
    if ((args.flags & IOMMU_HWPT_FAULT_ID_VALID) !== 0) {
      using fault = ctx.lookup(args.fault_id, FaultQueue);
      hwpt.deliverFaultsTo(fault.object);
    }
    ucmd.respond({ out_hwpt_id: hwpt.id });
  } catch (error) {
    yield* ctx.abort(hwpt);
    throw error;
  }
  ctx.publish(hwpt);
}
