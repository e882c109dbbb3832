/** A driver that only writes down what it is asked, and refuses where the test says so. */
import { Errno } from '../../../../host/kernel/errno.ts';
import { FailPoints } from '../../../../host/kernel/failpoint.ts';
import { IommuCore } from '../../../../host/kernel/iommu/core.ts';
import type { IommuGroup } from '../../../../host/kernel/iommu/group.ts';
import type {
  DomainType,
  IommuDev,
  IommuDomain,
  IommuDomainOps,
  IommuOps,
} from '../../../../host/kernel/iommu/ops.ts';
import type { Task } from '../../../../host/syscall.ts';
import { Tracer } from '../../../../trace/tracer.ts';

/** Runs a task that must not block. */
export function finish<T>(task: Task<T>): T {
  const step = task.next();
  if (step.done !== true) throw new Error('the task blocks');
  return step.value;
}

export class FakeDriver implements IommuOps {
  readonly name = 'fake';
  readonly log: string[] = [];
  /** Calls that fail, as they are logged. */
  readonly refuse = new Set<string>();
  readonly blockedDomain: IommuDomain;
  identityDomain: IommuDomain | null;
  maxPasids = 1024;
  #domains = 0;

  constructor(options: { blockedPasid?: boolean } = {}) {
    this.blockedDomain = this.domain('blocked', options.blockedPasid ?? true);
    this.identityDomain = this.domain('identity');
  }

  domain(type: DomainType, pasid = true): IommuDomain {
    const attach: IommuDomainOps = {
      attachDev: (domain, dev, old) => this.#call(dev, 0, domain, old),
      free: () => undefined,
    };
    const ops: IommuDomainOps = {
      ...attach,
      setDevPasid: (domain, dev, number, old) => this.#call(dev, number, domain, old),
    };
    return {
      type,
      label: type === 'paging' || type === 'nested' ? `${type}${++this.#domains}` : type,
      ops: pasid ? ops : attach,
      owner: this,
      pageSizes: 4096,
      aperture: { start: 0n, last: 0xffffn },
      faultHandler: null,
    };
  }

  capable(): boolean {
    return true;
  }

  *probeDevice(dev: IommuDev): Task {
    dev.maxPasids = this.maxPasids;
  }

  *releaseDevice(): Task {
    this.log.push('release');
  }

  domainAllocPaging(): IommuDomain {
    return this.domain('paging');
  }

  reservedRegions(): readonly never[] {
    return [];
  }

  *pageResponse(dev: IommuDev, fault: { pasid: number; grpid: number }, code: number): Task {
    this.log.push(`${dev.name} response ${fault.pasid}/${fault.grpid} ${code}`);
  }

  *#call(dev: IommuDev, pasid: number, to: IommuDomain, from: IommuDomain | null): Task {
    const text = `${dev.name} ${pasid} ${from?.label ?? 'none'}>${to.label!}`;
    if (this.refuse.delete(text)) throw new Errno('ENOMEM', text);
    this.log.push(text);
  }
}

/** A core with two devices in one group. */
export function twoDevices(driver: FakeDriver): {
  core: IommuCore;
  group: IommuGroup;
  a: IommuDev;
  b: IommuDev;
} {
  const core = new IommuCore({ trace: new Tracer(() => 0), failpoints: new FailPoints() });
  const a = finish(core.addDevice({ name: 'a', rid: 8 }, driver));
  const group = core.groupOf(a);
  const b = finish(core.addDevice({ name: 'b', rid: 16 }, driver, group));
  driver.log.length = 0;
  return { core, group, a, b };
}
