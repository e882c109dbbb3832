/** The IOMMU driver of the mock devices (mock_ops, drivers/iommu/iommufd/selftest.c). */
import type { Task } from '../../syscall.ts';
import {
  IOMMU_HW_INFO_TYPE_SELFTEST,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
} from '../../uapi/iommufd.ts';
import {
  IOMMU_HW_INFO_SELFTEST_REGVAL,
  iommu_hwpt_selftest,
  iommu_test_hw_info,
  MOCK_APERTURE_LAST,
  MOCK_APERTURE_START,
  MOCK_HUGE_PAGE_SIZE,
  MOCK_IOMMUPT_DEFAULT,
  MOCK_IOMMUPT_HUGE,
  MOCK_PAGE_SIZE,
} from '../../uapi/iommufd-test.ts';
import { Errno } from '../errno.ts';
import type {
  Capability,
  HwInfo,
  IommuDev,
  IommuDomain,
  IommuDomainOps,
  IommuOps,
  UserData,
  Viommu,
} from '../iommu/ops.ts';
import { NO_PASID } from '../iommu/ops.ts';
import type { Kernel } from '../kernel.ts';
import type { Behaviour } from '../release.ts';
import { MockDevice } from './device.ts';
import type { MockPagingShape } from './domain.ts';
import {
  asPaging,
  MOCK_DIRTY_OPS,
  MockBlockedDomain,
  MockNestedDomain,
  MockPagingDomain,
} from './domain.ts';
import { initViommu } from './viommu.ts';

const PAGING_FLAGS =
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID;
const PAGE_SIZE = 4096;
const APERTURE = { start: BigInt(MOCK_APERTURE_START), last: BigInt(MOCK_APERTURE_LAST) } as const;
/** What three levels of tables map; leaves have every power of two below it. */
const TABLE_BYTES = 2 ** 38;
const WHOLE_TABLE = { start: 0n, last: BigInt(TABLE_BYTES - 1) } as const;
/** A driver may fail to attach this PASID: every second time, it does. */
const FAULTY_PASID = 1024;

