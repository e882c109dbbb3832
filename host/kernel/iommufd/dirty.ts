/** Dirty page tracking of a paging HWPT (drivers/iommu/iommufd/hw_pagetable.c, io_pagetable.c). */
import type { Task } from '../../syscall.ts';
import type {
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_set_dirty_tracking,
} from '../../uapi/iommufd.ts';
import {
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
} from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { DirtyOps, IommuDomain } from '../iommu/ops.ts';
import { COST } from './cost.ts';
import { HwptPaging } from './hw-pagetable.ts';
import { IOVA_MAX } from './interval-set.ts';
import type { IoPagetable } from './io-pagetable.ts';
import { IovaBitmap } from './iova-bitmap.ts';
import { hex } from './pages.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags, reservedZero } from './ucmd.ts';

/**
 * IOMMU_HWPT_SET_DIRTY_TRACKING. Enabling starts from a clean state.
 *
 * @throws Errno EOPNOTSUPP: flags, reserved, a domain that does not track; ENOENT; what the driver
 *   says
 */
export function* setDirtyTracking(ucmd: Ucmd<typeof iommu_hwpt_set_dirty_tracking.fields>): Task {
  const { flags, hwpt_id, __reserved } = ucmd.args;
  onlyFlags(flags, IOMMU_HWPT_DIRTY_TRACKING_ENABLE);
  reservedZero(__reserved);
  using hold = ucmd.ctx.lookup(hwpt_id, HwptPaging);
  const { domain, ioas } = hold.object;
  const ops = dirtyOps(hold.object);
  const enable = (flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE) !== 0;
  yield COST.IOCTL;
  yield* ioas.iopt.locked(
    (function* () {
      if (enable) yield* clearAll(ops, domain, ioas.iopt);
      yield* ops.setDirtyTracking(domain, enable);
    })(),
  );
}

/**
 * IOMMU_HWPT_GET_DIRTY_BITMAP: bit n of `data` is set when a byte of `iova` + n * `page_size` was
 * written; other bits stay. What the walk itself meets (a hole, a bitmap that is not there) ends it
 * without an error, as upstream.
 *
 * @throws Errno EOPNOTSUPP: flags, reserved, a domain that does not track; ENOENT; EINVAL: length 0,
 *   misaligned; EOVERFLOW; ENOMEM
 */
export function* getDirtyBitmap(ucmd: Ucmd<typeof iommu_hwpt_get_dirty_bitmap.fields>): Task {
  const { hwpt_id, flags, __reserved, iova, length, page_size, data } = ucmd.args;
  onlyFlags(flags, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR);
  reservedZero(__reserved);
  using hold = ucmd.ctx.lookup(hwpt_id, HwptPaging);
  const { domain, ioas } = hold.object;
  checkRange(ioas.iopt, iova, length, page_size);
  const ops = dirtyOps(hold.object);
  ucmd.ctx.kernel.failpoints.point('iommufd:iova_bitmap');
  const bitmap = new IovaBitmap(ucmd.process.mm, data, { iova, length, pageSize: page_size });
  const clear = (flags & IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR) === 0;
  yield COST.IOCTL;
  yield* ioas.iopt.locked(
    (function* () {
      const last = iova + length - 1n;
      let next = iova;
      for (const area of ioas.iopt.areas.allIn(iova, last)) {
        if (area.start > next || !area.ready) break;
        const end = area.last < last ? area.last : last;
        try {
          yield* ops.readAndClearDirty(domain, next, end - next + 1n, clear, bitmap.record);
        } catch (error) {
          if (error instanceof Errno) break;
          throw error;
        }
        next = end + 1n;
      }
      bitmap.flush();
    })(),
  );
}

function dirtyOps(hwpt: HwptPaging): DirtyOps {
  const { dirtyOps: ops } = hwpt.domain;
  if (ops !== undefined) return ops;
  throw new Errno('EOPNOTSUPP', `HWPT ${hwpt.id} was made without DIRTY_TRACKING`);
}

function* clearAll(ops: DirtyOps, domain: IommuDomain, iopt: IoPagetable): Task {
  for (const area of [...iopt.areas]) {
    if (area.ready) yield* ops.readAndClearDirty(domain, area.start, area.length, true, null);
  }
}

/** iommufd_check_iova_range. */
function checkRange(iopt: IoPagetable, iova: bigint, length: bigint, pageSize: bigint): void {
  if (length === 0n) throw new Errno('EINVAL', 'length 0');
  const last = iova + length - 1n;
  if (last > IOVA_MAX) {
    throw new Errno('EOVERFLOW', `iova 0x${hex(iova)} + length 0x${hex(length)} wraps`);
  }
  const aligned = (unit: bigint): boolean => iova % unit === 0n && (last + 1n) % unit === 0n;
  if (!aligned(iopt.alignment)) {
    throw new Errno('EINVAL', `iova or length is not a multiple of ${iopt.alignment.toString()}`);
  }
  if (pageSize === 0n) throw new Errno('EINVAL', 'page_size 0');
  const lowBits = pageSize - 1n;
  if ((iova & lowBits) !== 0n || ((last + 1n) & lowBits) !== 0n) {
    throw new Errno('EINVAL', `iova or length is not a multiple of page_size 0x${hex(pageSize)}`);
  }
}
