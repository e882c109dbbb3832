import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { AttachHandle, IommuDev, IommuDomain } from './ops.ts';

/** What a PASID of a group is attached to; slot 0 of the array is the RID. */
export interface PasidAttachment {
  readonly domain: IommuDomain;
  /** Null for an attachment by kernel code that takes no faults (a bare domain). */
  readonly handle: AttachHandle | null;
}

/** Devices that the IOMMU cannot tell apart or isolate from each other (struct iommu_group). */
export class IommuGroup {
  readonly id: number;
  readonly devices: IommuDev[] = [];
  /** Held around every change of the group's attachments. Taken inside iommufd's igroup mutex. */
  readonly mutex = new Mutex();
  /** `pasid_array`. Changed only after every device of the group followed. */
  readonly attachments = new Map<number, PasidAttachment>();
  /**
   * Attachments on their way: the driver is at work for them. What faults through the new
   * translation before the array has it belongs to them, not to the attachment they replace.
   */
  readonly incoming = new Map<number, AttachHandle>();
  readonly defaultDomain: IommuDomain;
  readonly blockingDomain: IommuDomain;
  /** Where requests without PASID go now. */
  domain: IommuDomain;
  owner: object | null = null;
  ownerCount = 0;

  constructor(id: number, defaultDomain: IommuDomain, blockingDomain: IommuDomain) {
    this.id = id;
    this.defaultDomain = defaultDomain;
    this.blockingDomain = blockingDomain;
    this.domain = defaultDomain;
  }

  /** Whether only the default or the blocking domain is attached to the RID. */
  get idle(): boolean {
    return this.domain === this.defaultDomain || this.domain === this.blockingDomain;
  }
}

/** What an event calls a domain. */
export function domainLabel(domain: IommuDomain): string {
  return domain.label ?? domain.type;
}

/** The id of the HWPT a domain belongs to, 0 for one of the kernel's own. */
export const hwptOf = ({ iommufdHwpt }: IommuDomain): number => iommufdHwpt?.id ?? 0;

/** Moves one device's RID to a domain. Errno EINVAL for a domain that cannot take a RID. */
export function* attachDevice(domain: IommuDomain, dev: IommuDev, old: IommuDomain): Task {
  if (domain.ops.attachDev === undefined) {
    throw new Errno('EINVAL', `domain ${domainLabel(domain)} cannot be attached to a device`);
  }
  yield* domain.ops.attachDev(domain, dev, old);
}

/**
 * Moves all devices of the group to a domain, or none: devices that went before the one that failed
 * go back, and are blocked where even that fails (drivers/iommu/iommu.c:
 * __iommu_group_set_domain_internal). The caller holds the mutex.
 */
export function* setGroupDomain(group: IommuGroup, domain: IommuDomain): Task {
  const old = group.domain;
  if (old === domain) return;
  const moved: IommuDev[] = [];
  for (const dev of group.devices) {
    try {
      yield* attachDevice(domain, dev, old);
    } catch (error) {
      for (const earlier of moved) yield* putBack(group, earlier, old, domain);
      throw error;
    }
    moved.push(dev);
  }
  group.domain = domain;
}

/**
 * Back to the default domain. A device that cannot go there stays blocked: whoever gives the group
 * up has no use for an error (drivers/iommu/iommu.c: IOMMU_SET_DOMAIN_MUST_SUCCEED).
 */
export function* setDefaultDomain(group: IommuGroup): Task {
  const { domain: old, defaultDomain } = group;
  if (old === defaultDomain) return;
  for (const dev of group.devices) {
    try {
      yield* attachDevice(defaultDomain, dev, old);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
    }
  }
  group.domain = defaultDomain;
}

function* putBack(group: IommuGroup, dev: IommuDev, to: IommuDomain, from: IommuDomain): Task {
  try {
    yield* attachDevice(to, dev, from);
  } catch (error) {
    if (!(error instanceof Errno) || to === group.blockingDomain) throw error;
    yield* attachDevice(group.blockingDomain, dev, from);
  }
}
