import { host } from '../../../trace/catalogue/host.ts';
import type { Tracer } from '../../../trace/tracer.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { FailPoints } from '../failpoint.ts';
import {
  attachDevice,
  domainLabel,
  hwptOf,
  IommuGroup,
  setDefaultDomain,
  setGroupDomain,
} from './group.ts';
import { IopfQueue } from './io-pgfault.ts';
import type {
  AttachHandle,
  DomainType,
  Fault,
  FaultGroup,
  IommuDev,
  IommuDomain,
  IommuOps,
  ResponseCode,
} from './ops.ts';
import { attachDevicePasid, detachDevicePasid, replaceDevicePasid } from './pasid.ts';

declare module '../kernel.ts' {
  interface Kernel {
    /** Set when the IOMMU driver is up. */
    iommu: IommuCore;
  }
}

/** What the core needs of the kernel. */
export interface CoreKernel {
  readonly trace: Tracer;
  readonly failpoints: Pick<FailPoints, 'point'>;
}

/** A device of some bus, as it is handed to the core. */
export interface BusDevice {
  readonly name: string;
  readonly rid: number;
}

/** The iommu core (drivers/iommu/iommu.c): who is attached where, and nothing of how. */
export class IommuCore {
  readonly iopf: IopfQueue;
  readonly #trace: Tracer;
  readonly #failpoints: Pick<FailPoints, 'point'>;
  readonly #devices = new Map<BusDevice, IommuDev>();
  readonly #groups = new Map<IommuDev, IommuGroup>();
  #nextGroup = 0;

