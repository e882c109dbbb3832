import test from 'ava';
import * as vfio from '../../../host/uapi/vfio.ts';

test('layouts newer than the packaged header', (t) => {
  t.deepEqual(vfio.vfio_device_bind_iommufd.offsets, {
    argsz: 0,
    flags: 4,
    iommufd: 8,
    out_devid: 12,
    token_uuid_ptr: 16,
  });
  t.deepEqual(vfio.vfio_device_attach_iommufd_pt.offsets, {
    argsz: 0,
    flags: 4,
    pt_id: 8,
    pasid: 12,
  });
  t.deepEqual(vfio.vfio_device_detach_iommufd_pt.offsets, { argsz: 0, flags: 4, pasid: 8 });
});

test('VFIO ioctls: size and smallest argsz', (t) => {
  const rows = [...vfio.VFIO_DEVICE_IOCTLS, ...vfio.VFIO_CONTAINER_IOCTLS];
  const sizes = rows.map(({ name, cmd, struct, minSize }) => [
    name,
    [cmd, struct?.size ?? 0, minSize],
  ]);
  t.deepEqual(Object.fromEntries(sizes), {
    VFIO_DEVICE_GET_INFO: [0x3b6b, 24, 16],
    VFIO_DEVICE_GET_REGION_INFO: [0x3b6c, 32, 32],
    VFIO_DEVICE_GET_IRQ_INFO: [0x3b6d, 16, 16],
    VFIO_DEVICE_SET_IRQS: [0x3b6e, 20, 20],
    VFIO_DEVICE_RESET: [0x3b6f, 0, 0],
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: [0x3b70, 12, 12],
    VFIO_DEVICE_PCI_HOT_RESET: [0x3b71, 12, 12],
    VFIO_DEVICE_IOEVENTFD: [0x3b74, 32, 32],
    VFIO_DEVICE_FEATURE: [0x3b75, 8, 8],
    VFIO_DEVICE_BIND_IOMMUFD: [0x3b76, 24, 16],
    VFIO_DEVICE_ATTACH_IOMMUFD_PT: [0x3b77, 16, 12],
    VFIO_DEVICE_DETACH_IOMMUFD_PT: [0x3b78, 12, 8],
    VFIO_GET_API_VERSION: [0x3b64, 0, 0],
    VFIO_CHECK_EXTENSION: [0x3b65, 0, 0],
    VFIO_SET_IOMMU: [0x3b66, 0, 0],
    VFIO_IOMMU_GET_INFO: [0x3b70, 24, 16],
    VFIO_IOMMU_MAP_DMA: [0x3b71, 32, 32],
    VFIO_IOMMU_UNMAP_DMA: [0x3b72, 24, 24],
  });
});
