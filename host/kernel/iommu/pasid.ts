/**
 * Domains of PASIDs (drivers/iommu/iommu.c: iommu_attach_device_pasid and its siblings). All devices
 * of a group follow or none does, and the group's array changes only after all did.
 */
import { host } from '../../../trace/catalogue/host.ts';
import type { Tracer } from '../../../trace/tracer.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { IommuGroup } from './group.ts';
import { domainLabel, hwptOf } from './group.ts';
import type { AttachHandle, IommuDev, IommuDomain } from './ops.ts';

/**
 * Attaches a domain to a PASID of a device's group.
 *
 * Errno EOPNOTSUPP: the driver cannot attach, or could not take back, a PASID. EINVAL: a domain of
 * another driver, PASID 0, or a PASID beyond what a device of the group has. EBUSY: the PASID is
 * attached. What the driver raises, after the devices that went before are detached again.
 */
export function* attachDevicePasid(
  trace: Tracer,
  group: IommuGroup,
  domain: IommuDomain,
  dev: IommuDev,
  pasid: number,
  handle: AttachHandle | null,
): Task {
  requirePasidOps(domain, dev, pasid);
  yield* group.mutex.lock();
  try {
    const narrow = group.devices.find((one) => one.maxPasids > 0 && pasid >= one.maxPasids);
    if (narrow !== undefined) {
      throw new Errno(
        'EINVAL',
        `${narrow.name} has PASIDs below ${narrow.maxPasids}, not ${pasid}`,
      );
    }
    if (group.attachments.has(pasid)) {
      throw new Errno('EBUSY', `PASID ${pasid} of group ${group.id} is attached`);
    }
    using _span = trace.span(host.attachPasid, {
      device: dev.name,
      pasid,
      domain: domainLabel(domain),
      hwpt: hwptOf(domain),
    });
    yield* setGroupPasid(group, domain, pasid, null, handle);
    group.attachments.set(pasid, { domain, handle });
  } finally {
    group.mutex.unlock();
  }
}

/**
 * Replaces the domain of an attached PASID. The old one stays in force until the new one holds.
 *
 * Errno EOPNOTSUPP and EINVAL as for attach; EINVAL also for a PASID that is not attached and for a
 * replace without a handle or with the very attachment that is there. On any throw the old
 * attachment is what it was.
 */
export function* replaceDevicePasid(
  trace: Tracer,
  group: IommuGroup,
  domain: IommuDomain,
  dev: IommuDev,
  pasid: number,
  handle: AttachHandle | null,
): Task {
  requirePasidOps(domain, dev, pasid);
  if (handle === null) throw new Errno('EINVAL', 'a replace needs an attach handle');
  yield* group.mutex.lock();
  try {
    const current = group.attachments.get(pasid);
    if (current === undefined) {
      throw new Errno('EINVAL', `PASID ${pasid} of group ${group.id} is not attached`);
    }
    if (current.handle === handle) {
      throw new Errno('EINVAL', `PASID ${pasid} has this very attach handle`);
    }
    using _span = trace.span(host.replacePasid, {
      device: dev.name,
      pasid,
      from: domainLabel(current.domain),
      to: domainLabel(domain),
      hwpt: hwptOf(domain),
      old: hwptOf(current.domain),
    });
    if (current.domain !== domain) {
      yield* setGroupPasid(group, domain, pasid, current.domain, handle);
    }
    group.attachments.set(pasid, { domain, handle });
  } finally {
    group.mutex.unlock();
  }
}

/** Detaches a PASID; nothing happens if it is not attached. It cannot fail. */
export function* detachDevicePasid(
  trace: Tracer,
  group: IommuGroup,
  domain: IommuDomain,
  dev: IommuDev,
  pasid: number,
): Task {
  yield* group.mutex.lock();
  try {
    if (!group.attachments.has(pasid)) return;
    using _span = trace.span(host.detachPasid, {
      device: dev.name,
      pasid,
      domain: domainLabel(domain),
      hwpt: hwptOf(domain),
    });
    for (const one of pasidDevices(group)) yield* block(one, pasid, domain);
    group.attachments.delete(pasid);
  } finally {
    group.mutex.unlock();
  }
}

function requirePasidOps(domain: IommuDomain, dev: IommuDev, pasid: number): void {
  const { ops } = dev.ops.blockedDomain;
  if (domain.ops.setDevPasid === undefined || ops.setDevPasid === undefined) {
    throw new Errno('EOPNOTSUPP', `the driver of ${dev.name} attaches no domain to a PASID`);
  }
  if (domain.owner !== dev.ops) {
    throw new Errno('EINVAL', `domain ${domainLabel(domain)} is not of the driver of ${dev.name}`);
  }
  if (pasid === 0) throw new Errno('EINVAL', 'PASID 0 stands for requests without PASID');
}

function pasidDevices(group: IommuGroup): IommuDev[] {
  return group.devices.filter((dev) => dev.maxPasids > 0);
}

function* setGroupPasid(
  group: IommuGroup,
  domain: IommuDomain,
  pasid: number,
  old: IommuDomain | null,
  handle: AttachHandle | null,
): Task {
  const done: IommuDev[] = [];
  if (handle !== null) group.incoming.set(pasid, handle);
  try {
    for (const dev of pasidDevices(group)) {
      yield* domain.ops.setDevPasid!(domain, dev, pasid, old);
      done.push(dev);
    }
  } catch (error) {
    // The driver restored the device that failed; those before it are the core's to put back.
    group.incoming.delete(pasid);
    for (const earlier of done) yield* putBack(earlier, pasid, old, domain);
    throw error;
  } finally {
    group.incoming.delete(pasid);
  }
}

function* putBack(
  dev: IommuDev,
  pasid: number,
  old: IommuDomain | null,
  failed: IommuDomain,
): Task {
  if (old !== null) {
    try {
      yield* old.ops.setDevPasid!(old, dev, pasid, failed);
      return;
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
    }
  }
  yield* block(dev, pasid, failed);
}

function* block(dev: IommuDev, pasid: number, old: IommuDomain): Task {
  const blocked = dev.ops.blockedDomain;
  yield* blocked.ops.setDevPasid!(blocked, dev, pasid, old);
}
