/** I/O address spaces and their ioctls (drivers/iommu/iommufd/ioas.c). */

import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import type {
  iommu_ioas_alloc,
  iommu_ioas_allow_iovas,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_ioas_map,
  iommu_ioas_unmap,
  iommu_option,
} from '../../uapi/iommufd.ts';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  iommu_iova_range,
} from '../../uapi/iommufd.ts';
import type { Struct } from '../../uapi/struct.ts';
import { Errno } from '../errno.ts';
import type { Caller } from '../file.ts';
import { PROT } from '../iommu/ops.ts';
import { PinAccount } from './accounting.ts';
import { COST } from './cost.ts';
import type { Interval } from './interval-set.ts';
import { IntervalSet, IOVA_MAX } from './interval-set.ts';
import { IoPagetable } from './io-pagetable.ts';
import { rangeText } from './iova-space.ts';
import type { IommufdCtx } from './object.ts';
import { IommufdObject } from './object.ts';
import type { PageSource } from './page-source.ts';
import { userSource } from './page-source.ts';
import { hex, IoptPages } from './pages.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags, reservedZero } from './ucmd.ts';

/** Flags of MAP, MAP_FILE and COPY. */
export const MAP_FLAGS =
  IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;
const RANGE_BYTES = iommu_iova_range.size;

type Cmd<S extends Struct> = S extends Struct<infer F> ? Ucmd<F> : never;

export class Ioas extends IommufdObject {
  readonly type = 'IOAS';
  readonly iopt: IoPagetable;
  /** Held while HWPTs of it are made or searched; outside the igroup mutex. */
  readonly mutex = new Mutex();
  /** Its paging HWPTs in order of creation. */
  readonly hwpts: IommufdObject[] = [];

  constructor(ctx: IommufdCtx) {
    super(ctx);
    ctx.kernel.failpoints.point('iommufd:ioas');
    this.iopt = new IoPagetable(ctx.kernel, this);
  }

  describe(): string {
    return 'I/O address space';
  }

  *destroy(): Task {
    yield* this.iopt.unmap(0n, IOVA_MAX);
    this.iopt.space.release();
  }
}

/** IOMMU_IOAS_ALLOC. */
export function* ioasAlloc(ucmd: Cmd<typeof iommu_ioas_alloc>): Task {
  const { ctx } = ucmd;
  onlyFlags(ucmd.args.flags, 0);
  const ioas = new Ioas(ctx);
  ctx.reserve(ioas);
  try {
    ucmd.respond({ out_ioas_id: ioas.id });
  } catch (error) {
    yield* ctx.abort(ioas);
    throw error;
  }
  ctx.publish(ioas);
}

/** IOMMU_IOAS_IOVA_RANGES. @throws Errno EMSGSIZE: the array is too short; the count is written */
export function* ioasIovaRanges(ucmd: Cmd<typeof iommu_ioas_iova_ranges>): Task {
  const { ioas_id, num_iovas, __reserved, allowed_iovas } = ucmd.args;
  reservedZero(__reserved);
  using hold = ucmd.ctx.lookup(ioas_id, Ioas);
  const { iopt } = hold.object;
  let count = 0;
  for (const { start, last } of iopt.space.usable()) {
    if (count < num_iovas) {
      const at = allowed_iovas + BigInt(count * RANGE_BYTES);
      ucmd.process.mm.copyTo(at, iommu_iova_range.encode({ start, last }));
    }
    count++;
  }
  ucmd.respond({ num_iovas: count, out_iova_alignment: iopt.alignment });
  if (count > num_iovas) {
    throw new Errno('EMSGSIZE', `${count} ranges, room for ${num_iovas}`);
  }
}

