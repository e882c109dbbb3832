/**
 * `include/uapi/linux/iommufd.h` of Linux 7.3: ioctl numbers, structures and constants, under the
 * header's own names. `npm run check:layouts` holds them against the real header.
 */

import type { Struct } from './struct.ts';
import { struct } from './struct.ts';

/** The ioctl type byte, `';'`; VFIO shares it. */
export const IOMMUFD_TYPE = 0x3b;

/** ioctl request values: `_IO(IOMMUFD_TYPE, nr)` carries neither size nor direction. */
export const IOMMUFD_CMD = {
  IOMMU_DESTROY: 0x3b80,
  IOMMU_IOAS_ALLOC: 0x3b81,
  IOMMU_IOAS_ALLOW_IOVAS: 0x3b82,
  IOMMU_IOAS_COPY: 0x3b83,
  IOMMU_IOAS_IOVA_RANGES: 0x3b84,
  IOMMU_IOAS_MAP: 0x3b85,
  IOMMU_IOAS_UNMAP: 0x3b86,
  IOMMU_OPTION: 0x3b87,
  IOMMU_VFIO_IOAS: 0x3b88,
  IOMMU_HWPT_ALLOC: 0x3b89,
  IOMMU_GET_HW_INFO: 0x3b8a,
  IOMMU_HWPT_SET_DIRTY_TRACKING: 0x3b8b,
  IOMMU_HWPT_GET_DIRTY_BITMAP: 0x3b8c,
  IOMMU_HWPT_INVALIDATE: 0x3b8d,
  IOMMU_FAULT_QUEUE_ALLOC: 0x3b8e,
  IOMMU_IOAS_MAP_FILE: 0x3b8f,
  IOMMU_VIOMMU_ALLOC: 0x3b90,
  IOMMU_VDEVICE_ALLOC: 0x3b91,
  IOMMU_IOAS_CHANGE_PROCESS: 0x3b92,
  IOMMU_VEVENTQ_ALLOC: 0x3b93,
  IOMMU_HW_QUEUE_ALLOC: 0x3b94,
  IOMMU_IOAS_NOIOMMU_GET_PA: 0x3b95,
} as const;
export type IommufdCmdName = keyof typeof IOMMUFD_CMD;

// Objects

export const iommu_destroy = struct('iommu_destroy', { size: 'u32', id: 'u32' });

export const iommu_option = struct('iommu_option', {
  size: 'u32',
  option_id: 'u32',
  op: 'u16',
  __reserved: 'u16',
  object_id: 'u32',
  val64: 'u64',
});
/** 0 charges pins to the user, 1 to the process's mm. */
export const IOMMU_OPTION_RLIMIT_MODE = 0;
export const IOMMU_OPTION_HUGE_PAGES = 1;
export const IOMMU_OPTION_OP_SET = 0;
export const IOMMU_OPTION_OP_GET = 1;

export const iommu_vfio_ioas = struct('iommu_vfio_ioas', {
  size: 'u32',
  ioas_id: 'u32',
  op: 'u16',
  __reserved: 'u16',
});
export const IOMMU_VFIO_IOAS_GET = 0;
export const IOMMU_VFIO_IOAS_SET = 1;
export const IOMMU_VFIO_IOAS_CLEAR = 2;

// IOAS

export const iommu_ioas_alloc = struct('iommu_ioas_alloc', {
  size: 'u32',
  flags: 'u32',
  out_ioas_id: 'u32',
});

/** Element of the arrays of IOVA_RANGES and ALLOW_IOVAS; `last` is inclusive. */
export const iommu_iova_range = struct('iommu_iova_range', { start: 'u64', last: 'u64' });

export const iommu_ioas_iova_ranges = struct('iommu_ioas_iova_ranges', {
  size: 'u32',
  ioas_id: 'u32',
  num_iovas: 'u32',
  __reserved: 'u32',
  allowed_iovas: 'u64',
  out_iova_alignment: 'u64',
});

export const iommu_ioas_allow_iovas = struct('iommu_ioas_allow_iovas', {
  size: 'u32',
  ioas_id: 'u32',
  num_iovas: 'u32',
  __reserved: 'u32',
  allowed_iovas: 'u64',
});

