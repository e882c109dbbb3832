/** The driver as the iommu core sees it (drivers/iommu/intel/iommu.c: intel_iommu_ops). */
import { INTERRUPT_WINDOW } from '../../../devices/spec/msi.ts';
import type { Task } from '../../syscall.ts';
import {
  IOMMU_HW_INFO_TYPE_DEFAULT,
  IOMMU_HW_INFO_TYPE_INTEL_VTD,
  IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_FAULT_ID_VALID,
  iommu_hw_info_vtd,
} from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { IopfQueue } from '../iommu/io-pgfault.ts';
import type {
  Capability,
  Fault,
  HwInfo,
  IommuDev,
  IommuDomain,
  IommuDomainOps,
  IommuOps,
  ResponseCode,
  UserArray,
  UserData,
} from '../iommu/ops.ts';
import { attachPasid, detachPasid } from './attach.ts';
import { IntelDevice } from './device.ts';
import type { IntelDomain } from './domain.ts';
import { DomainNames } from './domain.ts';
import { IdentityDomain } from './identity.ts';
import { NestedDomain, readFirstStage } from './nested.ts';
import { PagingDomain } from './paging.ts';
import type { UnitParts } from './probe.ts';

/** How the driver finds and handles a function; init.ts knows the platform's tables. */
export interface Functions {
  probe(dev: IommuDev): Task<IntelDevice>;
  release(device: IntelDevice): Task;
  partsOf(device: IntelDevice): UnitParts;
}

const NO_CAPS = { pageSizes: 0, aperture: { start: 0n, last: 0n } } as const;

/** The functions' RIDs to their state, and the operations of all domains. */
export class IntelIommuOps implements IommuOps {
  readonly name = 'intel-iommu';
  readonly blockedDomain: IommuDomain;
  readonly identityDomain: IommuDomain | null;
  readonly devices = new Map<number, IntelDevice>();
  readonly #faults: IopfQueue;
  readonly #functions: Functions;
  readonly #names = new DomainNames();
  readonly #pagingOps: IommuDomainOps;
  readonly #nestedOps: IommuDomainOps;

  /** @param passThrough every unit has ECAP.PT */
  constructor(faults: IopfQueue, functions: Functions, passThrough: boolean) {
    this.#faults = faults;
    this.#functions = functions;
    const attach: Pick<IommuDomainOps, 'attachDev' | 'setDevPasid'> = {
      attachDev: (domain, dev, old) => this.#attach(domain, dev, 0, old),
      setDevPasid: (domain, dev, pasid, old) => this.#attach(domain, dev, pasid, old),
    };
    const free = (): void => undefined;
    this.#pagingOps = { ...attach, ...pagingOps };
    this.#nestedOps = { ...attach, ...nestedOps };
    this.identityDomain = passThrough ? new IdentityDomain(this, { ...attach, free }) : null;
    this.blockedDomain = {
      ...NO_CAPS,
      type: 'blocked',
      label: 'blocked',
      owner: this,
      faultHandler: null,
      ops: {
        attachDev: (_domain, dev, old) => this.#detach(dev, 0, old),
        setDevPasid: (_domain, dev, pasid, old) => this.#detach(dev, pasid, old),
        free,
      },
    };
  }

  /** CAP and ECAP as the unit reports them. Errno EOPNOTSUPP for a type that is not VT-d's. */
  hwInfo(dev: IommuDev, requested: number): HwInfo {
    if (requested !== IOMMU_HW_INFO_TYPE_DEFAULT && requested !== IOMMU_HW_INFO_TYPE_INTEL_VTD) {
      throw new Errno('EOPNOTSUPP', `hw_info of type ${requested} from a VT-d unit`);
    }
    const { registers } = deviceOf(dev).unit;
    const bytes = iommu_hw_info_vtd.encode({
      flags: IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17,
      cap_reg: registers.capWord,
      ecap_reg: registers.ecapWord,
    });
    return { type: IOMMU_HW_INFO_TYPE_INTEL_VTD, bytes };
  }

  capable(dev: IommuDev, capability: Capability): boolean {
    if (capability === 'coherency') return true;
    const device = deviceOf(dev);
    if (capability === 'dirty') return device.unit.ecap.SSADS === 1;
    if (capability === 'enforce-coherency') return device.unit.ecap.SC === 1;
    // The driver does not turn interrupt remapping on.
    if (capability === 'isolated-msi') return false;
    return device.atsEnabled;
  }

  *probeDevice(dev: IommuDev): Task {
    const device = yield* this.#functions.probe(dev);
    dev.priv = device;
    this.devices.set(dev.rid, device);
  }

  *releaseDevice(dev: IommuDev): Task {
    const device = deviceOf(dev);
    yield* this.#functions.release(device);
    this.devices.delete(dev.rid);
    dev.priv = null;
  }