/** IOMMU_IOAS_ALLOW_IOVAS. @throws Errno EINVAL: an empty or overlapping range; EADDRINUSE */
export function* ioasAllowIovas(ucmd: Cmd<typeof iommu_ioas_allow_iovas>): Task {
  const { ioas_id, num_iovas, __reserved, allowed_iovas } = ucmd.args;
  reservedZero(__reserved);
  using hold = ucmd.ctx.lookup(ioas_id, Ioas);
  const allowed = new IntervalSet<Interval>();
  const { memory } = ucmd.ctx.kernel;
  using taken = new DisposableStack();
  taken.defer(() => memory.give(allowed.size));
  for (let index = 0; index < num_iovas; index++) {
    const bytes = ucmd.process.mm.copyFrom(
      allowed_iovas + BigInt(index * RANGE_BYTES),
      RANGE_BYTES,
    );
    const range = iommu_iova_range.read(new DataView(bytes.buffer));
    const { start, last } = range;
    if (start >= last) throw new Errno('EINVAL', `range ${index}: start 0x${hex(start)} >= last`);
    const other = allowed.firstIn(start, last);
    if (other !== undefined) {
      const what = `${rangeText(range)} overlaps ${rangeText(other)}`;
      throw new Errno('EINVAL', `range ${index}: ${what}`);
    }
    ucmd.ctx.kernel.failpoints.point('iommufd:iopt_allowed');
    memory.take(1, 'an allowed range');
    allowed.insert(range);
  }
  hold.object.iopt.space.allow(allowed);
  taken.move();
}

