/** Devices that exist only for the selftest: on a bus of their own, each alone in its group. */
import {
  IOMMU_TEST_DEV_CACHE_DEFAULT,
  MOCK_DEV_CACHE_NUM,
  MOCK_FLAGS_DEVICE_HUGE_IOVA,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  MOCK_FLAGS_DEVICE_PASID,
  MOCK_PASID_WIDTH,
} from '../../uapi/iommufd-test.ts';
import { Errno } from '../errno.ts';
import type { BusDevice } from '../iommu/core.ts';
import type { IommuDomain, Viommu } from '../iommu/ops.ts';

const FLAGS = MOCK_FLAGS_DEVICE_NO_DIRTY | MOCK_FLAGS_DEVICE_HUGE_IOVA | MOCK_FLAGS_DEVICE_PASID;
/** Above every PCI requester id, so that nobody takes one for the other. */
const FIRST_RID = 1 << 16;

export class MockDevice implements BusDevice {
  readonly name: string;
  readonly rid: number;
  /** Lowest free number when it was made. */
  readonly number: number;
  /** MOCK_FLAGS_DEVICE_* bits. */
  readonly flags: number;
  /** Where its PASIDs go. */
  readonly pasids = new Map<number, IommuDomain>();
  /** What a vIOMMU's invalidations empty. */
  readonly cache = new Uint32Array(MOCK_DEV_CACHE_NUM).fill(IOMMU_TEST_DEV_CACHE_DEFAULT);
  /** Domains attached that deliver faults. */
  faultUsers = 0;
  /** Whether the next attach of the test's reserved PASID fails. */
  pasidFault = false;
  /** Of the nested domain its RID is attached to. */
  viommu: Viommu | null = null;
  virtId = 0n;

  /** @throws Errno EINVAL: unknown flags */
  constructor(number: number, flags: number) {
    if ((flags & ~FLAGS) !== 0) throw new Errno('EINVAL', `dev_flags 0x${flags.toString(16)}`);
    this.number = number;
    this.name = `iommufd_mock${number}`;
    this.rid = FIRST_RID + number;
    this.flags = flags;
  }

  get tracksDirty(): boolean {
    return (this.flags & MOCK_FLAGS_DEVICE_NO_DIRTY) === 0;
  }

  get hugeIova(): boolean {
    return (this.flags & MOCK_FLAGS_DEVICE_HUGE_IOVA) !== 0;
  }

  /**
   * Its property "pasid-num-bits" is there with the value 0, too: one PASID, the RID's own, and so
   * every other is refused as too large.
   */
  get maxPasids(): number {
    return 2 ** ((this.flags & MOCK_FLAGS_DEVICE_PASID) === 0 ? 0 : MOCK_PASID_WIDTH);
  }
}