export const iommu_ioas_map = struct('iommu_ioas_map', {
  size: 'u32',
  flags: 'u32',
  ioas_id: 'u32',
  __reserved: 'u32',
  user_va: 'u64',
  length: 'u64',
  iova: 'u64',
});
/** Flags of MAP, MAP_FILE and COPY. */
export const IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0;
export const IOMMU_IOAS_MAP_WRITEABLE = 1 << 1;
export const IOMMU_IOAS_MAP_READABLE = 1 << 2;

/** `length` is in and out: bytes that are physically contiguous. */
export const iommu_ioas_noiommu_get_pa = struct('iommu_ioas_noiommu_get_pa', {
  size: 'u32',
  flags: 'u32',
  ioas_id: 'u32',
  __reserved: 'u32',
  iova: 'u64',
  length: 'u64',
  out_phys: 'u64',
});

export const iommu_ioas_map_file = struct('iommu_ioas_map_file', {
  size: 'u32',
  flags: 'u32',
  ioas_id: 'u32',
  fd: 's32',
  start: 'u64',
  length: 'u64',
  iova: 'u64',
});

export const iommu_ioas_copy = struct('iommu_ioas_copy', {
  size: 'u32',
  flags: 'u32',
  dst_ioas_id: 'u32',
  src_ioas_id: 'u32',
  length: 'u64',
  dst_iova: 'u64',
  src_iova: 'u64',
});

export const iommu_ioas_unmap = struct('iommu_ioas_unmap', {
  size: 'u32',
  ioas_id: 'u32',
  iova: 'u64',
  length: 'u64',
});

export const iommu_ioas_change_process = struct('iommu_ioas_change_process', {
  size: 'u32',
  __reserved: 'u32',
});

// Hardware page tables

export const iommu_hwpt_alloc = struct(
  'iommu_hwpt_alloc',
  {
    size: 'u32',
    flags: 'u32',
    dev_id: 'u32',
    pt_id: 'u32',
    out_hwpt_id: 'u32',
    __reserved: 'u32',
    data_type: 'u32',
    data_len: 'u32',
    data_uptr: 'u64',
    fault_id: 'u32',
    __reserved2: 'u32',
  },
  { minSize: 24 },
);
export const IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0;
export const IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1;
export const IOMMU_HWPT_FAULT_ID_VALID = 1 << 2;
export const IOMMU_HWPT_ALLOC_PASID = 1 << 3;

export const IOMMU_HWPT_DATA_NONE = 0;
export const IOMMU_HWPT_DATA_VTD_S1 = 1;
export const IOMMU_HWPT_DATA_ARM_SMMUV3 = 2;
export const IOMMU_HWPT_DATA_AMD_GUEST = 3;
export const IOMMU_HWPT_DATA_SELFTEST = 0xdead;

/** Payload of HWPT_ALLOC for `IOMMU_HWPT_DATA_VTD_S1`: the guest's first-stage table. */
export const iommu_hwpt_vtd_s1 = struct('iommu_hwpt_vtd_s1', {
  flags: 'u64',
  pgtbl_addr: 'u64',
  addr_width: 'u32',
  __reserved: 'u32',
});
export const IOMMU_VTD_S1_SRE = 1 << 0;
export const IOMMU_VTD_S1_EAFE = 1 << 1;
export const IOMMU_VTD_S1_WPE = 1 << 2;

export const iommu_hwpt_set_dirty_tracking = struct('iommu_hwpt_set_dirty_tracking', {
  size: 'u32',
  flags: 'u32',
  hwpt_id: 'u32',
  __reserved: 'u32',
});
export const IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1;

export const iommu_hwpt_get_dirty_bitmap = struct('iommu_hwpt_get_dirty_bitmap', {
  size: 'u32',
  hwpt_id: 'u32',
  flags: 'u32',
  __reserved: 'u32',
  iova: 'u64',
  length: 'u64',
  page_size: 'u64',
  data: 'u64',
});
export const IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1;

export const iommu_hwpt_invalidate = struct('iommu_hwpt_invalidate', {
  size: 'u32',
  hwpt_id: 'u32',
  data_uptr: 'u64',
  data_type: 'u32',
  entry_len: 'u32',
  entry_num: 'u32',
  __reserved: 'u32',
});
export const IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0;
export const IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 = 1;
export const IOMMU_HWPT_INVALIDATE_DATA_SELFTEST = 0xdeadbeef;
export const IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST = 0xdeadbeef;

