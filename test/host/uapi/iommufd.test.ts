import test from 'ava';
import * as iommufd from '../../../host/uapi/iommufd.ts';

/** Command number, structure size, smallest size: the uAPI of Linux 7.0. */
const IOCTLS = {
  IOMMU_DESTROY: [0x80, 8, 8],
  IOMMU_IOAS_ALLOC: [0x81, 12, 12],
  IOMMU_IOAS_ALLOW_IOVAS: [0x82, 24, 24],
  IOMMU_IOAS_COPY: [0x83, 40, 40],
  IOMMU_IOAS_IOVA_RANGES: [0x84, 32, 32],
  IOMMU_IOAS_MAP: [0x85, 40, 40],
  IOMMU_IOAS_UNMAP: [0x86, 24, 24],
  IOMMU_OPTION: [0x87, 24, 24],
  IOMMU_VFIO_IOAS: [0x88, 12, 12],
  IOMMU_HWPT_ALLOC: [0x89, 48, 24],
  IOMMU_GET_HW_INFO: [0x8a, 40, 32],
  IOMMU_HWPT_SET_DIRTY_TRACKING: [0x8b, 16, 16],
  IOMMU_HWPT_GET_DIRTY_BITMAP: [0x8c, 48, 48],
  IOMMU_HWPT_INVALIDATE: [0x8d, 32, 32],
  IOMMU_FAULT_QUEUE_ALLOC: [0x8e, 16, 16],
  IOMMU_IOAS_MAP_FILE: [0x8f, 40, 40],
  IOMMU_VIOMMU_ALLOC: [0x90, 40, 24],
  IOMMU_VDEVICE_ALLOC: [0x91, 24, 24],
  IOMMU_IOAS_CHANGE_PROCESS: [0x92, 8, 8],
  IOMMU_VEVENTQ_ALLOC: [0x93, 32, 28],
  IOMMU_HW_QUEUE_ALLOC: [0x94, 40, 40],
  // Since 7.3.
  IOMMU_IOAS_NOIOMMU_GET_PA: [0x95, 40, 40],
} as const;

test('the ioctl table has every command with its size and smallest size', (t) => {
  const table = iommufd.IOMMUFD_IOCTLS.map(({ name, cmd, struct, minSize }) => [
    name,
    [cmd - 0x3b00, struct.size, minSize],
  ]);
  t.deepEqual(Object.fromEntries(table), IOCTLS);
  t.is(table.length, Object.keys(iommufd.IOMMUFD_CMD).length);
});

test('the ioctl table is indexed by command number', (t) => {
  iommufd.IOMMUFD_IOCTLS.forEach(({ cmd }, slot) => {
    t.is(cmd, 0x3b80 + slot);
  });
});

test('layouts newer than the packaged header', (t) => {
  t.deepEqual(iommufd.iommu_ioas_map_file.offsets, {
    size: 0,
    flags: 4,
    ioas_id: 8,
    fd: 12,
    start: 16,
    length: 24,
    iova: 32,
  });
  t.deepEqual(iommufd.iommu_viommu_alloc.offsets, {
    size: 0,
    flags: 4,
    type: 8,
    dev_id: 12,
    hwpt_id: 16,
    out_viommu_id: 20,
    data_len: 24,
    __reserved: 28,
    data_uptr: 32,
  });
  t.deepEqual(iommufd.iommu_vdevice_alloc.offsets, {
    size: 0,
    viommu_id: 4,
    dev_id: 8,
    out_vdevice_id: 12,
    virt_id: 16,
  });
  t.deepEqual(iommufd.iommu_veventq_alloc.offsets, {
    size: 0,
    flags: 4,
    viommu_id: 8,
    type: 12,
    veventq_depth: 16,
    out_veventq_id: 20,
    out_veventq_fd: 24,
    __reserved: 28,
  });
  t.deepEqual(iommufd.iommu_hw_queue_alloc.offsets, {
    size: 0,
    flags: 4,
    viommu_id: 8,
    type: 12,
    index: 16,
    out_hw_queue_id: 20,
    nesting_parent_iova: 24,
    length: 32,
  });
});

test('sizes of driver payloads and event records', (t) => {
  t.is(iommufd.iommu_hwpt_vtd_s1.size, 24);
  t.is(iommufd.iommu_hw_info_vtd.size, 24);
  t.is(iommufd.iommu_hwpt_vtd_s1_invalidate.size, 24);
  t.is(iommufd.iommu_hwpt_pgfault.size, 40);
  t.is(iommufd.iommu_hwpt_page_response.size, 8);
  t.is(iommufd.iommufd_vevent_header.size, 8);
});
