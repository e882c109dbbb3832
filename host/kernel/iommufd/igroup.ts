/** What the devices of one iommu group share in one iommufd context (struct iommufd_group). */
import { Mutex } from '../../machine/scheduler.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { IommuDev } from '../iommu/ops.ts';
import type { IommufdHandle } from './handle.ts';
import type { Hwpt } from './hw-pagetable.ts';
import type { IommufdCtx } from './object.ts';

/** A bound device, as its group knows it. */
export interface Member {
  readonly dev: IommuDev;
}

/** One attached PASID, or the RID. There may be a million: it is kept small. */
export class AttachSlot {
  hwpt: Hwpt;
  handle: IommufdHandle;
  /** The devices of the group that asked for it: most often one. */
  #devices: readonly Member[];

  constructor(hwpt: Hwpt, handle: IommufdHandle, device: Member) {
    this.hwpt = hwpt;
    this.handle = handle;
    this.#devices = [device];
  }

  get devices(): readonly Member[] {
    return this.#devices;
  }

  has(device: Member): boolean {
    return this.#devices.includes(device);
  }

  add(device: Member): void {
    this.#devices = [...this.#devices, device];
  }

  /** False if it was not there. */
  delete(device: Member): boolean {
    const before = this.#devices.length;
    this.#devices = this.#devices.filter((one) => one !== device);
    return this.#devices.length < before;
  }
}

export class Igroup {
  readonly group: IommuGroup;
  /** Held around every attach, replace and detach. Inside the IOAS mutex, outside the group's. */
  readonly mutex = new Mutex();
  /** By PASID; 0 is the RID. */
  readonly slots = new Map<number, AttachSlot>();
  /** Devices bound. */
  bound = 0;

  constructor(group: IommuGroup) {
    this.group = group;
  }

  /** The context's one for `group`, made if it has none. */
  static of(ctx: IommufdCtx, group: IommuGroup): Igroup {
    const found = ctx.groups.get(group) as Igroup | undefined;
    if (found !== undefined) return found;
    ctx.kernel.failpoints.point('iommufd:igroup');
    ctx.kernel.failpoints.point('iommufd:igroup_slot');
    const made = new Igroup(group);
    ctx.groups.set(group, made);
    return made;
  }
}
