/**
 * Devices bound to an iommufd, and their attachments (drivers/iommu/iommufd/device.c). The VFIO side
 * calls bindDevice, attachDevice, replaceDevice, detachDevice and unbindDevice.
 */
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { BusDevice } from '../iommu/core.ts';
import type { IommuDev } from '../iommu/ops.ts';
import { NO_PASID } from '../iommu/ops.ts';
import { PciDev } from '../pci.ts';
import { Undo } from '../undo.ts';
import { IommufdHandle } from './handle.ts';
import { allocPaging, Hwpt, HwptPaging } from './hw-pagetable.ts';
import { AttachSlot, Igroup } from './igroup.ts';
import { Ioas } from './ioas.ts';
import type { IommufdCtx } from './object.ts';
import { Hold, IommufdObject } from './object.ts';
import { checkPasidCompat } from './pasid.ts';

/** The DEVICE object. */
export class IommufdDevice extends IommufdObject {
  readonly type = 'DEVICE';
  readonly dev: IommuDev;
  /** Null for a device on another bus. */
  readonly pdev: PciDev | null;
  readonly igroup: Igroup;
  /** What a guest knows it as. */
  vdevice: IommufdObject | null = null;
  /** It is being unbound: it gets no vDEVICE any more. */
  destroying = false;
  /** Whether the context lives as long as the device is bound. */
  readonly #keepsContext: boolean;

  constructor(ctx: IommufdCtx, dev: IommuDev, device: BusDevice, igroup: Igroup, keeps: boolean) {
    super(ctx);
    this.dev = dev;
    this.pdev = device instanceof PciDev ? device : null;
    this.igroup = igroup;
    this.#keepsContext = keeps;
  }

  describe(): string {
    return this.dev.name;
  }

  override *preDestroy(): Task {
    this.destroying = true;
    yield* this.igroup.mutex.lock();
    this.igroup.mutex.unlock();
    if (this.vdevice !== null) yield* this.ctx.tombstone(this.vdevice);
  }

