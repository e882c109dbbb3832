/** Domains of the mock IOMMU (drivers/iommu/iommufd/selftest.c). */

import type { Task } from '../../syscall.ts';
import { IOMMU_HWPT_INVALIDATE_DATA_SELFTEST } from '../../uapi/iommufd.ts';
import {
  IOMMU_TEST_INVALIDATE_FLAG_ALL,
  iommu_hwpt_invalidate_selftest,
  MOCK_NESTED_DOMAIN_IOTLB_ID_MAX,
  MOCK_NESTED_DOMAIN_IOTLB_NUM,
} from '../../uapi/iommufd-test.ts';
import { Errno } from '../errno.ts';
import type {
  DirtyOps,
  DirtyRecord,
  DomainType,
  FaultGroup,
  IommuDomain,
  IommuDomainOps,
  IommuOps,
  UserArray,
  Viommu,
} from '../iommu/ops.ts';
import type { Behaviour } from '../release.ts';
import { MockPageTable } from './page-table.ts';

const NOWHERE = { start: 0n, last: 0n } as const;

/** What domains of all kinds have. */
abstract class MockDomain implements IommuDomain {
  abstract readonly type: DomainType;
  readonly label: string;
  readonly ops: IommuDomainOps;
  readonly owner: IommuOps;
  readonly pageSizes: number = 0;
  readonly aperture: { readonly start: bigint; readonly last: bigint } = NOWHERE;
  faultHandler: ((group: FaultGroup) => Task<number>) | null = null;

  constructor(label: string, ops: IommuDomainOps, owner: IommuOps) {
    this.label = label;
    this.ops = ops;
    this.owner = owner;
  }
}

/** Where a mock device's DMA goes when nothing is attached. */
export class MockBlockedDomain extends MockDomain {
  readonly type = 'blocked';
}

/** How a paging domain is made. */
export interface MockPagingShape {
  readonly pageSizes: number;
  readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly dirtyLeaf: Behaviour['dirtyLeaf'];
  /** Null: it cannot track dirty pages. */
  readonly dirtyOps: DirtyOps | null;
}

export class MockPagingDomain extends MockDomain {
  readonly type = 'paging';
  override readonly pageSizes: number;
  override readonly aperture: { readonly start: bigint; readonly last: bigint };
  readonly dirtyOps?: DirtyOps;
  readonly table: MockPageTable;
  /** Dirty tracking is on. */
  tracking = false;

  constructor(label: string, ops: IommuDomainOps, owner: IommuOps, shape: MockPagingShape) {
    super(label, ops, owner);
    this.pageSizes = shape.pageSizes;
    this.aperture = shape.aperture;
    if (shape.dirtyOps !== null) this.dirtyOps = shape.dirtyOps;
    this.table = new MockPageTable(shape.pageSizes, shape.dirtyLeaf);
  }

  /** What `iova` and lengths of checks must be multiples of, bytes. */
  get unit(): number {
    return this.pageSizes & -this.pageSizes;
  }
}

/** A guest's domain: four cached translations, which invalidations empty. */
export class MockNestedDomain extends MockDomain {
  readonly type = 'nested';
  readonly iotlb: Uint32Array;
  /** Through which it was made, if it was. */
  readonly viommu: Viommu | null;

  constructor(
    label: string,
    ops: IommuDomainOps,
    owner: IommuOps,
    iotlb: number,
    viommu: Viommu | null,
  ) {
    super(label, ops, owner);
    this.iotlb = new Uint32Array(MOCK_NESTED_DOMAIN_IOTLB_NUM).fill(iotlb);
    this.viommu = viommu;
  }

  /** @throws Errno EINVAL: type, length, IOTLB id; EOPNOTSUPP: flags; EFAULT */
  invalidate(array: UserArray): void {
    if (array.type !== IOMMU_HWPT_INVALIDATE_DATA_SELFTEST) {
      throw new Errno('EINVAL', `invalidation type 0x${array.type.toString(16)}`);
    }
    const { size } = iommu_hwpt_invalidate_selftest;
    for (let index = 0; index < array.entryCount; index++) {
      const bytes = array.entry(index, size, size);
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      const { flags, iotlb_id: id } = iommu_hwpt_invalidate_selftest.read(view);
      if ((flags & ~IOMMU_TEST_INVALIDATE_FLAG_ALL) !== 0) {
        throw new Errno('EOPNOTSUPP', `entry ${index}: flags 0x${flags.toString(16)}`);
      }
      if (id > MOCK_NESTED_DOMAIN_IOTLB_ID_MAX) {
        throw new Errno('EINVAL', `entry ${index}: IOTLB id ${id}`);
      }
      if (flags !== 0) this.iotlb.fill(0);
      else this.iotlb[id] = 0;
      array.done++;
    }
  }
}

/** Dirty tracking of mock paging domains. */
export const MOCK_DIRTY_OPS: DirtyOps = {
  *setDirtyTracking(domain: IommuDomain, enable: boolean): Task {
    asPaging(domain).tracking = enable;
  },
  *readAndClearDirty(
    domain: IommuDomain,
    iova: bigint,
    bytes: bigint,
    clear: boolean,
    record: DirtyRecord | null,
  ): Task {
    const mock = asPaging(domain);
    if (!mock.tracking && record !== null) {
      throw new Errno('EINVAL', `${mock.label} does not track dirty pages now`);
    }
    mock.table.readDirty(iova, bytes, clear, record);
  },
};

/** A domain that can only be ours. */
export function asPaging(domain: IommuDomain): MockPagingDomain {
  if (domain instanceof MockPagingDomain) return domain;
  throw new Error(`a ${domain.type} domain where only a mock paging domain can be`);
}
