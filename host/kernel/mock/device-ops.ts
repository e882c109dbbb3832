/** Operations on mock devices: making them, moving them between page tables, their faults. */
import type { Task } from '../../syscall.ts';
import { IOMMU_VEVENTQ_TYPE_SELFTEST } from '../../uapi/iommufd.ts';
import type {
  iommu_test_check_dev_cache,
  iommu_test_mock_domain_flags,
  iommu_test_mock_domain_replace,
  iommu_test_pasid_attach,
  iommu_test_pasid_check,
  iommu_test_pasid_detach,
  iommu_test_pasid_replace,
  iommu_test_trigger_iopf,
  iommu_test_trigger_vevent,
} from '../../uapi/iommufd-test.ts';
import {
  IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
  iommu_viommu_event_selftest,
  MOCK_DEV_CACHE_ID_MAX,
} from '../../uapi/iommufd-test.ts';
import { Errno } from '../errno.ts';
import type { Fault } from '../iommu/ops.ts';
import { NO_PASID } from '../iommu/ops.ts';
import { attachDevice, detachDevice, IommufdDevice, replaceDevice } from '../iommufd/device.ts';
import { Hwpt } from '../iommufd/hw-pagetable.ts';
import { IommufdObject } from '../iommufd/object.ts';
import type { Cmd } from './command.ts';
import type { MockDevice } from './device.ts';
import type { MockDriver } from './driver.ts';
import { SelftestDevice } from './stdev.ts';

/**
 * MOCK_DOMAIN and MOCK_DOMAIN_FLAGS: a mock device, bound and attached to `id`.
 *
 * @throws Errno EINVAL: dev_flags; what bind and attach say
 */
export function* mockDomain(
  ucmd: Cmd<typeof iommu_test_mock_domain_flags>,
  driver: MockDriver,
): Task {
  const { ctx, args } = ucmd;
  const flags = args.op === IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS ? args.dev_flags : 0;
  const stdev = new SelftestDevice(ctx, driver);
  ctx.reserve(stdev);
  let hwptId: number;
  try {
    hwptId = yield* stdev.make(flags, args.id);
  } catch (error) {
    ctx.abandon(stdev);
    throw error;
  }
  try {
    ucmd.respond({
      out_stdev_id: stdev.id,
      out_hwpt_id: hwptId,
      out_idev_id: stdev.idev.id,
    });
  } catch (error) {
    yield* ctx.abort(stdev);
    throw error;
  }
  ctx.publish(stdev);
}

/** MOCK_DOMAIN_REPLACE: moves the RID. */
export function* mockDomainReplace(ucmd: Cmd<typeof iommu_test_mock_domain_replace>): Task {
  const { id, pt_id } = ucmd.args;
  using stdev = ucmd.ctx.lookup(id, SelftestDevice);
  ucmd.respond({ pt_id: yield* replaceDevice(stdev.object.idev, NO_PASID, pt_id) });
}

/** PASID_ATTACH. An attachment that the caller never learns of is undone. */
export function* pasidAttach(ucmd: Cmd<typeof iommu_test_pasid_attach>): Task {
  const { id, pasid, pt_id } = ucmd.args;
  using stdev = ucmd.ctx.lookup(id, SelftestDevice);
  const { idev } = stdev.object;
  const attached = yield* attachDevice(idev, pasid, pt_id);
  try {
    ucmd.respond({ pt_id: attached });
  } catch (error) {
    yield* detachDevice(idev, pasid);
    throw error;
  }
}

export function* pasidReplace(ucmd: Cmd<typeof iommu_test_pasid_replace>): Task {
  const { id, pasid, pt_id } = ucmd.args;
  using stdev = ucmd.ctx.lookup(id, SelftestDevice);
  ucmd.respond({ pt_id: yield* replaceDevice(stdev.object.idev, pasid, pt_id) });
}

