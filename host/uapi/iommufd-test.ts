/**
 * `drivers/iommu/iommufd/iommufd_test.h`: the selftest's command, by which a test asks the kernel
 * for mock devices and looks behind the uAPI. Names are the header's; what is newer than 6.12 is
 * from 6.15 (PASID), 6.17 (vIOMMU) and 7.0 (page table types, dma-buf).
 *
 * `struct iommu_test_cmd` is a head of 16 bytes, a union, and `last` at 64. Each variant of the
 * union is declared as a structure of its own that begins with the head.
 */
import type { Fields, Struct, StructOptions } from './struct.ts';
import { struct } from './struct.ts';

export const IOMMU_TEST_CMD = 0x3ba0;

export const IOMMU_TEST_OP_ADD_RESERVED = 1;
export const IOMMU_TEST_OP_MOCK_DOMAIN = 2;
export const IOMMU_TEST_OP_MD_CHECK_MAP = 3;
export const IOMMU_TEST_OP_MD_CHECK_REFS = 4;
export const IOMMU_TEST_OP_CREATE_ACCESS = 5;
export const IOMMU_TEST_OP_DESTROY_ACCESS_PAGES = 6;
export const IOMMU_TEST_OP_ACCESS_PAGES = 7;
export const IOMMU_TEST_OP_ACCESS_RW = 8;
export const IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT = 9;
export const IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE = 10;
export const IOMMU_TEST_OP_ACCESS_REPLACE_IOAS = 11;
export const IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS = 12;
export const IOMMU_TEST_OP_DIRTY = 13;
export const IOMMU_TEST_OP_MD_CHECK_IOTLB = 14;
export const IOMMU_TEST_OP_TRIGGER_IOPF = 15;
export const IOMMU_TEST_OP_DEV_CHECK_CACHE = 16;
export const IOMMU_TEST_OP_TRIGGER_VEVENT = 17;
export const IOMMU_TEST_OP_PASID_ATTACH = 18;
export const IOMMU_TEST_OP_PASID_REPLACE = 19;
export const IOMMU_TEST_OP_PASID_DETACH = 20;
export const IOMMU_TEST_OP_PASID_CHECK_HWPT = 21;
export const IOMMU_TEST_OP_DMABUF_GET = 22;
export const IOMMU_TEST_OP_DMABUF_REVOKE = 23;

export const MOCK_APERTURE_START = 1 << 24;
export const MOCK_APERTURE_LAST = 0x7fff_ffff;

/** Half a page of the CPU: a mock domain maps offsets inside a page, too. */
export const MOCK_PAGE_SIZE = 2048;
export const MOCK_HUGE_PAGE_SIZE = 512 * MOCK_PAGE_SIZE;

export const MOCK_FLAGS_ACCESS_WRITE = 1 << 0;
export const MOCK_FLAGS_ACCESS_SYZ = 1 << 16;
export const MOCK_ACCESS_RW_WRITE = 1 << 0;
export const MOCK_ACCESS_RW_SLOW_PATH = 1 << 2;
export const MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES = 1 << 0;

export const MOCK_FLAGS_DEVICE_NO_DIRTY = 1 << 0;
/** Up to 6.18: domains of the device have 1 MiB pages. */
export const MOCK_FLAGS_DEVICE_HUGE_IOVA = 1 << 1;
export const MOCK_FLAGS_DEVICE_PASID = 1 << 2;

export const MOCK_NESTED_DOMAIN_IOTLB_ID_MAX = 3;
export const MOCK_NESTED_DOMAIN_IOTLB_NUM = 4;
export const MOCK_DEV_CACHE_ID_MAX = 3;
export const MOCK_DEV_CACHE_NUM = 4;
/** PASIDs of a device with MOCK_FLAGS_DEVICE_PASID are this wide. */
export const MOCK_PASID_WIDTH = 20;

