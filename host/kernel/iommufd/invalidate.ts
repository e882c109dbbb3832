/** IOMMU_HWPT_INVALIDATE: a guest's invalidations for a nested HWPT (hw_pagetable.c). */
import type { Task } from '../../syscall.ts';
import type { iommu_hwpt_invalidate } from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { UserArray } from '../iommu/ops.ts';
import { HwptNested } from './hw-pagetable.ts';
import { IommufdObject } from './object.ts';
import type { Ucmd } from './ucmd.ts';
import { reservedZero } from './ucmd.ts';

type InvalidateUcmd = Ucmd<typeof iommu_hwpt_invalidate.fields>;

/**
 * `entry_num` tells, also in a failure, how many entries are done.
 *
 * @throws Errno EOPNOTSUPP: reserved, no driver op; EINVAL: no array, not a nested HWPT; ENOENT;
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
    using hold = ucmd.ctx.lookup(args.hwpt_id, IommufdObject);
    const { object } = hold;
    if (!(object instanceof HwptNested)) {
      throw new Errno('EINVAL', `object ${object.id} is of type ${object.type}`);
    }
    const { domain } = object;
    if (domain.ops.cacheInvalidateUser === undefined) {
      throw new Errno('EOPNOTSUPP', 'the driver takes no invalidations');
    }
    array = userArray(ucmd);
    yield* domain.ops.cacheInvalidateUser(domain, array);
  } catch (error) {
    failure = { error };
  }
  ucmd.respond({ entry_num: array?.done ?? 0 });
  if (failure !== null) throw failure.error;
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
  };
}
