/**
 * `include/uapi/linux/vfio.h` of Linux 7.0, as far as a PCI device opened through its cdev and the
 * type1 container served by iommufd need it. `npm run check:layouts` holds it against the header.
 */

import type { Struct } from './struct.ts';
import { struct } from './struct.ts';

export const VFIO_API_VERSION = 0;

/** ioctls on `/dev/vfio/devices/vfioN`: `_IO(';', 100 + n)`. */
export const VFIO_DEVICE_CMD = {
  VFIO_DEVICE_GET_INFO: 0x3b6b,
  VFIO_DEVICE_GET_REGION_INFO: 0x3b6c,
  VFIO_DEVICE_GET_IRQ_INFO: 0x3b6d,
  VFIO_DEVICE_SET_IRQS: 0x3b6e,
  VFIO_DEVICE_RESET: 0x3b6f,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: 0x3b70,
  VFIO_DEVICE_PCI_HOT_RESET: 0x3b71,
  VFIO_DEVICE_IOEVENTFD: 0x3b74,
  VFIO_DEVICE_FEATURE: 0x3b75,
  VFIO_DEVICE_BIND_IOMMUFD: 0x3b76,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: 0x3b77,
  VFIO_DEVICE_DETACH_IOMMUFD_PT: 0x3b78,
} as const;
export type VfioDeviceCmdName = keyof typeof VFIO_DEVICE_CMD;

/** ioctls on a container; 0x3b70 and 0x3b71 mean something else on a device. */
export const VFIO_CONTAINER_CMD = {
  VFIO_GET_API_VERSION: 0x3b64,
  VFIO_CHECK_EXTENSION: 0x3b65,
  VFIO_SET_IOMMU: 0x3b66,
  VFIO_IOMMU_GET_INFO: 0x3b70,
  VFIO_IOMMU_MAP_DMA: 0x3b71,
  VFIO_IOMMU_UNMAP_DMA: 0x3b72,
} as const;
export type VfioContainerCmdName = keyof typeof VFIO_CONTAINER_CMD;

/** ioctls on a group fd. */
export const VFIO_GROUP_CMD = {
  VFIO_GROUP_GET_STATUS: 0x3b67,
  VFIO_GROUP_SET_CONTAINER: 0x3b68,
  VFIO_GROUP_UNSET_CONTAINER: 0x3b69,
  VFIO_GROUP_GET_DEVICE_FD: 0x3b6a,
} as const;

export const VFIO_GROUP_FLAGS_VIABLE = 1 << 0;
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1;

export const vfio_group_status = struct('vfio_group_status', { argsz: 'u32', flags: 'u32' });

/** `next` is the offset of the next capability from the start of the info structure, 0 at the end. */
export const vfio_info_cap_header = struct('vfio_info_cap_header', {
  id: 'u16',
  version: 'u16',
  next: 'u32',
});
const CAP_HEADER = { id: 'header.id', version: 'header.version', next: 'header.next' } as const;

// Device

export const vfio_device_info = struct(
  'vfio_device_info',
  {
    argsz: 'u32',
    flags: 'u32',
    num_regions: 'u32',
    num_irqs: 'u32',
    cap_offset: 'u32',
    pad: 'u32',
  },
  { minSize: 16 },
);
export const VFIO_DEVICE_FLAGS_RESET = 1 << 0;
export const VFIO_DEVICE_FLAGS_PCI = 1 << 1;
export const VFIO_DEVICE_FLAGS_CAPS = 1 << 7;

// Regions

export const vfio_region_info = struct('vfio_region_info', {
  argsz: 'u32',
  flags: 'u32',
  index: 'u32',
  cap_offset: 'u32',
  size: 'u64',
  offset: 'u64',
});
export const VFIO_REGION_INFO_FLAG_READ = 1 << 0;
export const VFIO_REGION_INFO_FLAG_WRITE = 1 << 1;
export const VFIO_REGION_INFO_FLAG_MMAP = 1 << 2;
export const VFIO_REGION_INFO_FLAG_CAPS = 1 << 3;

