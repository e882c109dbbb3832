/** An IOMMU driver that keeps its tables in maps: enough to see what iommufd asks of a driver. */
import { PciCap } from '../../../../devices/spec/pci.ts';
import { Errno } from '../../../../host/kernel/errno.ts';
import type {
  Capability,
  DomainType,
  Fault,
  FaultGroup,
  HwInfo,
  IommuDev,
  IommuDomain,
  IommuDomainOps,
  IommuOps,
  ResponseCode,
  UserArray,
  UserData,
} from '../../../../host/kernel/iommu/ops.ts';
import type { Kernel } from '../../../../host/kernel/kernel.ts';
import type { Task } from '../../../../host/syscall.ts';
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
} from '../../../../host/uapi/iommufd.ts';

export const MOCK_DATA_TYPE = 1;
export const MOCK_DATA_BYTES = 24;
export const MOCK_APERTURE = { start: 0x100_0000n, last: 0x7fff_ffffn } as const;
export const MOCK_RESERVED = { start: 0x7fee_0000n, last: 0x7fee_ffffn } as const;

/** A map call as iommufd made it. */
export interface MapCall {
  readonly iova: bigint;
  readonly paddr: number;
  readonly bytes: number;
  readonly prot: number;
}

export class MockDomain implements IommuDomain {
  readonly type: DomainType;
  readonly label: string;
  readonly ops: IommuDomainOps;
  readonly owner: IommuOps;
  readonly pageSizes = 0x4020_1000;
  readonly aperture = MOCK_APERTURE;
  readonly data: Uint8Array | null;
  readonly mapped = new Map<bigint, number>();
  mapCalls: MapCall[] = [];
  faultHandler: ((group: FaultGroup) => Task<number>) | null = null;

  constructor(driver: MockDriver, type: DomainType, id: number, data: Uint8Array | null = null) {
    this.type = type;
    this.label = `${type}#${id}`;
    this.ops = driver.domainOps;
    this.owner = driver;
    this.data = data;
  }
}

