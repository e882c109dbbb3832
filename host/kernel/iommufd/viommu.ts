/**
 * Virtual IOMMUs: a part of a physical one that a guest drives, with its nest parent and the devices
 * the guest knows (drivers/iommu/iommufd/viommu.c, driver.c).
 */
import type { Task } from '../../syscall.ts';
import type { iommu_viommu_alloc } from '../../uapi/iommufd.ts';
import { IOMMU_VIOMMU_TYPE_DEFAULT } from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { IommuDev, IommuDomain, Vdevice, Viommu, ViommuOps } from '../iommu/ops.ts';
import { COST } from './cost.ts';
import { IommufdDevice } from './device.ts';
import { HwptPaging } from './hw-pagetable.ts';
import { IommufdObject } from './object.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags, userData } from './ucmd.ts';

/** Where a driver's events for the guest go: a vEVENTQ. */
export interface EventSink {
  readonly eventType: number;
  /** @throws Errno ENOMEM */
  report(payload: Uint8Array): void;
}

/** The VIOMMU object. */
export class IommufdViommu extends IommufdObject {
  readonly type = 'VIOMMU';
  readonly parent: HwptPaging;
  /** The physical IOMMU. */
  readonly unit: object;
  /** As the driver knows it. */
  readonly core: ViommuCore;
  /** By virtual id. */
  readonly vdevices = new Map<bigint, Vdevice>();
  /** One of each type. */
  readonly queues: EventSink[] = [];

  /** Holds the parent. */
  constructor(parent: HwptPaging, unit: object, type: number) {
    super(parent.ctx);
    this.parent = parent;
    this.unit = unit;
    this.core = new ViommuCore(this, type);
    parent.users++;
  }

  override get parentId(): number {
    return this.parent.id;
  }

  describe(): string {
    return `on HWPT ${this.parent.id}`;
  }

  *destroy(): Task {
    this.core.ops?.destroy?.(this.core);
    this.parent.users--;
  }
}

/** The driver's view of a VIOMMU object. */
class ViommuCore implements Viommu {
  readonly type: number;
  ops: ViommuOps | null = null;
  priv: unknown = null;
  readonly #object: IommufdViommu;

  constructor(object: IommufdViommu, type: number) {
    this.#object = object;
    this.type = type;
  }

  get parent(): IommuDomain {
    return this.#object.parent.domain;
  }

  findVdevice(virtId: bigint): Vdevice | null {
    return this.#object.vdevices.get(virtId) ?? null;
  }

  virtIdOf(dev: IommuDev): bigint {
    for (const [virtId, vdevice] of this.#object.vdevices) {
      if (vdevice.dev === dev) return virtId;
    }
    throw new Errno('ENOENT', `vIOMMU ${this.#object.id} has no vDEVICE of ${dev.name}`);
  }

  reportEvent(type: number, payload: Uint8Array): void {
    if (payload.length === 0) throw new Errno('EINVAL', 'an event without payload');
    const sink = this.#object.queues.find(({ eventType }) => eventType === type);
    if (sink === undefined) {
      const what = `vEVENTQ of type 0x${type.toString(16)}`;
      throw new Errno('EOPNOTSUPP', `vIOMMU ${this.#object.id} has no ${what}`);
    }
    sink.report(payload);
  }

  allocMmap(physicalAddress: number, bytes: number): number {
    const { ctx } = this.#object;
    ctx.kernel.failpoints.point('iommufd:viommu_mmap');
    return ctx.mmaps.add({ owner: this.#object, physicalAddress, bytes });
  }

  destroyMmap(offset: number): void {
    this.#object.ctx.mmaps.remove(offset);
  }
}

/** The physical IOMMU of a device, to compare. */
export function unitOf(dev: IommuDev): object {
  return dev.ops.unitOf?.(dev) ?? dev.ops;
}

/**
 * IOMMU_VIOMMU_ALLOC.
 *
 * @throws Errno EOPNOTSUPP: flags, the default type, a driver without vIOMMUs of the type; ENOENT:
 *   dev_id, hwpt_id; EINVAL: the HWPT is no nest parent; ENOMEM; EFAULT; what the driver says
 */
export function* viommuAlloc(ucmd: Ucmd<typeof iommu_viommu_alloc.fields>): Task {
  const { ctx, process, args } = ucmd;
  onlyFlags(args.flags, 0);
  if (args.type === IOMMU_VIOMMU_TYPE_DEFAULT) {
    throw new Errno('EOPNOTSUPP', 'a vIOMMU of the default type');
  }
  using idev = ctx.lookup(args.dev_id, IommufdDevice);
  const { dev } = idev.object;
  const { ops } = dev;
  if (ops.viommuInit === undefined || ops.hasViommu?.(dev, args.type) !== true) {
    const what = `vIOMMU of type 0x${args.type.toString(16)}`;
    throw new Errno('EOPNOTSUPP', `the IOMMU of ${dev.name} offers no ${what}`);
  }
  using hwpt = ctx.lookup(args.hwpt_id, HwptPaging);
  if (!hwpt.object.nestParent) {
    throw new Errno('EINVAL', `HWPT ${args.hwpt_id} was made without NEST_PARENT`);
  }
  yield COST.IOCTL;
  ctx.kernel.failpoints.point('iommufd:viommu');
  const viommu = new IommufdViommu(hwpt.object, unitOf(dev), args.type);
  try {
    ctx.reserve(viommu);
  } catch (error) {
    yield* viommu.destroy();
    throw error;
  }
  try {
    const none = args.data_len === 0;
    const data = none ? null : userData(process.mm, args.type, args.data_uptr, args.data_len);
    ops.viommuInit(viommu.core, dev, data);
    ucmd.respond({ out_viommu_id: viommu.id });
  } catch (error) {
    yield* ctx.abort(viommu);
    throw error;
  }
  ctx.publish(viommu);
}