export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_TYPE = 2;
/** A bare capability header: the MSI-X table inside the region may be mapped. */
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;

export const vfio_region_sparse_mmap_area = struct('vfio_region_sparse_mmap_area', {
  offset: 'u64',
  size: 'u64',
});

export const vfio_region_info_cap_sparse_mmap = struct(
  'vfio_region_info_cap_sparse_mmap',
  {
    id: 'u16',
    version: 'u16',
    next: 'u32',
    nr_areas: 'u32',
    reserved: 'u32',
    areas: ['u64', 0],
  },
  { cNames: CAP_HEADER },
);

export const vfio_region_info_cap_type = struct(
  'vfio_region_info_cap_type',
  { id: 'u16', version: 'u16', next: 'u32', type: 'u32', subtype: 'u32' },
  { cNames: CAP_HEADER },
);

export const VFIO_PCI_BAR0_REGION_INDEX = 0;
export const VFIO_PCI_BAR1_REGION_INDEX = 1;
export const VFIO_PCI_BAR2_REGION_INDEX = 2;
export const VFIO_PCI_BAR3_REGION_INDEX = 3;
export const VFIO_PCI_BAR4_REGION_INDEX = 4;
export const VFIO_PCI_BAR5_REGION_INDEX = 5;
export const VFIO_PCI_ROM_REGION_INDEX = 6;
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_VGA_REGION_INDEX = 8;
export const VFIO_PCI_NUM_REGIONS = 9;

/**
 * vfio-pci's own choice, not uAPI: region `i` starts at file offset `i << 40`
 * (include/linux/vfio_pci_core.h). Users must read `offset` from GET_REGION_INFO.
 */
export const VFIO_PCI_OFFSET_SHIFT = 40;

// Interrupts

export const vfio_irq_info = struct('vfio_irq_info', {
  argsz: 'u32',
  flags: 'u32',
  index: 'u32',
  count: 'u32',
});
export const VFIO_IRQ_INFO_EVENTFD = 1 << 0;
export const VFIO_IRQ_INFO_MASKABLE = 1 << 1;
export const VFIO_IRQ_INFO_AUTOMASKED = 1 << 2;
export const VFIO_IRQ_INFO_NORESIZE = 1 << 3;

/** Followed by `count` elements: one byte each (BOOL) or one s32 each (EVENTFD). */
export const vfio_irq_set = struct('vfio_irq_set', {
  argsz: 'u32',
  flags: 'u32',
  index: 'u32',
  start: 'u32',
  count: 'u32',
  data: ['u8', 0],
});
export const VFIO_IRQ_SET_DATA_NONE = 1 << 0;
export const VFIO_IRQ_SET_DATA_BOOL = 1 << 1;
export const VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2;
export const VFIO_IRQ_SET_ACTION_MASK = 1 << 3;
export const VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5;
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 0x07;
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38;

export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_ERR_IRQ_INDEX = 3;
export const VFIO_PCI_REQ_IRQ_INDEX = 4;
export const VFIO_PCI_NUM_IRQS = 5;

// Reset, ioeventfd, features

/** `devid` shares its place with `group_id`; opened through the cdev it is the iommufd id. */
export const vfio_pci_dependent_device = struct('vfio_pci_dependent_device', {
  devid: 'u32',
  segment: 'u16',
  bus: 'u8',
  devfn: 'u8',
});
export const VFIO_PCI_DEVID_OWNED = 0;
export const VFIO_PCI_DEVID_NOT_OWNED = -1;

/** Followed by `count` of `vfio_pci_dependent_device`. */
export const vfio_pci_hot_reset_info = struct('vfio_pci_hot_reset_info', {
  argsz: 'u32',
  flags: 'u32',
  count: 'u32',
  devices: ['u32', 0],
});
export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0;
export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1;

