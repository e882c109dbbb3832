import type { Errno } from './errno.ts';
import type { Mm } from './mm.ts';

const PAGE_BYTES = 4096;

/**
 * check_zeroed_user: what a caller's structure has beyond the part that is known must be zero. Looked
 * at page by page: what lies behind the first other byte does not matter, mapped or not.
 *
 * @throws what `refuse` makes for another byte; Errno EFAULT
 */
export function checkZeroed(
  mm: Pick<Mm, 'copyFrom'>,
  address: bigint,
  length: number,
  refuse: () => Errno,
): void {
  for (let done = 0; done < length; ) {
    const at = address + BigInt(done);
    const bytes = Math.min(length - done, PAGE_BYTES - Number(at % BigInt(PAGE_BYTES)));
    if (mm.copyFrom(at, bytes).some((byte) => byte !== 0)) throw refuse();
    done += bytes;
  }
}