/** Entry of HWPT_INVALIDATE for VTD_S1; `npages` counts 4 KiB pages, 2^64-1 means everything. */
export const iommu_hwpt_vtd_s1_invalidate = struct('iommu_hwpt_vtd_s1_invalidate', {
  addr: 'u64',
  npages: 'u64',
  flags: 'u32',
  __reserved: 'u32',
});
export const IOMMU_VTD_INV_FLAGS_LEAF = 1 << 0;

// Hardware information

/** `out_data_type` is also the input field `in_data_type` (one union in the header). */
export const iommu_hw_info = struct(
  'iommu_hw_info',
  {
    size: 'u32',
    flags: 'u32',
    dev_id: 'u32',
    data_len: 'u32',
    data_uptr: 'u64',
    out_data_type: 'u32',
    out_max_pasid_log2: 'u8',
    __reserved: ['u8', 3],
    out_capabilities: 'u64',
  },
  { minSize: 32 },
);
/** From Linux 6.18. */
export const IOMMU_HW_INFO_FLAG_INPUT_TYPE = 1 << 0;

export const IOMMU_HW_INFO_TYPE_NONE = 0;
export const IOMMU_HW_INFO_TYPE_DEFAULT = 0;
export const IOMMU_HW_INFO_TYPE_INTEL_VTD = 1;
export const IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2;
export const IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3;
export const IOMMU_HW_INFO_TYPE_AMD = 4;
export const IOMMU_HW_INFO_TYPE_SELFTEST = 0xfeedbeef;

/** Bits of `out_capabilities`, a u64. */
export const IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0;
export const IOMMU_HW_CAP_PCI_PASID_EXEC = 1 << 1;
export const IOMMU_HW_CAP_PCI_PASID_PRIV = 1 << 2;
export const IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 1 << 3;

/** Payload of GET_HW_INFO for INTEL_VTD: the raw CAP and ECAP registers. */
export const iommu_hw_info_vtd = struct('iommu_hw_info_vtd', {
  flags: 'u32',
  __reserved: 'u32',
  cap_reg: 'u64',
  ecap_reg: 'u64',
});
export const IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 1 << 0;

// Faults

export const iommu_fault_alloc = struct('iommu_fault_alloc', {
  size: 'u32',
  flags: 'u32',
  out_fault_id: 'u32',
  out_fault_fd: 'u32',
});

/** One record read from a fault fd. */
export const iommu_hwpt_pgfault = struct('iommu_hwpt_pgfault', {
  flags: 'u32',
  dev_id: 'u32',
  pasid: 'u32',
  grpid: 'u32',
  perm: 'u32',
  __reserved: 'u32',
  addr: 'u64',
  length: 'u32',
  cookie: 'u32',
});
export const IOMMU_PGFAULT_FLAGS_PASID_VALID = 1 << 0;
export const IOMMU_PGFAULT_FLAGS_LAST_PAGE = 1 << 1;
export const IOMMU_PGFAULT_PERM_READ = 1 << 0;
export const IOMMU_PGFAULT_PERM_WRITE = 1 << 1;
export const IOMMU_PGFAULT_PERM_EXEC = 1 << 2;
export const IOMMU_PGFAULT_PERM_PRIV = 1 << 3;

/** One record written to a fault fd; answers the whole group that carried `cookie`. */
export const iommu_hwpt_page_response = struct('iommu_hwpt_page_response', {
  cookie: 'u32',
  code: 'u32',
});
export const IOMMUFD_PAGE_RESP_SUCCESS = 0;
export const IOMMUFD_PAGE_RESP_INVALID = 1;

// vIOMMU

export const iommu_viommu_alloc = struct(
  'iommu_viommu_alloc',
  {
    size: 'u32',
    flags: 'u32',
    type: 'u32',
    dev_id: 'u32',
    hwpt_id: 'u32',
    out_viommu_id: 'u32',
    data_len: 'u32',
    __reserved: 'u32',
    data_uptr: 'u64',
  },
  { minSize: 24 },
);
export const IOMMU_VIOMMU_TYPE_DEFAULT = 0;
export const IOMMU_VIOMMU_TYPE_ARM_SMMUV3 = 1;
export const IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 2;
export const IOMMU_VIOMMU_TYPE_SELFTEST = 0xdeadbeef;

export const iommu_vdevice_alloc = struct('iommu_vdevice_alloc', {
  size: 'u32',
  viommu_id: 'u32',
  dev_id: 'u32',
  out_vdevice_id: 'u32',
  virt_id: 'u64',
});