export function* pasidDetach(ucmd: Cmd<typeof iommu_test_pasid_detach>): Task {
  const { id, pasid } = ucmd.args;
  using stdev = ucmd.ctx.lookup(id, SelftestDevice);
  yield* detachDevice(stdev.object.idev, pasid);
}

/**
 * PASID_CHECK_HWPT: whether the core has the domain of `hwpt_id` for the PASID; 0: nothing.
 *
 * @throws Errno EINVAL: it has another one, or `hwpt_id` is no HWPT; ENOENT
 */
export function* pasidCheckHwpt(ucmd: Cmd<typeof iommu_test_pasid_check>): Task {
  const { ctx, args } = ucmd;
  using stdev = ctx.lookup(args.id, SelftestDevice);
  const { attachments } = stdev.object.idev.igroup.group;
  const attached = attachments.get(args.pasid)?.handle?.domain ?? null;
  const has = `PASID ${args.pasid} has ${attached?.label ?? 'nothing'}`;
  if (args.hwpt_id === 0) {
    if (attached !== null) throw new Errno('EINVAL', has);
    return;
  }
  using hwpt = ctx.lookup(args.hwpt_id, IommufdObject);
  if (!(hwpt.object instanceof Hwpt) || hwpt.object.domain !== attached) {
    throw new Errno('EINVAL', `${has}, not that of ${hwpt.object.type} ${args.hwpt_id}`);
  }
}

/**
 * TRIGGER_IOPF: the device asks for one page; what becomes of that does not matter here.
 *
 * @throws Errno ENOENT; EINVAL: not a mock device
 */
export function* triggerIopf(ucmd: Cmd<typeof iommu_test_trigger_iopf>, driver: MockDriver): Task {
  const { dev_id, pasid, grpid, perm, addr } = ucmd.args;
  using idev = ucmd.ctx.lookup(dev_id, IommufdDevice);
  const { dev } = idev.object;
  mockOf(idev.object, driver);
  const pasidValid = pasid !== NO_PASID;
  const fault: Fault = { pasidValid, pasid, grpid, last: true, perm, address: addr };
  try {
    yield* ucmd.ctx.kernel.iommu.reportDeviceFault(dev, fault);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
  }
}

/**
 * TRIGGER_VEVENT: the device's vIOMMU has something to tell.
 *
 * @throws Errno ENOENT: no such device, or its RID is not attached through a vIOMMU; EINVAL: not a
 *   mock device; EOPNOTSUPP: nobody made a queue for such events
 */
export function* triggerVevent(
  ucmd: Cmd<typeof iommu_test_trigger_vevent>,
  driver: MockDriver,
): Task {
  using idev = ucmd.ctx.lookup(ucmd.args.dev_id, IommufdDevice);
  const { viommu, virtId, name } = mockOf(idev.object, driver);
  if (viommu === null || virtId === 0n) throw new Errno('ENOENT', `${name} has no vIOMMU`);
  const event = iommu_viommu_event_selftest.encode({ virt_id: Number(virtId & 0xffff_ffffn) });
  viommu.reportEvent(IOMMU_VEVENTQ_TYPE_SELFTEST, event);
}

/** DEV_CHECK_CACHE. @throws Errno ENOENT; EINVAL: cache id, or another value */
export function* devCheckCache(
  ucmd: Cmd<typeof iommu_test_check_dev_cache>,
  driver: MockDriver,
): Task {
  const { id, cache_id, cache } = ucmd.args;
  using idev = ucmd.ctx.lookup(id, IommufdDevice);
  const device = mockOf(idev.object, driver);
  const value = cache_id > MOCK_DEV_CACHE_ID_MAX ? undefined : device.cache[cache_id];
  if (value !== cache) throw new Errno('EINVAL', `cache entry ${cache_id} is ${value ?? 'none'}`);
}

function mockOf(idev: IommufdDevice, driver: MockDriver): MockDevice {
  const device = driver.deviceOf(idev.dev);
  if (device === null) throw new Errno('EINVAL', `${idev.dev.name} is not a mock device`);
  return device;
}
