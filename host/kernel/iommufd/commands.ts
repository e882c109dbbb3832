/** The commands of `/dev/iommu`: each one's structure and handler (iommufd_ioctl_ops, main.c). */
import type { Task } from '../../syscall.ts';
import {
  IOMMUFD_CMD,
  iommu_destroy,
  iommu_fault_alloc,
  iommu_hw_info,
  iommu_hw_queue_alloc,
  iommu_hwpt_alloc,
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_invalidate,
  iommu_hwpt_set_dirty_tracking,
  iommu_ioas_alloc,
  iommu_ioas_allow_iovas,
  iommu_ioas_change_process,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_ioas_map,
  iommu_ioas_map_file,
  iommu_ioas_noiommu_get_pa,
  iommu_ioas_unmap,
  iommu_option,
  iommu_vdevice_alloc,
  iommu_veventq_alloc,
  iommu_vfio_ioas,
  iommu_viommu_alloc,
} from '../../uapi/iommufd.ts';
import type { Fields, Struct } from '../../uapi/struct.ts';
import type { Caller } from '../file.ts';
import { getDirtyBitmap, setDirtyTracking } from './dirty.ts';
import { faultQueueAlloc } from './eventq.ts';
import { getHwInfo } from './hw-info.ts';
import { hwQueueAlloc } from './hw-queue.ts';
import { hwptAlloc } from './hwpt-alloc.ts';
import { hwptInvalidate } from './invalidate.ts';
import {
  ioasAlloc,
  ioasAllowIovas,
  ioasCopy,
  ioasIovaRanges,
  ioasMap,
  ioasUnmap,
  option,
} from './ioas.ts';
import { ioasChangeProcess, ioasMapFile } from './map-file.ts';
import { noiommuGetPa } from './noiommu.ts';
import type { IommufdCtx } from './object.ts';
import { Ucmd } from './ucmd.ts';
import { vdeviceAlloc } from './vdevice.ts';
import { veventqAlloc } from './veventq.ts';
import { vfioIoas } from './vfio-compat.ts';
import { viommuAlloc } from './viommu.ts';

/** What a command with many operations is in one call. */
export interface Variant {
  readonly name: string;
  readonly struct: Struct;
}

/** A command: its argument, and what it does. */
export interface Command {
  readonly struct: Struct;
  /** For traces: by the argument's bytes, where that makes a difference. */
  variant?(bytes: Uint8Array): Variant | undefined;
  /** @returns what the ioctl returns; nothing is 0 */
  run(
    ctx: IommufdCtx,
    caller: Caller,
    bytes: Uint8Array<ArrayBuffer>,
    address: bigint,
    userSize: number,
  ): Task<number | undefined> | Task;
}

/** By ioctl number. */
export type Commands = ReadonlyMap<number, Command>;

export function command<F extends Fields>(
  struct: Struct<F>,
  handler: (ucmd: Ucmd<F>) => Task<number | undefined> | Task,
): Command {
  return {
    struct,
    run: (ctx, caller, bytes, address, userSize) =>
      handler(new Ucmd(ctx, caller, struct, bytes, address, userSize)),
  };
}

const C = IOMMUFD_CMD;

export const COMMANDS: Commands = new Map([
  [C.IOMMU_DESTROY, command(iommu_destroy, ({ ctx, args }) => ctx.destroy(args.id))],
  [C.IOMMU_IOAS_ALLOC, command(iommu_ioas_alloc, ioasAlloc)],
  [C.IOMMU_IOAS_ALLOW_IOVAS, command(iommu_ioas_allow_iovas, ioasAllowIovas)],
  [C.IOMMU_IOAS_COPY, command(iommu_ioas_copy, ioasCopy)],
  [C.IOMMU_IOAS_IOVA_RANGES, command(iommu_ioas_iova_ranges, ioasIovaRanges)],
  [C.IOMMU_IOAS_MAP, command(iommu_ioas_map, ioasMap)],
  [C.IOMMU_IOAS_UNMAP, command(iommu_ioas_unmap, ioasUnmap)],
  [C.IOMMU_OPTION, command(iommu_option, option)],
  [C.IOMMU_VFIO_IOAS, command(iommu_vfio_ioas, vfioIoas)],
  [C.IOMMU_HWPT_ALLOC, command(iommu_hwpt_alloc, hwptAlloc)],
  [C.IOMMU_GET_HW_INFO, command(iommu_hw_info, getHwInfo)],
  [C.IOMMU_HWPT_SET_DIRTY_TRACKING, command(iommu_hwpt_set_dirty_tracking, setDirtyTracking)],
  [C.IOMMU_HWPT_GET_DIRTY_BITMAP, command(iommu_hwpt_get_dirty_bitmap, getDirtyBitmap)],
  [C.IOMMU_HWPT_INVALIDATE, command(iommu_hwpt_invalidate, hwptInvalidate)],
  [C.IOMMU_FAULT_QUEUE_ALLOC, command(iommu_fault_alloc, faultQueueAlloc)],
  [C.IOMMU_IOAS_MAP_FILE, command(iommu_ioas_map_file, ioasMapFile)],
  [C.IOMMU_IOAS_CHANGE_PROCESS, command(iommu_ioas_change_process, ioasChangeProcess)],
  [C.IOMMU_VIOMMU_ALLOC, command(iommu_viommu_alloc, viommuAlloc)],
  [C.IOMMU_VDEVICE_ALLOC, command(iommu_vdevice_alloc, vdeviceAlloc)],
  [C.IOMMU_VEVENTQ_ALLOC, command(iommu_veventq_alloc, veventqAlloc)],
  [C.IOMMU_HW_QUEUE_ALLOC, command(iommu_hw_queue_alloc, hwQueueAlloc)],
  [C.IOMMU_IOAS_NOIOMMU_GET_PA, command(iommu_ioas_noiommu_get_pa, noiommuGetPa)],
]);