export const iommu_veventq_alloc = struct(
  'iommu_veventq_alloc',
  {
    size: 'u32',
    flags: 'u32',
    viommu_id: 'u32',
    type: 'u32',
    veventq_depth: 'u32',
    out_veventq_id: 'u32',
    out_veventq_fd: 'u32',
    __reserved: 'u32',
  },
  { minSize: 28 },
);
export const IOMMU_VEVENTQ_TYPE_DEFAULT = 0;
export const IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 = 1;
export const IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV = 2;
export const IOMMU_VEVENTQ_TYPE_SELFTEST = 0xbeefbeef;

/** Precedes each event read from a vEVENTQ fd; `sequence` wraps to 0 after 2^31-1. */
export const iommufd_vevent_header = struct('iommufd_vevent_header', {
  flags: 'u32',
  sequence: 'u32',
});
export const IOMMU_VEVENTQ_FLAG_LOST_EVENTS = 1 << 0;

export const iommu_hw_queue_alloc = struct('iommu_hw_queue_alloc', {
  size: 'u32',
  flags: 'u32',
  viommu_id: 'u32',
  type: 'u32',
  index: 'u32',
  out_hw_queue_id: 'u32',
  nesting_parent_iova: 'u64',
  length: 'u64',
});
export const IOMMU_HW_QUEUE_TYPE_DEFAULT = 0;
export const IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV = 1;
export const IOMMU_HW_QUEUE_TYPE_SELFTEST = 0xdeadbeef;

export interface IommufdIoctl {
  readonly name: IommufdCmdName;
  /** The ioctl request value. */
  readonly cmd: number;
  readonly struct: Struct;
  /** Smallest `size` a caller may state, in bytes; less is EINVAL. */
  readonly minSize: number;
}

const ioctl = (name: IommufdCmdName, argument: Struct): IommufdIoctl => ({
  name,
  cmd: IOMMUFD_CMD[name],
  struct: argument,
  minSize: argument.minSize,
});

/** Every ioctl of `/dev/iommu`, in command order: slot `i` is command number `0x80 + i`. */
export const IOMMUFD_IOCTLS: readonly IommufdIoctl[] = [
  ioctl('IOMMU_DESTROY', iommu_destroy),
  ioctl('IOMMU_IOAS_ALLOC', iommu_ioas_alloc),
  ioctl('IOMMU_IOAS_ALLOW_IOVAS', iommu_ioas_allow_iovas),
  ioctl('IOMMU_IOAS_COPY', iommu_ioas_copy),
  ioctl('IOMMU_IOAS_IOVA_RANGES', iommu_ioas_iova_ranges),
  ioctl('IOMMU_IOAS_MAP', iommu_ioas_map),
  ioctl('IOMMU_IOAS_UNMAP', iommu_ioas_unmap),
  ioctl('IOMMU_OPTION', iommu_option),
  ioctl('IOMMU_VFIO_IOAS', iommu_vfio_ioas),
  ioctl('IOMMU_HWPT_ALLOC', iommu_hwpt_alloc),
  ioctl('IOMMU_GET_HW_INFO', iommu_hw_info),
  ioctl('IOMMU_HWPT_SET_DIRTY_TRACKING', iommu_hwpt_set_dirty_tracking),
  ioctl('IOMMU_HWPT_GET_DIRTY_BITMAP', iommu_hwpt_get_dirty_bitmap),
  ioctl('IOMMU_HWPT_INVALIDATE', iommu_hwpt_invalidate),
  ioctl('IOMMU_FAULT_QUEUE_ALLOC', iommu_fault_alloc),
  ioctl('IOMMU_IOAS_MAP_FILE', iommu_ioas_map_file),
  ioctl('IOMMU_VIOMMU_ALLOC', iommu_viommu_alloc),
  ioctl('IOMMU_VDEVICE_ALLOC', iommu_vdevice_alloc),
  ioctl('IOMMU_IOAS_CHANGE_PROCESS', iommu_ioas_change_process),
  ioctl('IOMMU_VEVENTQ_ALLOC', iommu_veventq_alloc),
  ioctl('IOMMU_HW_QUEUE_ALLOC', iommu_hw_queue_alloc),
  ioctl('IOMMU_IOAS_NOIOMMU_GET_PA', iommu_ioas_noiommu_get_pa),
];