export const IOMMU_TEST_IOTLB_DEFAULT = 0xbadbeef;
export const IOMMU_TEST_DEV_CACHE_DEFAULT = 0xbaddad;
export const IOMMU_HW_INFO_SELFTEST_REGVAL = 0xdeadbeef;
export const IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID = 0xdadbeef;
export const IOMMU_TEST_INVALIDATE_FLAG_ALL = 1 << 0;

/** `pagetable_type` of a paging HWPT (7.0). */
export const MOCK_IOMMUPT_DEFAULT = 0;
export const MOCK_IOMMUPT_HUGE = 1;

/** The whole command; `union` is what the operation makes of it. */
export const iommu_test_cmd = struct(
  'iommu_test_cmd',
  {
    size: 'u32',
    op: 'u32',
    id: 'u32',
    __reserved: 'u32',
    union: ['u64', 6],
    last: 'u32',
  },
  { minSize: 68, cNames: { union: 'dirty' } },
);

const HEAD = { size: 'u32', op: 'u32', id: 'u32', __reserved: 'u32' } as const;
type Head = typeof HEAD;

/** One variant of the union, named as in C, behind the head. */
function variant<const F extends Fields>(member: string, fields: F): Struct<Head & F> {
  const cNames = Object.fromEntries(Object.keys(fields).map((name) => [name, `${member}.${name}`]));
  const options: StructOptions<Fields> = { cNames };
  return struct<Head & F>('iommu_test_cmd', { ...HEAD, ...fields }, options);
}

export const iommu_test_add_reserved = variant('add_reserved', { start: 'u64', length: 'u64' });
/** Of MOCK_DOMAIN too, which has no `dev_flags`. */
export const iommu_test_mock_domain_flags = variant('mock_domain_flags', {
  out_stdev_id: 'u32',
  out_hwpt_id: 'u32',
  out_idev_id: 'u32',
  dev_flags: 'u32',
});
export const iommu_test_mock_domain_replace = variant('mock_domain_replace', { pt_id: 'u32' });
export const iommu_test_check_map = variant('check_map', {
  iova: 'u64',
  length: 'u64',
  uptr: 'u64',
});
export const iommu_test_check_refs = variant('check_refs', {
  length: 'u64',
  uptr: 'u64',
  refs: 'u32',
});
export const iommu_test_create_access = variant('create_access', {
  out_access_fd: 'u32',
  flags: 'u32',
});
export const iommu_test_destroy_access_pages = variant('destroy_access_pages', {
  access_pages_id: 'u32',
});
export const iommu_test_access_pages = variant('access_pages', {
  flags: 'u32',
  out_access_pages_id: 'u32',
  iova: 'u64',
  length: 'u64',
  uptr: 'u64',
});
export const iommu_test_access_rw = variant('access_rw', {
  iova: 'u64',
  length: 'u64',
  uptr: 'u64',
  flags: 'u32',
});
export const iommu_test_memory_limit = variant('memory_limit', { limit: 'u32' });
export const iommu_test_access_replace_ioas = variant('access_replace_ioas', { ioas_id: 'u32' });
export const iommu_test_dirty = variant('dirty', {
  flags: 'u32',
  iova: 'u64',
  length: 'u64',
  page_size: 'u64',
  uptr: 'u64',
  out_nr_dirty: 'u64',
});
/** `iotlb_id` is `id` in C, as is the object's id in the head. */
export const iommu_test_check_iotlb = struct(
  'iommu_test_cmd',
  { ...HEAD, iotlb_id: 'u32', iotlb: 'u32' },
  { cNames: { iotlb_id: 'check_iotlb.id', iotlb: 'check_iotlb.iotlb' } },
);
export const iommu_test_trigger_iopf = variant('trigger_iopf', {
  dev_id: 'u32',
  pasid: 'u32',
  grpid: 'u32',
  perm: 'u32',
  addr: 'u64',
});
/** `cache_id` is `id` in C. */
export const iommu_test_check_dev_cache = struct(
  'iommu_test_cmd',
  { ...HEAD, cache_id: 'u32', cache: 'u32' },
  { cNames: { cache_id: 'check_dev_cache.id', cache: 'check_dev_cache.cache' } },
);
export const iommu_test_trigger_vevent = variant('trigger_vevent', { dev_id: 'u32' });
export const iommu_test_pasid_attach = variant('pasid_attach', { pasid: 'u32', pt_id: 'u32' });
export const iommu_test_pasid_replace = variant('pasid_replace', { pasid: 'u32', pt_id: 'u32' });
export const iommu_test_pasid_detach = variant('pasid_detach', { pasid: 'u32' });
export const iommu_test_pasid_check = variant('pasid_check', { pasid: 'u32', hwpt_id: 'u32' });
export const iommu_test_dmabuf_get = variant('dmabuf_get', { length: 'u32', open_flags: 'u32' });
export const iommu_test_dmabuf_revoke = variant('dmabuf_revoke', {
  dmabuf_fd: 's32',
  revoked: 'u32',
});