export const vfio_pci_hot_reset = struct('vfio_pci_hot_reset', {
  argsz: 'u32',
  flags: 'u32',
  count: 'u32',
  group_fds: ['s32', 0],
});

export const vfio_device_ioeventfd = struct('vfio_device_ioeventfd', {
  argsz: 'u32',
  flags: 'u32',
  offset: 'u64',
  data: 'u64',
  fd: 's32',
  reserved: 'u32',
});
export const VFIO_DEVICE_IOEVENTFD_8 = 1 << 0;
export const VFIO_DEVICE_IOEVENTFD_16 = 1 << 1;
export const VFIO_DEVICE_IOEVENTFD_32 = 1 << 2;
export const VFIO_DEVICE_IOEVENTFD_64 = 1 << 3;
export const VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xf;

/** The low 16 bits of `flags` are the feature index; the feature's own payload follows. */
export const vfio_device_feature = struct('vfio_device_feature', {
  argsz: 'u32',
  flags: 'u32',
  data: ['u8', 0],
});
export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
export const VFIO_DEVICE_FEATURE_GET = 1 << 16;
export const VFIO_DEVICE_FEATURE_SET = 1 << 17;
export const VFIO_DEVICE_FEATURE_PROBE = 1 << 18;
export const VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0;
export const VFIO_DEVICE_FEATURE_MIGRATION = 1;
export const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4;
export const VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8;
export const VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9;
export const VFIO_DEVICE_FEATURE_BUS_MASTER = 10;
export const VFIO_DEVICE_FEATURE_DMA_BUF = 11;

// iommufd

export const vfio_device_bind_iommufd = struct(
  'vfio_device_bind_iommufd',
  {
    argsz: 'u32',
    flags: 'u32',
    iommufd: 's32',
    out_devid: 'u32',
    token_uuid_ptr: 'u64',
  },
  { minSize: 16 },
);
export const VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0;

/** `argsz` must reach 16 when the PASID flag is set; 12 is enough otherwise. */
export const vfio_device_attach_iommufd_pt = struct(
  'vfio_device_attach_iommufd_pt',
  { argsz: 'u32', flags: 'u32', pt_id: 'u32', pasid: 'u32' },
  { minSize: 12 },
);
export const VFIO_DEVICE_ATTACH_PASID = 1 << 0;

/** `argsz` must reach 12 when the PASID flag is set; 8 is enough otherwise. */
export const vfio_device_detach_iommufd_pt = struct(
  'vfio_device_detach_iommufd_pt',
  { argsz: 'u32', flags: 'u32', pasid: 'u32' },
  { minSize: 8 },
);
export const VFIO_DEVICE_DETACH_PASID = 1 << 0;

// Container (type1), as iommufd serves it

/** Arguments of CHECK_EXTENSION; the first two also of SET_IOMMU. */
export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_DMA_CC_IOMMU = 4;
export const VFIO_NOIOMMU_IOMMU = 8;
export const VFIO_UNMAP_ALL = 9;

export const vfio_iommu_type1_info = struct(
  'vfio_iommu_type1_info',
  { argsz: 'u32', flags: 'u32', iova_pgsizes: 'u64', cap_offset: 'u32', pad: 'u32' },
  { minSize: 16 },
);
export const VFIO_IOMMU_INFO_PGSIZES = 1 << 0;
export const VFIO_IOMMU_INFO_CAPS = 1 << 1;

export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3;

/** `end` is inclusive. */
export const vfio_iova_range = struct('vfio_iova_range', { start: 'u64', end: 'u64' });

/** Followed by `nr_iovas` of `vfio_iova_range`. */
export const vfio_iommu_type1_info_cap_iova_range = struct(
  'vfio_iommu_type1_info_cap_iova_range',
  {
    id: 'u16',
    version: 'u16',
    next: 'u32',
    nr_iovas: 'u32',
    reserved: 'u32',
    iova_ranges: ['u64', 0],
  },
  { cNames: CAP_HEADER },
);