/** IOMMU_IOAS_MAP. */
export function* ioasMap(ucmd: Cmd<typeof iommu_ioas_map>): Task {
  const { ctx, process } = ucmd;
  const { flags, ioas_id, __reserved, user_va, length, iova } = ucmd.args;
  onlyFlags(flags, MAP_FLAGS);
  reservedZero(__reserved);
  notWhole('iova', iova);
  notWhole('length', length);
  const prot = protOf(flags);
  using hold = ctx.lookup(ioas_id, Ioas);
  if (length === 0n) throw new Errno('EINVAL', 'length 0');
  yield COST.IOCTL;
  const source = userSource(process.mm, user_va, length);
  const fixed = (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0;
  const { iopt } = hold.object;
  const start = yield* mapSource(ctx, process, iopt, {
    source,
    length,
    prot,
    iova: fixed ? iova : null,
  });
  yield* orUnmap(() => ucmd.respond({ iova: start }), iopt, start, length);
}

/** What to map, and where; `iova` null: anywhere. */
export interface SourceMapping {
  readonly source: PageSource;
  readonly length: bigint;
  readonly prot: number;
  readonly iova: bigint | null;
}

/**
 * Makes a page set of the source, which it takes over, and maps it (iopt_map_common). @returns the
 * IOVA @throws Errno as IoPagetable.map
 */
export function* mapSource(
  ctx: IommufdCtx,
  caller: Caller,
  iopt: IoPagetable,
  mapping: SourceMapping,
): Task<bigint> {
  const { source, length, prot, iova } = mapping;
  const account = new PinAccount(caller, ctx.payer(caller).user, ctx.accounting);
  const writable = (prot & PROT.WRITE) !== 0;
  const pages = new IoptPages(ctx.kernel, ctx.global, { source, length, writable, account });
  try {
    const slice = { pages, pagesByte: pages.firstByte, length };
    return yield* iopt.map([slice], prot, iova, pages.base + pages.firstByte);
  } finally {
    pages.put();
  }
}

/** IOMMU_IOAS_COPY. */
export function* ioasCopy(ucmd: Cmd<typeof iommu_ioas_copy>): Task {
  const { ctx } = ucmd;
  const { flags, dst_ioas_id, src_ioas_id, length, dst_iova, src_iova } = ucmd.args;
  onlyFlags(flags, MAP_FLAGS);
  notWhole('length', length);
  notWhole('src_iova', src_iova);
  notWhole('dst_iova', dst_iova);
  const prot = protOf(flags);
  using source = ctx.lookup(src_ioas_id, Ioas);
  const slices = source.object.iopt.slices(src_iova, length);
  using users = new DisposableStack();
  for (const { pages } of slices) {
    pages.get();
    users.defer(() => pages.put());
  }
  using target = ctx.lookup(dst_ioas_id, Ioas);
  yield COST.IOCTL;
  const fixed = (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0;
  const { pages, pagesByte } = slices[0]!;
  const { iopt } = target.object;
  const start = yield* iopt.map(slices, prot, fixed ? dst_iova : null, pages.base + pagesByte);
  yield* orUnmap(() => ucmd.respond({ dst_iova: start }), iopt, start, length);
}

/** IOMMU_IOAS_UNMAP. */
export function* ioasUnmap(ucmd: Cmd<typeof iommu_ioas_unmap>): Task {
  const { ioas_id, iova, length } = ucmd.args;
  using hold = ucmd.ctx.lookup(ioas_id, Ioas);
  const { iopt } = hold.object;
  yield COST.IOCTL;
  const done = { bytes: 0n };
  if (iova === 0n && length === IOVA_MAX) {
    yield* iopt.unmap(0n, IOVA_MAX, done);
  } else {
    notWhole('iova', iova);
    notWhole('length', length);
    if (length === 0n) throw new Errno('EINVAL', 'length 0');
    const last = iova + length - 1n;
    if (last > IOVA_MAX) {
      throw new Errno('EOVERFLOW', `iova 0x${hex(iova)} + length 0x${hex(length)} wraps`);
    }
    yield* iopt.unmap(iova, last, done);
    if (done.bytes === 0n) {
      throw new Errno('ENOENT', `nothing is mapped in ${rangeText({ start: iova, last })}`);
    }
  }
  ucmd.respond({ length: done.bytes });
}

/** IOMMU_OPTION. */
export function* option(ucmd: Cmd<typeof iommu_option>): Task {
  const { option_id, op, __reserved, object_id, val64 } = ucmd.args;
  reservedZero(__reserved);
  let value: bigint;
  if (option_id === IOMMU_OPTION_RLIMIT_MODE) {
    if (object_id !== 0) throw new Errno('EOPNOTSUPP', `object_id ${object_id} for RLIMIT_MODE`);
    value = rlimitMode(ucmd, op, val64);
  } else if (option_id === IOMMU_OPTION_HUGE_PAGES) {
    using hold = ucmd.ctx.lookup(object_id, Ioas);
    value = yield* hugePages(hold.object, op, val64);
  } else {
    throw new Errno('EOPNOTSUPP', `option ${option_id}`);
  }
  ucmd.respond({ val64: value });
}

function rlimitMode(ucmd: Cmd<typeof iommu_option>, op: number, value: bigint): bigint {
  const { ctx, process } = ucmd;
  if (op === IOMMU_OPTION_OP_GET) return ctx.accounting === 'mm' ? 1n : 0n;
  if (op !== IOMMU_OPTION_OP_SET) throw new Errno('EOPNOTSUPP', `op ${op}`);
  if (!process.credentials.sysResource) {
    throw new Errno('EPERM', `user ${process.credentials.uid} lacks CAP_SYS_RESOURCE`);
  }
  if (!ctx.empty) throw new Errno('EBUSY', 'RLIMIT_MODE must be set before any object exists');
  if (value > 1n) throw new Errno('EINVAL', `RLIMIT_MODE ${value.toString()}`);
  ctx.accounting = value === 1n ? 'mm' : 'user';
  return value;
}

function* hugePages(ioas: Ioas, op: number, value: bigint): Task<bigint> {
  if (op === IOMMU_OPTION_OP_GET) return ioas.iopt.hugePages ? 1n : 0n;
  if (op !== IOMMU_OPTION_OP_SET) throw new Errno('EOPNOTSUPP', `op ${op}`);
  if (value > 1n) throw new Errno('EINVAL', `HUGE_PAGES ${value.toString()}`);
  yield* ioas.iopt.setHugePages(value === 1n);
  return value;
}

/** PROT bits of a mapping. @throws Errno EINVAL: neither */
export function protOf(flags: number): number {
  const read = (flags & IOMMU_IOAS_MAP_READABLE) !== 0 ? PROT.READ : 0;
  const write = (flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0 ? PROT.WRITE : 0;
  if ((read | write) === 0) throw new Errno('EINVAL', 'neither READABLE nor WRITEABLE');
  return read | write;
}

/** Refuses a value that leaves no room for a last byte below 2^64. @throws Errno EOVERFLOW */
export function notWhole(name: string, value: bigint): void {
  if (value >= IOVA_MAX) throw new Errno('EOVERFLOW', `${name} is 0x${hex(value)}`);
}

/** The reply of MAP and COPY; a mapping whose place the caller never learns is undone. */
export function* orUnmap(
  respond: () => void,
  iopt: IoPagetable,
  start: bigint,
  length: bigint,
): Task {
  try {
    respond();
  } catch (error) {
    yield* iopt.unmap(start, start + length - 1n);
    throw error;
  }
}
