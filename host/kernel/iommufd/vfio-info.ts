/** VFIO_IOMMU_GET_INFO: the page sizes and usable IOVAs of an IOAS, as type1 tells them. */
import {
  VFIO_IOMMU_INFO_CAPS,
  VFIO_IOMMU_INFO_PGSIZES,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  vfio_iommu_type1_info,
  vfio_iommu_type1_info_cap_iova_range,
  vfio_iommu_type1_info_dma_avail,
  vfio_iova_range,
} from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { Mm } from '../mm.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { Ioas } from './ioas.ts';
import type { Hold } from './object.ts';
import { PAGE_SIZE } from './page-source.ts';

const PAGE = BigInt(PAGE_SIZE);
const U32_MAX = 0xffff_ffff;
const INFO_BYTES = vfio_iommu_type1_info.size;
const VERSION = 1;

/**
 * As many of the capabilities as `argsz` has room for; `argsz` becomes what all of them need.
 *
 * @throws Errno EFAULT; EINVAL: `argsz`; ENODEV from `find`
 */
export function vfioIommuInfo(mm: Mm, address: bigint, find: () => Hold<Ioas>): number {
  const { minSize } = vfio_iommu_type1_info;
  const head = mm.copyFrom(address, minSize);
  const argsz = new DataView(head.buffer).getUint32(0, true);
  if (argsz < minSize) throw new Errno('EINVAL', `argsz ${argsz} is below ${minSize}`);
  using hold = find();
  const { iopt } = hold.object;
  const available = dmaAvailable();
  const ranges = iovaRanges(iopt);
  const rangesAt = INFO_BYTES + Math.ceil(available.length / 8) * 8;
  const total = rangesAt + Math.ceil(ranges.length / 8) * 8;
  const fits = argsz >= total;
  if (argsz >= INFO_BYTES + available.length) {
    if (argsz >= rangesAt) new DataView(available.buffer).setUint32(4, rangesAt, true);
    mm.copyTo(address + BigInt(INFO_BYTES), available);
  }
  if (argsz >= rangesAt + ranges.length) mm.copyTo(address + BigInt(rangesAt), ranges);
  const info = vfio_iommu_type1_info.encode({
    argsz: total,
    flags: VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
    iova_pgsizes: pageSizes(iopt),
    cap_offset: fits ? INFO_BYTES : 0,
  });
  mm.copyTo(address, info.subarray(0, Math.min(argsz, INFO_BYTES)));
  return 0;
}

/** What every domain has, with sizes below a page shown as a page. */
function pageSizes(iopt: IoPagetable): bigint {
  let sizes = 0xffff_ffff_ffff_ffffn;
  for (const domain of iopt.domains) sizes &= BigInt(domain.pageSizes);
  if ((sizes & (PAGE - 1n)) !== 0n) sizes = (sizes & ~(PAGE - 1n)) | PAGE;
  return sizes > iopt.alignment ? sizes : iopt.alignment;
}

function dmaAvailable(): Uint8Array<ArrayBuffer> {
  const id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL;
  return vfio_iommu_type1_info_dma_avail.encode({ id, version: VERSION, avail: U32_MAX });
}

function iovaRanges(iopt: IoPagetable): Uint8Array<ArrayBuffer> {
  const list = [...iopt.space.usable()];
  const { size } = vfio_iommu_type1_info_cap_iova_range;
  const bytes = new Uint8Array(size + list.length * vfio_iova_range.size);
  const view = new DataView(bytes.buffer);
  vfio_iommu_type1_info_cap_iova_range.write(view, 0, {
    id: VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    version: VERSION,
    nr_iovas: list.length,
  });
  list.forEach(({ start, last }, n) => {
    vfio_iova_range.write(view, size + n * vfio_iova_range.size, { start, end: last });
  });
  return bytes;
}
