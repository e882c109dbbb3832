/** How an episode begins: calls that succeed, so that the noise after them finds something to hit. */
import type { Random } from '../../host/machine/random.ts';
import * as uapi from '../../host/uapi/iommufd.ts';
import * as test from '../../host/uapi/iommufd-test.ts';
import type { Struct } from '../../host/uapi/struct.ts';
import { VFIO_DEVICE_CMD, vfio_device_bind_iommufd } from '../../host/uapi/vfio.ts';
import { one, PAGE, PAYLOAD, seldom } from './fields.ts';

/** A call with these values; `pointers` are fields that count from the start of memory. */
export interface Wanted {
  readonly name: keyof typeof uapi.IOMMUFD_CMD | 'IOMMU_TEST_CMD' | 'VFIO_DEVICE_BIND_IOMMUFD';
  readonly fd: number;
  readonly request: number;
  readonly struct: Struct;
  readonly op?: number;
  readonly values: Readonly<Record<string, number | bigint>>;
  readonly pointers: readonly string[];
}

const BASE = BigInt(test.MOCK_APERTURE_START);

/** Ids count from 1 in the order of these calls. */
export function setup(random: Random): Wanted[] {
  const calls: Wanted[] = [
    iommufd('IOMMU_IOAS_ALLOC', uapi.iommu_ioas_alloc, {}),
    map(random, 1),
    map(random, 1),
    mockDevice(random, 1),
    iommufd('IOMMU_IOAS_ALLOC', uapi.iommu_ioas_alloc, {}),
    map(random, 5),
    iommufd('IOMMU_FAULT_QUEUE_ALLOC', uapi.iommu_fault_alloc, {}),
    hwpt(random, 1 + 4 * random.below(2), one(random, [8, 9, 3, 11])),
    hwpt(random, 1, 9),
    nested(8),
    {
      name: 'VFIO_DEVICE_BIND_IOMMUFD',
      fd: 2,
      request: VFIO_DEVICE_CMD.VFIO_DEVICE_BIND_IOMMUFD,
      struct: vfio_device_bind_iommufd,
      values: { argsz: vfio_device_bind_iommufd.size, iommufd: 0 },
      pointers: [],
    },
    testOp(test.IOMMU_TEST_OP_CREATE_ACCESS, test.iommu_test_create_access, {
      id: 1,
      flags: random.below(2),
    }),
    testOp(test.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, test.iommu_test_mock_domain_replace, {
      id: 2,
      pt_id: 8,
    }),
    testOp(test.IOMMU_TEST_OP_PASID_ATTACH, test.iommu_test_pasid_attach, {
      id: 2,
      pasid: 1 + random.below(3),
      pt_id: 8,
    }),
    iommufd('IOMMU_VIOMMU_ALLOC', uapi.iommu_viommu_alloc, {
      type: uapi.IOMMU_VIOMMU_TYPE_SELFTEST,
      dev_id: 3,
      hwpt_id: 8,
    }),
  ];
  return calls.filter(() => !seldom(random, 30));
}

function iommufd(
  name: keyof typeof uapi.IOMMUFD_CMD,
  struct: Struct,
  values: Record<string, number | bigint>,
  pointers: readonly string[] = [],
): Wanted {
  return { name, fd: 0, request: uapi.IOMMUFD_CMD[name], struct, values, pointers };
}

function testOp(op: number, struct: Struct, values: Record<string, number | bigint>): Wanted {
  const request = test.IOMMU_TEST_CMD;
  return { name: 'IOMMU_TEST_CMD', fd: 0, request, struct, op, values, pointers: [] };
}

function map(random: Random, ioas: number): Wanted {
  const values = {
    flags: 7,
    ioas_id: ioas,
    user_va: BigInt(0x10_000 + random.below(8) * PAGE),
    length: BigInt((1 + random.below(6)) * PAGE),
    iova: BASE + BigInt(random.below(16) * PAGE),
  };
  return iommufd('IOMMU_IOAS_MAP', uapi.iommu_ioas_map, values, ['user_va']);
}

function mockDevice(random: Random, pt: number): Wanted {
  return testOp(test.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, test.iommu_test_mock_domain_flags, {
    id: pt,
    dev_flags: seldom(random, 8) ? 0 : test.MOCK_FLAGS_DEVICE_PASID,
  });
}

function hwpt(random: Random, ioas: number, flags: number): Wanted {
  const values = { flags: seldom(random, 4) ? 0 : flags, dev_id: 3, pt_id: ioas };
  return iommufd('IOMMU_HWPT_ALLOC', uapi.iommu_hwpt_alloc, values);
}

function nested(parent: number): Wanted {
  const values = {
    flags: 8,
    dev_id: 3,
    pt_id: parent,
    data_type: uapi.IOMMU_HWPT_DATA_SELFTEST,
    data_len: test.iommu_hwpt_selftest.minSize,
    data_uptr: BigInt(PAYLOAD),
  };
  return iommufd('IOMMU_HWPT_ALLOC', uapi.iommu_hwpt_alloc, values, ['data_uptr']);
}
