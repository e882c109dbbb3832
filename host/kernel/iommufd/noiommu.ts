/** Devices without an IOMMU, as a kernel built without CONFIG_IOMMUFD_NOIOMMU has them: not at all. */
import type { Task } from '../../syscall.ts';
import type { iommu_ioas_noiommu_get_pa } from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { Ucmd } from './ucmd.ts';

/**
 * IOMMU_IOAS_NOIOMMU_GET_PA: where a program would have to send the DMA of such a device.
 *
 * @throws Errno EOPNOTSUPP: whatever it says, for every device is behind an IOMMU
 */
export function* noiommuGetPa(ucmd: Ucmd<typeof iommu_ioas_noiommu_get_pa.fields>): Task {
  const { ioas_id } = ucmd.args;
  throw new Errno('EOPNOTSUPP', `IOAS ${ioas_id}: this kernel gives no device without its IOMMU`);
}