export class MockDriver implements IommuOps {
  readonly name = 'iommufd_mock';
  readonly userPasidTable = true;
  readonly identityDomain = null;
  readonly blockedDomain: MockBlockedDomain;
  readonly #kernel: Kernel;
  readonly #domainOps: IommuDomainOps;
  readonly #nestedOps: IommuDomainOps;
  /** By requester id. */
  readonly #devices = new Map<number, MockDevice>();
  #domains = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    const attach: Pick<IommuDomainOps, 'attachDev' | 'setDevPasid'> = {
      attachDev: (domain, dev, old) => this.#attach(domain, dev, old),
      setDevPasid: (domain, dev, pasid, old) => this.#setPasid(domain, dev, pasid, old),
    };
    this.#domainOps = {
      ...attach,
      map: (domain, iova, paddr, bytes) => this.#map(asPaging(domain), iova, paddr, bytes),
      *unmap(domain, iova, bytes) {
        asPaging(domain).table.unmap(iova, bytes);
        return bytes;
      },
      iovaToPhys: (domain, iova) => asPaging(domain).table.lookup(iova),
      free(domain) {
        if (!asPaging(domain).table.empty) throw new Error('a domain is freed with mappings');
      },
    };
    this.#nestedOps = {
      ...attach,
      *cacheInvalidateUser(domain, array) {
        if (domain instanceof MockNestedDomain) domain.invalidate(array);
      },
      free: () => undefined,
    };
    this.blockedDomain = new MockBlockedDomain('blocked', { ...attach, free() {} }, this);
    kernel.addLeftover('pasidEntries', () =>
      [...this.#devices.values()].reduce((sum, { pasids }) => sum + pasids.size, 0),
    );
  }

  /** A new device on the mock bus. @throws Errno EINVAL: flags; ENOMEM */
  *createDevice(flags: number): Task<MockDevice> {
    const { failpoints, iommu } = this.#kernel;
    let number = 0;
    while ([...this.#devices.values()].some((device) => device.number === number)) number++;
    const device = new MockDevice(number, flags);
    failpoints.point('mock:device');
    this.#devices.set(device.rid, device);
    try {
      failpoints.point('mock:device_add');
      yield* iommu.addDevice(device, this);
    } catch (error) {
      this.#devices.delete(device.rid);
      throw error;
    }
    return device;
  }

  *removeDevice(device: MockDevice): Task {
    yield* this.#kernel.iommu.removeDevice(device);
    this.#devices.delete(device.rid);
  }

  /** The mock device behind a device of the core, or null for another driver's. */
  deviceOf(dev: IommuDev): MockDevice | null {
    return dev.ops === this ? (this.#devices.get(dev.rid) ?? null) : null;
  }

  hwInfo(_dev: IommuDev, requested: number): HwInfo {
    if (requested !== 0 && requested !== IOMMU_HW_INFO_TYPE_SELFTEST) {
      throw new Errno('EOPNOTSUPP', `hardware information of type ${requested}`);
    }
    this.#kernel.failpoints.point('mock:hw_info');
    const bytes = iommu_test_hw_info.encode({ test_reg: IOMMU_HW_INFO_SELFTEST_REGVAL });
    return { type: IOMMU_HW_INFO_TYPE_SELFTEST, bytes };
  }

  capable(dev: IommuDev, capability: Capability): boolean {
    if (capability === 'dirty') return this.#mine(dev).tracksDirty;
    return capability === 'coherency';
  }

  *probeDevice(dev: IommuDev): Task {
    dev.maxPasids = this.#mine(dev).maxPasids;
  }

  *releaseDevice(): Task {
    // A mock device has no state in the driver beyond its own object.
  }

  reservedRegions(): readonly [] {
    return [];
  }

  *pageResponse(): Task {
    // There is no device to hear it.
  }

  /** @throws Errno EOPNOTSUPP: flags, a payload the driver has not; EINVAL: its length; EFAULT */
  domainAllocPaging(dev: IommuDev, flags: number, data: UserData | null): IommuDomain {
    const device = this.#mine(dev);
    const dirty = (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0;
    if ((flags & ~PAGING_FLAGS) !== 0 || (dirty && !device.tracksDirty)) {
      throw new Errno('EOPNOTSUPP', `${device.name} with flags 0x${flags.toString(16)}`);
    }
    if (data !== null && data.type !== IOMMU_HWPT_DATA_SELFTEST) {
      throw new Errno('EOPNOTSUPP', `a paging domain with data of type ${data.type}`);
    }
    const format = data === null ? MOCK_IOMMUPT_DEFAULT : readPayload(data).pagetable_type;
    const shape = shapeOf(format, device, dirty, this.#kernel.behaviour);
    this.#kernel.failpoints.point('mock:domain_alloc');
    return new MockPagingDomain(this.#label('mock'), this.#domainOps, this, shape);
  }

  domainAllocNested(
    _dev: IommuDev,
    _parent: IommuDomain,
    flags: number,
    data: UserData,
  ): IommuDomain {
    return this.allocNested(flags, data, null);
  }

  /** @throws Errno EOPNOTSUPP: flags, type; EINVAL: length; EFAULT; ENOMEM */
  allocNested(flags: number, data: UserData, viommu: Viommu | null): MockNestedDomain {
    if (data.type !== IOMMU_HWPT_DATA_SELFTEST || (flags & ~IOMMU_HWPT_ALLOC_PASID) !== 0) {
      const type = data.type.toString(16);
      throw new Errno('EOPNOTSUPP', `type 0x${type} with flags 0x${flags.toString(16)}`);
    }
    const { iotlb } = readPayload(data);
    this.#kernel.failpoints.point('mock:domain_alloc_nested');
    return new MockNestedDomain(this.#label('mock-nested'), this.#nestedOps, this, iotlb, viommu);
  }

  hasViommu(_dev: IommuDev, type: number): boolean {
    return type === IOMMU_VIOMMU_TYPE_SELFTEST;
  }

  viommuInit(viommu: Viommu, _dev: IommuDev, data: UserData | null): void {
    initViommu(this.#kernel, this, viommu, data);
  }

  *#attach(domain: IommuDomain, dev: IommuDev, old: IommuDomain): Task {
    const device = this.#mine(dev);
    if (domain.dirtyOps !== undefined && !device.tracksDirty) {
      throw new Errno('EINVAL', `${device.name} cannot track dirty pages`);
    }
    const viommu = domain instanceof MockNestedDomain ? domain.viommu : null;
    // A guest knows the device only by what VDEVICE_ALLOC says.
    const virtId = viommu?.virtIdOf(dev) ?? 0n;
    yield* this.#switchFaults(dev, device, domain, old);
    device.viommu = viommu;
    device.virtId = virtId;
  }

  *#setPasid(domain: IommuDomain, dev: IommuDev, pasid: number, old: IommuDomain | null): Task {
    const device = this.#mine(dev);
    const blocks = domain === this.blockedDomain;
    if (pasid === FAULTY_PASID) {
      const fails = device.pasidFault && !blocks;
      device.pasidFault = !blocks && !fails;
      if (fails) throw new Errno('ENOMEM', `the mock driver fails PASID ${pasid} this time`);
    }
    if (!blocks) this.#kernel.failpoints.point('mock:set_dev_pasid');
    yield* this.#switchFaults(dev, device, domain, old);
    if (blocks) device.pasids.delete(pasid);
    else if (pasid !== NO_PASID) device.pasids.set(pasid, domain);
  }

  /** Page requests stay on from one domain that wants them to the next. */
  *#switchFaults(
    dev: IommuDev,
    device: MockDevice,
    domain: IommuDomain,
    old: IommuDomain | null,
  ): Task {
    const { iopf } = this.#kernel.iommu;
    if (domain.faultHandler !== null) {
      if (device.faultUsers === 0) iopf.addDevice(dev);
      device.faultUsers++;
    }
    if (old === null || old.faultHandler === null) return;
    if (--device.faultUsers === 0) yield* iopf.removeDevice(dev);
  }

  *#map(domain: MockPagingDomain, iova: bigint, paddr: number, bytes: number): Task {
    this.#kernel.failpoints.point('mock:map_pages', 'ENOENT');
    domain.table.map(iova, paddr, bytes);
  }

  #mine(dev: IommuDev): MockDevice {
    const device = this.#devices.get(dev.rid);
    if (device === undefined) throw new Error(`${dev.name} is no device of the mock driver`);
    return device;
  }

  #label(kind: string): string {
    return `${kind}#${++this.#domains}`;
  }
}

/** @throws Errno EINVAL: length; EFAULT */
function readPayload(data: UserData): { iotlb: number; pagetable_type: number } {
  const { bytes } = data;
  const { size, minSize } = iommu_hwpt_selftest;
  if (bytes.length < minSize || bytes.length > size) {
    throw new Errno('EINVAL', `data_len ${bytes.length} is not within ${minSize}..${size}`);
  }
  const whole = new Uint8Array(size);
  whole.set(bytes);
  return iommu_hwpt_selftest.read(new DataView(whole.buffer));
}

/** @throws Errno EOPNOTSUPP: no such format */
function shapeOf(
  format: number,
  device: MockDevice,
  dirty: boolean,
  { dirtyLeaf }: Behaviour,
): MockPagingShape {
  const dirtyOps = dirty ? MOCK_DIRTY_OPS : null;
  if (format === MOCK_IOMMUPT_HUGE) {
    const pageSizes = MOCK_HUGE_PAGE_SIZE | PAGE_SIZE;
    return { pageSizes, aperture: WHOLE_TABLE, dirtyLeaf, dirtyOps };
  }
  if (format !== MOCK_IOMMUPT_DEFAULT) throw new Errno('EOPNOTSUPP', `pagetable_type ${format}`);
  const huge = device.hugeIova ? MOCK_HUGE_PAGE_SIZE : 0;
  const pageSizes = dirtyLeaf === 'item' ? MOCK_PAGE_SIZE | huge : TABLE_BYTES - MOCK_PAGE_SIZE;
  return { pageSizes, aperture: APERTURE, dirtyLeaf, dirtyOps };
}