export const vfio_iommu_type1_info_dma_avail = struct(
  'vfio_iommu_type1_info_dma_avail',
  { id: 'u16', version: 'u16', next: 'u32', avail: 'u32' },
  { cNames: CAP_HEADER },
);

export const vfio_iommu_type1_dma_map = struct('vfio_iommu_type1_dma_map', {
  argsz: 'u32',
  flags: 'u32',
  vaddr: 'u64',
  iova: 'u64',
  size: 'u64',
});
export const VFIO_DMA_MAP_FLAG_READ = 1 << 0;
export const VFIO_DMA_MAP_FLAG_WRITE = 1 << 1;

export const vfio_iommu_type1_dma_unmap = struct('vfio_iommu_type1_dma_unmap', {
  argsz: 'u32',
  flags: 'u32',
  iova: 'u64',
  size: 'u64',
  data: ['u8', 0],
});
export const VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1;

export interface VfioIoctl {
  readonly name: VfioDeviceCmdName | VfioContainerCmdName;
  /** The ioctl request value. */
  readonly cmd: number;
  /** The argument, or null where there is none (or a plain integer). */
  readonly struct: Struct | null;
  /** Smallest `argsz` a caller may state, in bytes; less is EINVAL. */
  readonly minSize: number;
}

const onDevice = (name: VfioDeviceCmdName, argument: Struct | null): VfioIoctl => ({
  name,
  cmd: VFIO_DEVICE_CMD[name],
  struct: argument,
  minSize: argument?.minSize ?? 0,
});

const onContainer = (name: VfioContainerCmdName, argument: Struct | null): VfioIoctl => ({
  name,
  cmd: VFIO_CONTAINER_CMD[name],
  struct: argument,
  minSize: argument?.minSize ?? 0,
});

/** Every ioctl of a PCI device's cdev. */
export const VFIO_DEVICE_IOCTLS: readonly VfioIoctl[] = [
  onDevice('VFIO_DEVICE_GET_INFO', vfio_device_info),
  onDevice('VFIO_DEVICE_GET_REGION_INFO', vfio_region_info),
  onDevice('VFIO_DEVICE_GET_IRQ_INFO', vfio_irq_info),
  onDevice('VFIO_DEVICE_SET_IRQS', vfio_irq_set),
  onDevice('VFIO_DEVICE_RESET', null),
  onDevice('VFIO_DEVICE_GET_PCI_HOT_RESET_INFO', vfio_pci_hot_reset_info),
  onDevice('VFIO_DEVICE_PCI_HOT_RESET', vfio_pci_hot_reset),
  onDevice('VFIO_DEVICE_IOEVENTFD', vfio_device_ioeventfd),
  onDevice('VFIO_DEVICE_FEATURE', vfio_device_feature),
  onDevice('VFIO_DEVICE_BIND_IOMMUFD', vfio_device_bind_iommufd),
  onDevice('VFIO_DEVICE_ATTACH_IOMMUFD_PT', vfio_device_attach_iommufd_pt),
  onDevice('VFIO_DEVICE_DETACH_IOMMUFD_PT', vfio_device_detach_iommufd_pt),
];

/** The container ioctls that iommufd itself answers (drivers/iommu/iommufd/vfio_compat.c). */
export const VFIO_CONTAINER_IOCTLS: readonly VfioIoctl[] = [
  onContainer('VFIO_GET_API_VERSION', null),
  onContainer('VFIO_CHECK_EXTENSION', null),
  onContainer('VFIO_SET_IOMMU', null),
  onContainer('VFIO_IOMMU_GET_INFO', vfio_iommu_type1_info),
  onContainer('VFIO_IOMMU_MAP_DMA', vfio_iommu_type1_dma_map),
  onContainer('VFIO_IOMMU_UNMAP_DMA', vfio_iommu_type1_dma_unmap),
];
