/** Where IOMMU_IOAS_MAP and COPY put a mapping that names no IOVA (iopt_alloc_iova). */
import { Errno } from '../errno.ts';
import type { Interval, IntervalSet } from './interval-set.ts';
import { IOVA_MAX } from './interval-set.ts';
import { hex, PAGE_SIZE } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);
/** Alignment beyond a PMD page gains nothing. */
const ALIGNMENT_MAX = 2n << 20n;
const LENGTH_MAX = (1n << 63n) - 1n;
/** Everything but the first and last page. IOVA 0 is never given. */
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
  for (const window of windowsOf(allowed)) {
    let at = window.start;
    for (;;) {
      const aligned = (at + alignment - 1n) & -alignment;
      const start = aligned | (address % PAGE);
      const last = start + length - 1n;
      if (last > window.last) break;
      const reserve = reserved.firstIn(start, last);
      const area = areas.firstIn(start, last);
      if (reserve !== undefined) at = reserve.last + 1n;
      else if (area !== undefined) at = areas.roomFrom(area.last + 1n, length);
      else return start;
    }
  }
  throw new Errno(
    'ENOSPC',
    `no room for 0x${hex(length)} bytes aligned to ${alignment.toString()}`,
  );
}

/** The allowed ranges as they are looked through: neighbours are one, and the ends are cut off. */
function windowsOf(allowed: IntervalSet<Interval>): Interval[] {
  if (allowed.size === 0) return [ANYWHERE];
  const windows: Interval[] = [];
  for (const range of allowed) {
    const start = range.start > ANYWHERE.start ? range.start : ANYWHERE.start;
    const last = range.last < ANYWHERE.last ? range.last : ANYWHERE.last;
    const before = windows.at(-1);
    if (start > last) continue;
    if (before?.last === start - 1n) windows[windows.length - 1] = { start: before.start, last };
    else windows.push({ start, last });
  }
  return windows;
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