  /**
   * A second-stage domain. Errno EOPNOTSUPP: user data, a flag other than NEST_PARENT, PASID and
   * DIRTY_TRACKING, or one of them on a unit that cannot do it. ENOMEM.
   */
  domainAllocPaging(dev: IommuDev, flags: number, data: UserData | null): IommuDomain {
    const { unit } = deviceOf(dev);
    const known =
      IOMMU_HWPT_ALLOC_NEST_PARENT |
      IOMMU_HWPT_ALLOC_PASID |
      IOMMU_HWPT_ALLOC_DIRTY_TRACKING |
      IOMMU_HWPT_FAULT_ID_VALID;
    if (data !== null) throw new Errno('EOPNOTSUPP', 'a paging domain takes no driver data');
    if ((flags & ~known) !== 0) throw new Errno('EOPNOTSUPP', `paging domain, flags ${flags}`);
    const nestParent = (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    if (nestParent && !unit.nestedSupported) {
      throw new Errno('EOPNOTSUPP', 'the unit has no nested translation');
    }
    const dirtyTracking = (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0;
    if (dirtyTracking && unit.ecap.SSADS === 0) {
      throw new Errno('EOPNOTSUPP', 'the unit keeps no second-stage dirty bits');
    }
    unit.platform.failpoints.point('intel:domain');
    const use = { nestParent, dirtyTracking };
    return new PagingDomain(this, this.#pagingOps, unit, this.#names.next('paging'), use);
  }

  /**
   * A guest's first stage on `parent`. Errno EOPNOTSUPP: no nested translation, a flag other than
   * PASID, data that is not VTD_S1. EINVAL: `parent` is no nest parent of this driver.
   */
  domainAllocNested(
    dev: IommuDev,
    parent: IommuDomain,
    flags: number,
    data: UserData,
  ): IommuDomain {
    const { unit } = deviceOf(dev);
    const known = IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_FAULT_ID_VALID;
    if (!unit.nestedSupported || (flags & ~known) !== 0 || data.type !== IOMMU_HWPT_DATA_VTD_S1) {
      throw new Errno('EOPNOTSUPP', `nested domain, flags ${flags}, data type ${data.type}`);
    }
    if (!(parent instanceof PagingDomain) || parent.owner !== this || !parent.nestParent) {
      throw new Errno('EINVAL', 'the parent is no second-stage nest parent');
    }
    unit.platform.failpoints.point('intel:domain');
    const firstStage = readFirstStage(data.bytes);
    return new NestedDomain(this, this.#nestedOps, this.#names.next('nested'), parent, firstStage);
  }

  /** The interrupt window, which no DMA mapping can use. */
  reservedRegions(_dev: IommuDev): readonly { readonly start: bigint; readonly last: bigint }[] {
    const { BASE, LIMIT } = INTERRUPT_WINDOW;
    return [{ start: BigInt(BASE), last: BigInt(LIMIT) }];
  }

  *pageResponse(dev: IommuDev, fault: Fault, code: ResponseCode): Task {
    const device = deviceOf(dev);
    const { pageRequests } = this.#functions.partsOf(device);
    if (pageRequests !== null) yield* pageRequests.respond(device, fault, code);
  }

  /** Present PASID-table entries of PASIDs other than 0, counted in memory. */
  livePasidEntries(): number {
    let count = 0;
    for (const device of this.devices.values()) count += device.table.live();
    return count;
  }

  *#attach(domain: IommuDomain, dev: IommuDev, pasid: number, old: IommuDomain | null): Task {
    const next = this.#own(domain);
    if (next === null) throw new Errno('EINVAL', `${domain.type} domain of another kind`);
    yield* attachPasid(deviceOf(dev), this.#faults, next, pasid, this.#own(old));
  }

  *#detach(dev: IommuDev, pasid: number, old: IommuDomain | null): Task {
    yield* detachPasid(deviceOf(dev), this.#faults, this.#own(old), pasid);
  }

  /** A domain of this driver that translates; null for the blocked one and none. */
  #own(domain: IommuDomain | null): IntelDomain | null {
    if (domain instanceof PagingDomain || domain instanceof NestedDomain) return domain;
    return domain instanceof IdentityDomain ? domain : null;
  }
}

function deviceOf(dev: IommuDev): IntelDevice {
  if (dev.priv instanceof IntelDevice) return dev.priv;
  throw new Errno('ENODEV', `${dev.name} is not behind a VT-d unit`);
}

function paging(domain: IommuDomain): PagingDomain {
  if (domain instanceof PagingDomain) return domain;
  throw new Errno('EINVAL', `a ${domain.type} domain has no mappings`);
}

const pagingOps: IommuDomainOps = {
  map: (domain, iova, paddr, bytes, prot) => paging(domain).map(iova, paddr, bytes, prot),
  unmap: (domain, iova, bytes) => paging(domain).unmap(iova, bytes),
  iovaToPhys: (domain, iova) => paging(domain).iovaToPhys(iova),
  enforceCacheCoherency: (domain) => paging(domain).enforceCacheCoherency(),
  free: (domain) => paging(domain).free(),
};

const nestedOps: IommuDomainOps = {
  *cacheInvalidateUser(domain: IommuDomain, array: UserArray): Task {
    if (!(domain instanceof NestedDomain)) throw new Errno('EINVAL', 'not a nested domain');
    yield* domain.invalidate(array);
  },
  free: () => undefined,
};
