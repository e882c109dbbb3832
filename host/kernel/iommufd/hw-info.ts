/** IOMMU_GET_HW_INFO: what a device's IOMMU can do (iommufd_get_hw_info, device.c). */

import { PasidCap, PciExtCap } from '../../../devices/spec/pci.ts';
import type { Task } from '../../syscall.ts';
import type { iommu_hw_info } from '../../uapi/iommufd.ts';
import {
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
  IOMMU_HW_CAP_PCI_PASID_EXEC,
  IOMMU_HW_CAP_PCI_PASID_PRIV,
  IOMMU_HW_INFO_FLAG_INPUT_TYPE,
  IOMMU_HW_INFO_TYPE_NONE,
} from '../../uapi/iommufd.ts';
import type { HwInfo } from '../iommu/ops.ts';
import type { PciDev } from '../pci.ts';
import { IommufdDevice } from './device.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags, reservedZero } from './ucmd.ts';

/** Bytes zeroed at a time in what the caller's buffer has beyond the payload. */
const ZERO_CHUNK = 4096;

/** @throws Errno EOPNOTSUPP: flags, reserved, a type the driver has not; ENOENT; EFAULT */
export function* getHwInfo(ucmd: Ucmd<typeof iommu_hw_info.fields>): Task {
  const { flags, dev_id, data_len, data_uptr, out_data_type, __reserved } = ucmd.args;
  onlyFlags(flags, IOMMU_HW_INFO_FLAG_INPUT_TYPE);
  for (const byte of __reserved) reservedZero(byte);
  const requested = (flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE) === 0 ? 0 : out_data_type;
  using hold = ucmd.ctx.lookup(dev_id, IommufdDevice);
  const { dev, pdev } = hold.object;
  const info: HwInfo = dev.ops.hwInfo?.(dev, requested) ?? {
    type: IOMMU_HW_INFO_TYPE_NONE,
    bytes: new Uint8Array(0),
  };
  const { mm } = ucmd.process;
  const length = Math.min(data_len, info.bytes.length);
  if (length > 0) mm.copyTo(data_uptr, info.bytes.subarray(0, length));
  for (let at = length; at < data_len; at += ZERO_CHUNK) {
    mm.copyTo(data_uptr + BigInt(at), new Uint8Array(Math.min(ZERO_CHUNK, data_len - at)));
  }
  const dirty = dev.ops.capable(dev, 'dirty') ? IOMMU_HW_CAP_DIRTY_TRACKING : 0;
  const noAts = dev.ops.capable(dev, 'ats') ? 0 : IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED;
  ucmd.respond({
    data_len: info.bytes.length,
    out_data_type: info.type,
    out_max_pasid_log2: dev.maxPasids > 0 ? Math.floor(Math.log2(dev.maxPasids)) : 0,
    out_capabilities: BigInt(dirty | noAts | pasidFeatures(pdev)),
  });
}

/** EXEC and PRIV as the enabled PASID capability has them on. */
function pasidFeatures(pdev: PciDev | null): number {
  if (pdev === null) return 0;
  const cap = pdev.findExtCap(PciExtCap.PASID);
  if (cap === 0) return 0;
  const control = pdev.read16(cap + PasidCap.CONTROL);
  if ((control & PasidCap.CONTROL_ENABLE) === 0) return 0;
  const exec = (control & PasidCap.CONTROL_EXEC) === 0 ? 0 : IOMMU_HW_CAP_PCI_PASID_EXEC;
  const priv = (control & PasidCap.CONTROL_PRIVILEGED) === 0 ? 0 : IOMMU_HW_CAP_PCI_PASID_PRIV;
  return exec | priv;
}