export class MockDriver implements IommuOps {
  readonly name = 'mock';
  readonly blockedDomain: MockDomain;
  readonly identityDomain = null;
  readonly domainOps: IommuDomainOps;
  /** Domains allocated and not freed. */
  readonly live = new Set<IommuDomain>();
  /** Where each device's RID and PASIDs go; the RID is 0. */
  readonly places = new Map<IommuDev, Map<number, IommuDomain>>();
  readonly responses: { fault: Fault; code: ResponseCode }[] = [];
  readonly invalidated: bigint[] = [];
  maxPasids = 1 << 20;
  coherent = true;
  /** What it says, and what comes of it. */
  enforces = false;
  enforced = true;
  isolated = false;
  readonly #kernel: Kernel;
  readonly #iopf = new Map<IommuDev, number>();
  #next = 1;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.domainOps = {
      attachDev: (domain, dev, old) => this.#place(dev, 0, domain, old),
      setDevPasid: (domain, dev, pasid, old) => this.#place(dev, pasid, domain, old),
      map: (domain, iova, paddr, bytes, prot) => this.#map(domain, iova, paddr, bytes, prot),
      unmap: (domain, iova, bytes) => this.#unmap(domain, iova, bytes),
      enforceCacheCoherency: () => this.enforced,
      cacheInvalidateUser: (_domain, array) => this.#invalidate(array),
      free: (domain) => {
        if (!this.live.delete(domain)) throw new Error('a domain is freed twice');
      },
    };
    this.blockedDomain = new MockDomain(this, 'blocked', 0);
  }

  /** Domain of a PASID, 0 for the RID, by label; 'none' without. */
  at(dev: IommuDev, pasid: number): string {
    const domain = this.places.get(dev)?.get(pasid);
    return domain instanceof MockDomain ? domain.label : 'none';
  }

  hwInfo(_dev: IommuDev, requested: number): HwInfo {
    if (requested > 1) throw new Errno('EOPNOTSUPP', `type ${requested}`);
    return { type: 1, bytes: Uint8Array.from({ length: 24 }, (_, i) => i + 1) };
  }

  capable(_dev: IommuDev, capability: Capability): boolean {
    if (capability === 'coherency') return this.coherent;
    if (capability === 'enforce-coherency') return this.enforces;
    if (capability === 'isolated-msi') return this.isolated;
    return capability === 'ats';
  }

  *probeDevice(dev: IommuDev): Task {
    dev.maxPasids = this.maxPasids;
    this.places.set(dev, new Map());
    const pdev = this.#kernel.pciDevices.find(({ rid }) => rid === dev.rid);
    // Linux enables PASID only behind end-to-end prefixes, which PCI Express tells of.
    if (pdev !== undefined && pdev.findCap(PciCap.PCIE) !== 0) pdev.enablePasid();
  }

  *releaseDevice(dev: IommuDev): Task {
    this.places.delete(dev);
  }

  domainAllocPaging(_dev: IommuDev, flags: number, data: UserData | null): IommuDomain {
    this.#kernel.failpoints.point('mock:domain_alloc');
    if (data !== null) throw new Errno('EOPNOTSUPP', 'no data for a paging domain');
    if ((flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0) throw new Errno('EOPNOTSUPP', 'dirty');
    return this.#new('paging', null);
  }

  domainAllocNested(
    _dev: IommuDev,
    _parent: IommuDomain,
    _flags: number,
    data: UserData,
  ): IommuDomain {
    this.#kernel.failpoints.point('mock:domain_alloc_nested');
    if (data.type !== MOCK_DATA_TYPE) throw new Errno('EOPNOTSUPP', `data type ${data.type}`);
    if (data.bytes.length !== MOCK_DATA_BYTES) throw new Errno('EINVAL', 'data length');
    return this.#new('nested', data.bytes);
  }

  reservedRegions(): readonly { start: bigint; last: bigint }[] {
    return [MOCK_RESERVED];
  }

  *pageResponse(_dev: IommuDev, fault: Fault, code: ResponseCode): Task {
    this.responses.push({ fault, code });
  }

  #new(type: DomainType, data: Uint8Array | null): MockDomain {
    const domain = new MockDomain(this, type, this.#next++, data);
    this.live.add(domain);
    return domain;
  }

  *#place(dev: IommuDev, pasid: number, domain: IommuDomain, old: IommuDomain | null): Task {
    const places = this.places.get(dev)!;
    if (domain !== this.blockedDomain) {
      this.#kernel.failpoints.point('mock:before');
      yield 10;
      this.#kernel.failpoints.point('mock:after');
    }
    const { iopf } = this.#kernel.iommu;
    if (domain.faultHandler !== null) {
      const users = this.#iopf.get(dev) ?? 0;
      if (users === 0) iopf.addDevice(dev);
      this.#iopf.set(dev, users + 1);
    }
    if (domain === this.blockedDomain && pasid !== 0) places.delete(pasid);
    else places.set(pasid, domain);
    if (old === null || old.faultHandler === null) return;
    const users = this.#iopf.get(dev)! - 1;
    this.#iopf.set(dev, users);
    if (users === 0) yield* iopf.removeDevice(dev);
  }

  *#map(domain: IommuDomain, iova: bigint, paddr: number, bytes: number, prot: number): Task {
    this.#kernel.failpoints.point('mock:map');
    yield 10;
    const { mapped, mapCalls } = mine(domain);
    mapCalls.push({ iova, paddr, bytes, prot });
    for (let at = 0; at < bytes; at += 4096) {
      const page = iova + BigInt(at);
      if (mapped.has(page)) throw new Error('mapped twice');
      mapped.set(page, paddr + at);
    }
  }

  *#unmap(domain: IommuDomain, iova: bigint, bytes: bigint): Task<bigint> {
    yield 10;
    const { mapped } = mine(domain);
    for (let page = iova; page < iova + bytes; page += 4096n) {
      if (!mapped.delete(page)) throw new Error(`0x${page.toString(16)} is not mapped`);
    }
    return bytes;
  }

  *#invalidate(array: UserArray): Task {
    if (array.type !== IOMMU_HWPT_INVALIDATE_DATA_VTD_S1) throw new Errno('EINVAL', 'type');
    for (let index = 0; index < array.entryCount; index++) {
      const entry = array.entry(index, 20, 24);
      const address = new DataView(entry.buffer, entry.byteOffset).getBigUint64(0, true);
      if (address % 4096n !== 0n) throw new Errno('EINVAL', 'address');
      this.invalidated.push(address);
      array.done++;
    }
  }
}

function mine(domain: IommuDomain): MockDomain {
  if (domain instanceof MockDomain) return domain;
  throw new Error(`a ${domain.type} domain of another driver`);
}