/** The variants, for the check against the header. */
export const IOMMU_TEST_VARIANTS: readonly Struct[] = [
  iommu_test_add_reserved,
  iommu_test_mock_domain_flags,
  iommu_test_mock_domain_replace,
  iommu_test_check_map,
  iommu_test_check_refs,
  iommu_test_create_access,
  iommu_test_destroy_access_pages,
  iommu_test_access_pages,
  iommu_test_access_rw,
  iommu_test_memory_limit,
  iommu_test_access_replace_ioas,
  iommu_test_dirty,
  iommu_test_check_iotlb,
  iommu_test_trigger_iopf,
  iommu_test_check_dev_cache,
  iommu_test_trigger_vevent,
  iommu_test_pasid_attach,
  iommu_test_pasid_replace,
  iommu_test_pasid_detach,
  iommu_test_pasid_check,
  iommu_test_dmabuf_get,
  iommu_test_dmabuf_revoke,
];

/** Payload of GET_HW_INFO for `IOMMU_HW_INFO_TYPE_SELFTEST`. */
export const iommu_test_hw_info = struct('iommu_test_hw_info', { flags: 'u32', test_reg: 'u32' });

/** Payload of HWPT_ALLOC for `IOMMU_HWPT_DATA_SELFTEST`. */
export const iommu_hwpt_selftest = struct(
  'iommu_hwpt_selftest',
  { iotlb: 'u32', pagetable_type: 'u32' },
  { minSize: 4 },
);

/** Entry of HWPT_INVALIDATE for `IOMMU_HWPT_INVALIDATE_DATA_SELFTEST`. */
export const iommu_hwpt_invalidate_selftest = struct('iommu_hwpt_invalidate_selftest', {
  flags: 'u32',
  iotlb_id: 'u32',
});

/** Payload of VIOMMU_ALLOC for `IOMMU_VIOMMU_TYPE_SELFTEST`. */
export const iommu_viommu_selftest = struct(
  'iommu_viommu_selftest',
  { in_data: 'u32', out_data: 'u32', out_mmap_offset: 'u64', out_mmap_length: 'u64' },
  { minSize: 8 },
);

/** Entry of HWPT_INVALIDATE for `IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST`. */
export const iommu_viommu_invalidate_selftest = struct('iommu_viommu_invalidate_selftest', {
  flags: 'u32',
  vdev_id: 'u32',
  cache_id: 'u32',
});

/** Payload of an event of `IOMMU_VEVENTQ_TYPE_SELFTEST`. */
export const iommu_viommu_event_selftest = struct('iommu_viommu_event_selftest', {
  virt_id: 'u32',
});

/** Hardware queues of a mock vIOMMU. */
export const IOMMU_TEST_HW_QUEUE_MAX = 2;