  *destroy(): Task {
    yield* this.ctx.kernel.iommu.releaseDmaOwner(this.igroup.group);
    unboundFrom(this.ctx, this.igroup);
    if (this.#keepsContext) yield* this.ctx.unreference();
  }
}

/** A kind of attach that works on one HWPT; the igroup's rules are inside. */
type Operation = (hwpt: Hwpt) => Task;

/**
 * Gives the device's group to the context: its DMA is blocked until it is attached
 * (iommufd_device_bind).
 *
 * @param keepsContext whether the context lives on until unbind; not for the selftest's own devices
 * @throws Errno ENODEV: no IOMMU; EINVAL: DMA would not be coherent; EPERM: its interrupts are not
 *   isolated; EPERM, EBUSY: the group is in use; ENOMEM
 */
export function* bindDevice(
  ctx: IommufdCtx,
  device: BusDevice,
  keepsContext = true,
): Task<IommufdDevice> {
  const { iommu, failpoints } = ctx.kernel;
  const dev = iommu.deviceOf(device);
  if (dev === undefined) throw new Errno('ENODEV', `${device.name} is behind no IOMMU`);
  if (!dev.ops.capable(dev, 'coherency')) {
    throw new Errno('EINVAL', `DMA of ${dev.name} is not cache coherent`);
  }
  const group = iommu.groupOf(dev);
  const undo = new Undo();
  if (keepsContext) {
    ctx.reference();
    undo.defer(() => ctx.unreference());
  }
  try {
    const igroup = Igroup.of(ctx, group);
    igroup.bound++;
    undo.defer(() => {
      unboundFrom(ctx, igroup);
      return undefined;
    });
    // Devices of the selftest send no interrupts.
    if (keepsContext) requireIsolatedMsi(ctx.kernel.options.unsafeInterrupts, group.devices);
    failpoints.point('iommufd:claim_dma_owner');
    yield* iommu.claimDmaOwner(group, ctx);
    undo.defer(() => iommu.releaseDmaOwner(group));
    const idev = new IommufdDevice(ctx, dev, device, igroup, keepsContext);
    ctx.reserve(idev);
    undo.commit();
    idev.users++;
    ctx.publish(idev);
    return idev;
  } finally {
    yield* undo.unwind();
  }
}

/** @throws Errno EPERM: a device of the group could forge interrupts */
function requireIsolatedMsi(unsafe: boolean, devices: readonly IommuDev[]): void {
  const open = devices.find((dev) => !dev.ops.capable(dev, 'isolated-msi'));
  if (open === undefined || unsafe) return;
  throw new Errno('EPERM', `interrupts of ${open.name} are not remapped, and so not isolated`);
}

/** Takes the device back; every attachment must be gone (iommufd_device_unbind). */
export function* unbindDevice(idev: IommufdDevice): Task {
  yield* idev.ctx.destroyOwned(idev);
}

/**
 * The device is gone from its bus: whatever is attached to it is detached, PASIDs in ascending order
 * and the RID last, and it is taken back. HWPTs stay; a vDEVICE of it leaves a tombstone.
 */
export function* removeDevice(idev: IommufdDevice): Task {
  const attached = [...idev.igroup.slots].filter(([, slot]) => slot.has(idev));
  const pasids = attached.map(([pasid]) => pasid).filter((pasid) => pasid !== NO_PASID);
  for (const pasid of pasids.sort((a, b) => a - b)) yield* detachDevice(idev, pasid);
  yield* detachDevice(idev, NO_PASID);
  yield* unbindDevice(idev);
}

/**
 * Attaches the RID (`pasid` 0) or a PASID to a HWPT, or to an IOAS through an auto-domain.
 *
 * @returns the id of the HWPT
 * @throws Errno ENOENT: no such object; EINVAL: it cannot be attached there; EBUSY: something is
 *   attached; EADDRINUSE: the IOAS has something where the device has reserved ranges; what the
 *   core and the driver say. Then nothing has changed.
 */
export function* attachDevice(idev: IommufdDevice, pasid: number, ptId: number): Task<number> {
  const id = yield* changePt(idev, ptId, (hwpt) => attachHwpt(hwpt, idev, pasid), {
    run: (hwpt) => attachHwpt(hwpt, idev, pasid),
    undo: (hwpt) => undoAttach(hwpt, idev, pasid),
  });
  idev.users++;
  return id;
}

/**
 * Moves an attached RID or PASID to another HWPT or IOAS, the old one whole until the new one holds.
 *
 * @returns the id of the HWPT
 * @throws Errno as attachDevice; EINVAL: nothing is attached there. Then the old one stays.
 */
export function* replaceDevice(idev: IommufdDevice, pasid: number, ptId: number): Task<number> {
  const replaced: Hwpt[] = [];
  const id = yield* changePt(idev, ptId, function* (hwpt) {
    const old = yield* replaceHwpt(hwpt, idev, pasid);
    if (old !== null) replaced.push(old);
  });
  for (const old of replaced) yield* putHwpt(old);
  return id;
}

/** Detaches the RID or a PASID; nothing happens if it is not attached. */
export function* detachDevice(idev: IommufdDevice, pasid: number): Task {
  const hwpt = yield* detachHwpt(idev, pasid);
  if (hwpt === null) return;
  yield* putHwpt(hwpt);
  idev.users--;
}

/** What `pasid` of the device is attached to. */
export function attachedHwpt(idev: IommufdDevice, pasid: number): Hwpt | null {
  const slot = idev.igroup.slots.get(pasid);
  return slot?.has(idev) === true ? slot.hwpt : null;
}

/** iommufd_device_change_pt: from an object id to the HWPT that `operate` works on. */
function* changePt(
  idev: IommufdDevice,
  ptId: number,
  operate: Operation,
  inside?: { run: Operation; undo: Operation },
): Task<number> {
  using pt = idev.ctx.lookup(ptId, IommufdObject);
  if (pt.object instanceof Hwpt) {
    yield* operate(pt.object);
    return pt.object.id;
  }
  if (pt.object instanceof Ioas) return yield* autoDomain(idev, pt.object, operate, inside);
  throw new Errno('EINVAL', `object ${ptId} is of type ${pt.object.type}: no page table`);
}

/** iommufd_device_auto_get_domain: a fitting auto-domain of the IOAS, or a new one. */
function* autoDomain(
  idev: IommufdDevice,
  ioas: Ioas,
  operate: Operation,
  inside?: { run: Operation; undo: Operation },
): Task<number> {
  const { ctx } = idev;
  yield* ioas.mutex.lock();
  try {
    for (const hwpt of [...ioas.hwpts]) {
      if (!(hwpt instanceof HwptPaging) || !hwpt.auto || !ioas.hwpts.includes(hwpt)) continue;
      using _hold = new Hold(hwpt);
      try {
        yield* operate(hwpt);
        return hwpt.id;
      } catch (error) {
        // An incompatible domain; the next one, or a new one, may fit.
        if (!(error instanceof Errno) || error.code !== 'EINVAL') throw error;
      }
    }
    const request = { flags: 0, data: null, auto: true };
    const attach = inside === undefined ? request : { ...request, attach: inside };
    const hwpt = yield* allocPaging(ioas, idev.dev, attach);
    if (inside === undefined) {
      try {
        yield* operate(hwpt);
      } catch (error) {
        yield* ctx.abort(hwpt);
        throw error;
      }
    }
    ctx.publish(hwpt);
    return hwpt.id;
  } finally {
    ioas.mutex.unlock();
  }
}

/** iommufd_hw_pagetable_attach. */
function* attachHwpt(hwpt: Hwpt, idev: IommufdDevice, pasid: number): Task {
  const { igroup, ctx } = idev;
  yield* igroup.mutex.lock();
  try {
    ctx.kernel.failpoints.point('iommufd:attach_slot');
    ctx.kernel.failpoints.point('iommufd:attach_array');
    const slot = igroup.slots.get(pasid);
    if (slot?.has(idev) === true) {
      const where = pasid === NO_PASID ? 'the RID' : `PASID ${pasid}`;
      throw new Errno('EBUSY', `${where} of ${idev.dev.name} has HWPT ${slot.hwpt.id}`);
    }
    if (slot !== undefined && slot.hwpt !== hwpt) {
      throw new Errno('EINVAL', `another device of the group has HWPT ${slot.hwpt.id}`);
    }
    using undo = new DisposableStack();
    if (pasid === NO_PASID) {
      const { space } = hwpt.paging.ioas.iopt;
      ctx.kernel.failpoints.point('iommufd:enforce_resv_regions', 'EINVAL');
      space.reserve(idev, idev.dev.ops.reservedRegions(idev.dev));
      undo.defer(() => space.unreserve(idev));
    }
    if (slot === undefined) {
      checkPasidCompat(igroup.slots, hwpt, pasid);
      ctx.kernel.failpoints.point('iommufd:attach_handle');
      const handle = new IommufdHandle(hwpt.domain, idev);
      yield* orForget(hwpt, handle, coreAttach(idev, pasid, handle));
      igroup.slots.set(pasid, new AttachSlot(hwpt, handle, idev));
    } else {
      ctx.kernel.failpoints.point('iommufd:attach_device');
      slot.add(idev);
    }
    hwpt.users++;
    undo.move();
  } finally {
    igroup.mutex.unlock();
  }
}

/** iommufd_device_do_replace. @returns the HWPT whose last user here the caller must put, if any */
function* replaceHwpt(hwpt: Hwpt, idev: IommufdDevice, pasid: number): Task<Hwpt | null> {
  const { igroup, ctx } = idev;
  yield* igroup.mutex.lock();
  try {
    const slot = igroup.slots.get(pasid);
    if (slot?.has(idev) !== true) {
      const where = pasid === NO_PASID ? 'the RID' : `PASID ${pasid}`;
      throw new Errno('EINVAL', `${where} of ${idev.dev.name} is not attached`);
    }
    const { hwpt: old, handle: oldHandle } = slot;
    if (old === hwpt) return null;
    const moves = pasid === NO_PASID && old.paging.ioas !== hwpt.paging.ioas;
    using undo = new DisposableStack();
    if (moves) {
      const { space } = hwpt.paging.ioas.iopt;
      for (const one of slot.devices) {
        ctx.kernel.failpoints.point('iommufd:enforce_resv_regions', 'EINVAL');
        space.reserve(one, one.dev.ops.reservedRegions(one.dev));
        undo.defer(() => space.unreserve(one));
      }
    }
    checkPasidCompat(igroup.slots, hwpt, pasid);
    ctx.kernel.failpoints.point('iommufd:replace_handle');
    const handle = new IommufdHandle(hwpt.domain, idev);
    yield* orForget(hwpt, handle, coreReplace(idev, pasid, handle));
    undo.move();
    slot.hwpt = hwpt;
    slot.handle = handle;
    hwpt.users += slot.devices.length;
    old.users -= slot.devices.length - 1;
    if (moves) for (const one of slot.devices) old.paging.ioas.iopt.space.unreserve(one);
    yield* forget(old, oldHandle);
    return old;
  } finally {
    igroup.mutex.unlock();
  }
}

/** iommufd_hw_pagetable_detach. @returns the HWPT whose user the caller must put, if any */
function* detachHwpt(idev: IommufdDevice, pasid: number): Task<Hwpt | null> {
  const { igroup } = idev;
  yield* igroup.mutex.lock();
  try {
    const slot = igroup.slots.get(pasid);
    if (slot?.delete(idev) !== true) return null;
    const { hwpt, handle } = slot;
    if (slot.devices.length === 0) {
      yield* coreDetach(idev, pasid, handle);
      igroup.slots.delete(pasid);
      yield* forget(hwpt, handle);
    }
    if (pasid === NO_PASID) hwpt.paging.ioas.iopt.space.unreserve(idev);
    return hwpt;
  } finally {
    igroup.mutex.unlock();
  }
}

/** Undoes an attach whose HWPT its maker gives up. */
function* undoAttach(hwpt: Hwpt, idev: IommufdDevice, pasid: number): Task {
  yield* detachHwpt(idev, pasid);
  hwpt.users--;
}

/** Drops a user; an auto-domain goes with its last one (iommufd_hw_pagetable_put). */
function* putHwpt(hwpt: Hwpt): Task {
  hwpt.users--;
  if (!(hwpt instanceof HwptPaging) || !hwpt.auto) return;
  const { mutex } = hwpt.ioas;
  yield* mutex.lock();
  try {
    yield* hwpt.ctx.destroyIfUnused(hwpt);
  } finally {
    mutex.unlock();
  }
}

/** An attachment ends: nobody is asked any more what its page requests should become. */
function* forget(hwpt: Hwpt, handle: IommufdHandle): Task {
  handle.gone = true;
  if (hwpt.fault !== null) yield* hwpt.fault.autoResponse(handle);
}

/** Attaches; page requests that came on the way to an attachment that fails are answered. */
function* orForget(hwpt: Hwpt, handle: IommufdHandle, attach: Task): Task {
  try {
    yield* attach;
  } catch (error) {
    yield* forget(hwpt, handle);
    throw error;
  }
}

function* coreAttach(idev: IommufdDevice, pasid: number, handle: IommufdHandle): Task {
  const { iommu } = idev.ctx.kernel;
  const { domain } = handle;
  if (pasid === NO_PASID) yield* iommu.attachGroupHandle(domain, idev.igroup.group, handle);
  else yield* iommu.attachDevicePasid(domain, idev.dev, pasid, handle);
}

function* coreReplace(idev: IommufdDevice, pasid: number, handle: IommufdHandle): Task {
  const { iommu } = idev.ctx.kernel;
  const { domain } = handle;
  if (pasid === NO_PASID) yield* iommu.replaceGroupHandle(idev.igroup.group, domain, handle);
  else yield* iommu.replaceDevicePasid(domain, idev.dev, pasid, handle);
}

function* coreDetach(idev: IommufdDevice, pasid: number, handle: IommufdHandle): Task {
  const { iommu } = idev.ctx.kernel;
  const { domain } = handle;
  if (pasid === NO_PASID) yield* iommu.detachGroupHandle(domain, idev.igroup.group);
  else yield* iommu.detachDevicePasid(domain, idev.dev, pasid);
}

function unboundFrom(ctx: IommufdCtx, igroup: Igroup): void {
  if (--igroup.bound === 0) ctx.groups.delete(igroup.group);
}
