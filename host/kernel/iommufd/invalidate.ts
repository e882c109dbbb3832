/** IOMMU_HWPT_INVALIDATE: a guest's invalidations for a nested HWPT or a vIOMMU (hw_pagetable.c). */
import type { Task } from '../../syscall.ts';
import type { iommu_hwpt_invalidate } from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { UserArray } from '../iommu/ops.ts';
import type { Behaviour } from '../release.ts';
import { checkZeroed } from '../zeroed.ts';
import { HwptNested } from './hw-pagetable.ts';
import { IommufdObject } from './object.ts';
import type { Ucmd } from './ucmd.ts';
import { reservedZero } from './ucmd.ts';
import { IommufdViommu } from './viommu.ts';

/** Longest entry, and most of them, in one call. */
const ENTRY_BYTES_MAX = 4096;
const ENTRIES_MAX = 1 << 19;

type InvalidateUcmd = Ucmd<typeof iommu_hwpt_invalidate.fields>;

/**
 * `entry_num` tells, also in a failure, how many entries are done.
 *
 * @throws Errno EOPNOTSUPP: reserved, no driver op; EINVAL: no array, too many or too long
 *   entries, neither a nested HWPT nor a vIOMMU; ENOENT;
 *   EFAULT; what the driver says of an entry
 */
export function* hwptInvalidate(ucmd: InvalidateUcmd): Task {
  let array: UserArray | null = null;
  let failure: { readonly error: unknown } | null = null;
  try {
    const { args } = ucmd;
    reservedZero(args.__reserved);
    if (args.entry_num > 0 && (args.data_uptr === 0n || args.entry_len === 0)) {
      const what = `data_uptr 0x${args.data_uptr.toString(16)}, entry_len ${args.entry_len}`;
      throw new Errno('EINVAL', `${args.entry_num} entries with ${what}`);
    }
    if (args.entry_num > ENTRIES_MAX || (args.entry_num > 0 && args.entry_len > ENTRY_BYTES_MAX)) {
      const limits = `${ENTRIES_MAX} of ${ENTRY_BYTES_MAX} bytes`;
      throw new Errno(
        'EINVAL',
        `${args.entry_num} entries of ${args.entry_len} bytes: at most ${limits}`,
      );
    }
    using hold = ucmd.ctx.lookup(args.hwpt_id, IommufdObject);
    const invalidate = invalidationOf(hold.object, ucmd.ctx.kernel.behaviour);
    array = userArray(ucmd);
    yield* invalidate(array);
  } catch (error) {
    failure = { error };
  }
  ucmd.respond({ entry_num: array?.done ?? 0 });
  if (failure !== null) throw failure.error;
}

/**
 * @throws Errno EINVAL: not what has caches (ENOENT before 6.13); EOPNOTSUPP: the driver takes no
 *   invalidations
 */
function invalidationOf(
  object: IommufdObject,
  { invalidateUncached }: Behaviour,
): (array: UserArray) => Task {
  if (object instanceof HwptNested) {
    const { domain } = object;
    const { ops } = domain;
    if (ops.cacheInvalidateUser !== undefined) {
      return (array) => ops.cacheInvalidateUser!(domain, array);
    }
  } else if (object instanceof IommufdViommu) {
    const { core } = object;
    const { ops } = core;
    if (ops?.cacheInvalidate !== undefined) return (array) => ops.cacheInvalidate!(core, array);
  } else {
    throw new Errno(invalidateUncached, `object ${object.id} is of type ${object.type}`);
  }
  throw new Errno('EOPNOTSUPP', 'the driver takes no invalidations');
}

function userArray(ucmd: InvalidateUcmd): UserArray {
  const { data_uptr, data_type, entry_len, entry_num } = ucmd.args;
  return {
    type: data_type,
    entryLength: entry_len,
    entryCount: entry_num,
    done: 0,
    entry(index, minBytes, bytes) {
      if (entry_len < minBytes || entry_len > bytes) {
        throw new Errno('EINVAL', `entry_len ${entry_len} is not within ${minBytes}..${bytes}`);
      }
      const whole = new Uint8Array(bytes);
      whole.set(ucmd.process.mm.copyFrom(data_uptr + BigInt(index * entry_len), entry_len));
      return whole;
    },
    looseEntry(index, bytes) {
      const { mm } = ucmd.process;
      const at = data_uptr + BigInt(index) * BigInt(entry_len);
      const whole = new Uint8Array(bytes);
      whole.set(mm.copyFrom(at, Math.min(entry_len, bytes)));
      if (entry_len > bytes) {
        const refuse = (): Errno =>
          new Errno('E2BIG', `entry ${index}: non-zero bytes beyond ${bytes}`);
        checkZeroed(mm, at + BigInt(bytes), entry_len - bytes, refuse);
      }
      return whole;
    },
  };
}
