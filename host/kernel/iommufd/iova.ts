/** Where IOMMU_IOAS_MAP and COPY put a mapping that names no IOVA (iopt_alloc_iova). */
import { Errno } from '../errno.ts';
import type { Interval, IntervalSet } from './interval-set.ts';
import { holes, IOVA_MAX } from './interval-set.ts';
import { hex, PAGE_SIZE } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);
/** Alignment beyond a PMD page gains nothing. */
const ALIGNMENT_MAX = 2n << 20n;
const LENGTH_MAX = (1n << 63n) - 1n;
/** Without an allowed list: everything but the first and last page. IOVA 0 is never given. */
const ANYWHERE: Interval = { start: PAGE, last: IOVA_MAX - PAGE };

export interface Wanted {
  /** Bytes, above 0. */
  readonly length: bigint;
  /** Of the first byte in the process (or file): large pages need the IOVA to be aligned like it. */
  readonly address: bigint;
  /** Of the IOAS, bytes. */
  readonly alignment: bigint;
}

/**
 * The lowest IOVA for `wanted` that meets neither a reserved range nor an area, inside the allowed
 * ranges if there are any.
 *
 * @throws Errno EOVERFLOW, EINVAL, ENOSPC
 */
export function allocateIova(
  wanted: Wanted,
  allowed: IntervalSet<Interval>,
  reserved: IntervalSet<Interval>,
  areas: IntervalSet<Interval>,
): bigint {
  const { length, address } = wanted;
  if (length >= LENGTH_MAX) throw new Errno('EOVERFLOW', `length 0x${hex(length)}`);
  const alignment = preferredAlignment(length, address);
  if (alignment < wanted.alignment) {
    const need = wanted.alignment.toString();
    throw new Errno(
      'EINVAL',
      `user_va 0x${hex(address)} can only be aligned to ${alignment.toString()}, not ${need}`,
    );
  }
  const windows = allowed.size > 0 ? allowed : [ANYWHERE];
  for (const window of windows) {
    for (const hole of holes(window, reserved, areas)) {
      const aligned = (hole.start + alignment - 1n) & -alignment;
      const start = aligned | (address % PAGE);
      if (start !== 0n && start + length - 1n <= hole.last) return start;
    }
  }
  throw new Errno(
    'ENOSPC',
    `no room for 0x${hex(length)} bytes aligned to ${alignment.toString()}`,
  );
}

function preferredAlignment(length: bigint, address: bigint): bigint {
  let alignment = 1n << BigInt((length - 1n).toString(2).length);
  if (length === 1n) alignment = 1n;
  if (address !== 0n) {
    const lowest = address & -address;
    if (lowest < alignment) alignment = lowest;
  }
  return alignment < ALIGNMENT_MAX ? alignment : ALIGNMENT_MAX;
}