  constructor(kernel: CoreKernel) {
    this.#trace = kernel.trace;
    this.#failpoints = kernel.failpoints;
    this.iopf = new IopfQueue(kernel.failpoints, (dev, fault) => this.#faultHandle(dev, fault));
  }

  /**
   * Takes a device over: the driver's probe, then the default domain (identity where the driver has
   * it, else blocked). It joins `group`, or gets one of its own.
   */
  *addDevice(device: BusDevice, ops: IommuOps, group?: IommuGroup): Task<IommuDev> {
    const { name, rid } = device;
    this.#failpoints.point('iommu:dev_param');
    const dev: IommuDev = { name, rid, ops, maxPasids: 0, priv: null };
    yield* ops.probeDevice(dev);
    let home: IommuGroup;
    try {
      home = group ?? this.#newGroup(ops);
      this.#failpoints.point('iommu:group_device');
      yield* attachDevice(home.domain, dev, ops.blockedDomain);
    } catch (error) {
      yield* ops.releaseDevice(dev);
      throw error;
    }
    home.devices.push(dev);
    this.#groups.set(dev, home);
    this.#devices.set(device, dev);
    const domain = domainLabel(home.domain);
    const hwpt = hwptOf(home.domain);
    if (this.#trace.on) this.#trace.emit(host.attachRid, { device: name, domain, hwpt });
    return dev;
  }

  /** Gives a device up. Its group must have no attachment left. */
  *removeDevice(device: BusDevice): Task {
    const dev = this.#devices.get(device);
    if (dev === undefined) return;
    const group = this.groupOf(dev);
    yield* this.iopf.removeDevice(dev);
    yield* dev.ops.releaseDevice(dev);
    group.devices.splice(group.devices.indexOf(dev), 1);
    this.#groups.delete(dev);
    this.#devices.delete(device);
  }

  deviceOf(device: BusDevice): IommuDev | undefined {
    return this.#devices.get(device);
  }

  /** Errno ENODEV for a device that the core does not have. */
  groupOf(dev: IommuDev): IommuGroup {
    const group = this.#groups.get(dev);
    if (group === undefined) throw new Errno('ENODEV', `${dev.name} has no iommu group`);
    return group;
  }

  /**
   * The group's DMA belongs to `owner` from now on; its RID is blocked until a domain is attached.
   * Claims of one owner count. Errno EPERM: another owner. EBUSY: something is attached.
   */
  *claimDmaOwner(group: IommuGroup, owner: object): Task {
    yield* group.mutex.lock();
    try {
      if (group.ownerCount > 0) {
        if (group.owner !== owner) {
          throw new Errno('EPERM', `group ${group.id} has another DMA owner`);
        }
      } else {
        if (group.domain !== group.defaultDomain || group.attachments.size > 0) {
          throw new Errno('EBUSY', `group ${group.id} is attached`);
        }
        yield* setGroupDomain(group, group.blockingDomain);
        group.owner = owner;
      }
      group.ownerCount++;
    } finally {
      group.mutex.unlock();
    }
  }

  /** Ends one claim; with the last the group goes back to its default domain. Cannot fail. */
  *releaseDmaOwner(group: IommuGroup): Task {
    yield* group.mutex.lock();
    try {
      if (group.ownerCount === 0 || --group.ownerCount > 0) return;
      group.owner = null;
      yield* setDefaultDomain(group);
    } finally {
      group.mutex.unlock();
    }
  }

  /**
   * Attaches a domain to the RID. Errno EINVAL: a domain of another driver. EBUSY: the RID is
   * attached. What the driver raises, with every device back where it was.
   */
  *attachGroupHandle(domain: IommuDomain, group: IommuGroup, handle: AttachHandle): Task {
    yield* group.mutex.lock();
    try {
      if (group.attachments.has(0) || !group.idle) {
        throw new Errno('EBUSY', `the RID of group ${group.id} is attached`);
      }
      requireDriver(domain, group);
      this.#failpoints.point('iommu:pasid_array');
      using _span = this.#ridSpan(group, domain);
      group.incoming.set(0, handle);
      yield* setGroupDomain(group, domain);
      group.attachments.set(0, { domain, handle });
    } finally {
      group.incoming.delete(0);
      group.mutex.unlock();
    }
  }

  /**
   * Replaces the RID's domain. The driver is not called when the domain stays. Errno EINVAL: a
   * domain of another driver. What the driver raises, with the old domain in force.
   */
  *replaceGroupHandle(group: IommuGroup, domain: IommuDomain, handle: AttachHandle): Task {
    yield* group.mutex.lock();
    try {
      requireDriver(domain, group);
      this.#failpoints.point('iommu:pasid_array');
      using _span = this.#ridSpan(group, domain);
      group.incoming.set(0, handle);
      yield* setGroupDomain(group, domain);
      group.attachments.set(0, { domain, handle });
    } finally {
      group.incoming.delete(0);
      group.mutex.unlock();
    }
  }

  /** Detaches the RID: blocked while the group is owned, else the default domain. */
  *detachGroupHandle(_domain: IommuDomain, group: IommuGroup): Task {
    yield* group.mutex.lock();
    try {
      const next = group.owner === null ? group.defaultDomain : group.blockingDomain;
      using _span = this.#ridSpan(group, next);
      yield* setGroupDomain(group, next);
      group.attachments.delete(0);
    } finally {
      group.mutex.unlock();
    }
  }

  /** See iommu/pasid.ts; also Errno ENODEV for a device without group. */
  *attachDevicePasid(
    domain: IommuDomain,
    dev: IommuDev,
    pasid: number,
    handle: AttachHandle | null,
  ): Task {
    const group = this.groupOf(dev);
    this.#failpoints.point('iommu:pasid_array');
    yield* attachDevicePasid(this.#trace, group, domain, dev, pasid, handle);
  }

  /** See iommu/pasid.ts; also Errno ENODEV for a device without group. */
  *replaceDevicePasid(
    domain: IommuDomain,
    dev: IommuDev,
    pasid: number,
    handle: AttachHandle | null,
  ): Task {
    const group = this.groupOf(dev);
    this.#failpoints.point('iommu:pasid_array');
    yield* replaceDevicePasid(this.#trace, group, domain, dev, pasid, handle);
  }

  /** See iommu/pasid.ts. */
  *detachDevicePasid(domain: IommuDomain, dev: IommuDev, pasid: number): Task {
    yield* detachDevicePasid(this.#trace, this.groupOf(dev), domain, dev, pasid);
  }

  /**
   * Who attached `pasid` (0: the RID). Errno ENOENT: nobody, or without a handle. EBUSY: a domain of
   * another type than the one asked for.
   */
  attachHandle(group: IommuGroup, pasid: number, type?: DomainType): AttachHandle {
    const attachment = group.attachments.get(pasid);
    if (attachment === undefined || attachment.handle === null) {
      throw new Errno('ENOENT', `PASID ${pasid} of group ${group.id} has no attach handle`);
    }
    if (type !== undefined && attachment.domain.type !== type) {
      const has = attachment.domain.type;
      throw new Errno('EBUSY', `PASID ${pasid} of group ${group.id} is ${has}, not ${type}`);
    }
    return attachment.handle;
  }

  /** A driver reports a page request; see IopfQueue.report. */
  *reportDeviceFault(dev: IommuDev, fault: Fault): Task<boolean> {
    return yield* this.iopf.report(dev, fault);
  }

  /** Answers a group exactly once; false when it was answered before. */
  *pageGroupResponse(group: FaultGroup, code: ResponseCode): Task<boolean> {
    return yield* this.iopf.respond(group, code);
  }

  #newGroup(ops: IommuOps): IommuGroup {
    this.#failpoints.point('iommu:group');
    const { blockedDomain, identityDomain } = ops;
    return new IommuGroup(this.#nextGroup++, identityDomain ?? blockedDomain, blockedDomain);
  }

  #ridSpan(group: IommuGroup, domain: IommuDomain): Disposable {
    const device = group.devices[0]?.name ?? `group ${group.id}`;
    const hwpt = hwptOf(domain);
    return this.#trace.span(host.attachRid, { device, domain: domainLabel(domain), hwpt });
  }

  #faultHandle(dev: IommuDev, fault: Fault): AttachHandle | null {
    const group = this.#groups.get(dev);
    if (group === undefined) return null;
    const pasid = fault.pasidValid ? fault.pasid : 0;
    const incoming = group.incoming.get(pasid);
    if (incoming !== undefined) return incoming;
    const own = group.attachments.get(pasid);
    if (own !== undefined || !fault.pasidValid) return own?.handle ?? null;
    const rid = group.attachments.get(0);
    return dev.ops.userPasidTable === true && rid?.domain.type === 'nested' ? rid.handle : null;
  }
}

function requireDriver(domain: IommuDomain, group: IommuGroup): void {
  const foreign = group.devices.find((dev) => domain.owner !== dev.ops);
  if (foreign !== undefined) {
    throw new Errno('EINVAL', `domain ${domainLabel(domain)} is not of ${foreign.name}'s driver`);
  }
}
