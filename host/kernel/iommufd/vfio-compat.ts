/**
 * The VFIO container's ioctls on an iommufd, for programs that know only type1
 * (drivers/iommu/iommufd/vfio_compat.c). They work on the IOAS that IOMMU_VFIO_IOAS names.
 */
import type { Task } from '../../syscall.ts';
import type { iommu_vfio_ioas } from '../../uapi/iommufd.ts';
import {
  IOMMU_VFIO_IOAS_CLEAR,
  IOMMU_VFIO_IOAS_GET,
  IOMMU_VFIO_IOAS_SET,
} from '../../uapi/iommufd.ts';
import type { Fields, Struct, Values } from '../../uapi/struct.ts';
import {
  VFIO_API_VERSION,
  VFIO_CONTAINER_CMD,
  VFIO_DMA_CC_IOMMU,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_UNMAP_ALL,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
} from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { Caller } from '../file.ts';
import { PROT } from '../iommu/ops.ts';
import { COST } from './cost.ts';
import { HwptPaging } from './hw-pagetable.ts';
import { IOVA_MAX } from './interval-set.ts';
import { Ioas, mapSource } from './ioas.ts';
import type { Hold, IommufdCtx } from './object.ts';
import { userSource } from './page-source.ts';
import { hex } from './pages.ts';
import { cut } from './split.ts';
import type { Ucmd } from './ucmd.ts';
import { reservedZero } from './ucmd.ts';
import { vfioIommuInfo } from './vfio-info.ts';

/**
 * IOMMU_VFIO_IOAS.
 *
 * @throws Errno EOPNOTSUPP: reserved, op; ENODEV: GET without one; ENOENT: SET to what is no IOAS
 */
export function* vfioIoas(ucmd: Ucmd<typeof iommu_vfio_ioas.fields>): Task {
  const { ctx, args } = ucmd;
  reservedZero(args.__reserved);
  if (args.op === IOMMU_VFIO_IOAS_GET) {
    using hold = compatIoas(ctx);
    ucmd.respond({ ioas_id: hold.object.id });
  } else if (args.op === IOMMU_VFIO_IOAS_SET) {
    using hold = ctx.lookup(args.ioas_id, Ioas);
    ctx.vfioIoas = hold.object;
  } else if (args.op === IOMMU_VFIO_IOAS_CLEAR) {
    ctx.vfioIoas = null;
  } else {
    throw new Errno('EOPNOTSUPP', `op ${args.op}`);
  }
}

/** @throws Errno ENOTTY: no ioctl of a container; what the ioctl says */
export function* vfioCompat(
  ctx: IommufdCtx,
  caller: Caller,
  request: number,
  argument: number,
): Task<number> {
  switch (request) {
    case VFIO_CONTAINER_CMD.VFIO_GET_API_VERSION:
      return VFIO_API_VERSION;
    case VFIO_CONTAINER_CMD.VFIO_CHECK_EXTENSION:
      return checkExtension(ctx, argument);
    case VFIO_CONTAINER_CMD.VFIO_SET_IOMMU:
      return yield* setIommu(ctx, argument);
    case VFIO_CONTAINER_CMD.VFIO_IOMMU_GET_INFO:
      return vfioIommuInfo(caller.mm, BigInt(argument), () => compatIoas(ctx));
    case VFIO_CONTAINER_CMD.VFIO_IOMMU_MAP_DMA:
      return yield* mapDma(ctx, caller, BigInt(argument));
    case VFIO_CONTAINER_CMD.VFIO_IOMMU_UNMAP_DMA:
      return yield* unmapDma(ctx, caller, BigInt(argument));
    default:
      throw new Errno('ENOTTY', `0x${hex(request)} is no command of iommufd or a container`);
  }
}

/** The IOAS for VFIO calls is made if there is none (iommufd_vfio_compat_ioas_create). */
export function* ensureCompatIoas(ctx: IommufdCtx): Task {
  const ioas = new Ioas(ctx);
  ctx.reserve(ioas);
  if (ctx.vfioIoas instanceof Ioas) {
    yield* ctx.abort(ioas);
    return;
  }
  ctx.vfioIoas = ioas;
  ctx.publish(ioas);
}

/** @throws Errno ENODEV: there is none */
function compatIoas(ctx: IommufdCtx): Hold<Ioas> {
  if (!(ctx.vfioIoas instanceof Ioas)) throw new Errno('ENODEV', 'no IOAS serves VFIO calls');
  return ctx.lookup(ctx.vfioIoas.id, Ioas);
}

/** 1: yes. @throws Errno ENODEV for DMA_CC without an IOAS */
function checkExtension(ctx: IommufdCtx, extension: number): number {
  switch (extension) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_UNMAP_ALL:
      return 1;
    case VFIO_DMA_CC_IOMMU: {
      using hold = compatIoas(ctx);
      return hold.object.hwpts.every(enforcesCoherency) ? 1 : 0;
    }
    default:
      return 0;
  }
}

function enforcesCoherency(hwpt: unknown): boolean {
  return hwpt instanceof HwptPaging && hwpt.enforcesCoherency;
}

/** @throws Errno EINVAL: neither type 1 nor v2; or as HUGE_PAGES off, for type 1; ENODEV */
function* setIommu(ctx: IommufdCtx, type: number): Task<number> {
  if (type !== VFIO_TYPE1_IOMMU && type !== VFIO_TYPE1v2_IOMMU) {
    throw new Errno('EINVAL', `IOMMU type ${type}`);
  }
  using hold = compatIoas(ctx);
  yield COST.IOCTL;
  // Type 1 may unmap in the middle of a mapping, which a large page cannot follow.
  if (type === VFIO_TYPE1_IOMMU) yield* hold.object.iopt.setHugePages(false);
  return 0;
}

/** @throws Errno EFAULT; EINVAL: argsz, flags; ENODEV; as IOMMU_IOAS_MAP with a fixed IOVA */
function* mapDma(ctx: IommufdCtx, caller: Caller, address: bigint): Task<number> {
  const known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  const args = readArgument(caller, address, vfio_iommu_type1_dma_map, known);
  const read = (args.flags & VFIO_DMA_MAP_FLAG_READ) !== 0 ? PROT.READ : 0;
  const write = (args.flags & VFIO_DMA_MAP_FLAG_WRITE) !== 0 ? PROT.WRITE : 0;
  using hold = compatIoas(ctx);
  yield COST.IOCTL;
  const { iova, vaddr, size: length } = args;
  const source = userSource(caller.mm, vaddr, length);
  const mapping = { source, length, prot: read | write, iova };
  yield* mapSource(ctx, caller, hold.object.iopt, mapping);
  return 0;
}

/**
 * Type 1 (large pages are off) may cut mappings; v2 unmaps only whole ones. That nothing is mapped
 * is no error. `size` becomes what was unmapped, also before a mapping that would be cut.
 *
 * @throws Errno EFAULT; EINVAL: argsz, flags, ALL with a range, size 0; ENODEV; EOVERFLOW; ENOENT: v2
 *   would cut a mapping
 */
function* unmapDma(ctx: IommufdCtx, caller: Caller, address: bigint): Task<number> {
  const struct = vfio_iommu_type1_dma_unmap;
  const args = readArgument(caller, address, struct, VFIO_DMA_UNMAP_FLAG_ALL);
  using hold = compatIoas(ctx);
  const { iopt } = hold.object;
  yield COST.IOCTL;
  const all = (args.flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
  const { iova, size } = args;
  if (all && (iova !== 0n || size !== 0n)) {
    throw new Errno('EINVAL', `flag ALL with iova 0x${hex(iova)}, size 0x${hex(size)}`);
  }
  const last = all ? IOVA_MAX : iova + size - 1n;
  if (!all) {
    if (size === 0n) throw new Errno('EINVAL', 'size 0');
    if (last > IOVA_MAX) throw new Errno('EOVERFLOW', `iova 0x${hex(iova)} + size wraps`);
    if (!iopt.hugePages) yield* cut(ctx, iopt, iova === 0n ? [last] : [last, iova - 1n]);
  }
  const done = { bytes: 0n };
  try {
    yield* iopt.unmap(iova, last, done);
  } finally {
    const reply = struct.encode({ ...args, size: done.bytes });
    caller.mm.copyTo(address, reply.subarray(0, struct.size));
  }
  return 0;
}

/** @throws Errno EFAULT; EINVAL: `argsz` is too small, or unknown flags */
function readArgument<F extends Fields & { argsz: 'u32'; flags: 'u32' }>(
  caller: Caller,
  address: bigint,
  struct: Struct<F>,
  known: number,
): Values<F> {
  const bytes = caller.mm.copyFrom(address, struct.size);
  const view = new DataView(bytes.buffer);
  const [argsz, flags] = [view.getUint32(0, true), view.getUint32(4, true)];
  if (argsz < struct.size) throw new Errno('EINVAL', `argsz ${argsz} is below ${struct.size}`);
  if ((flags & ~known) !== 0) throw new Errno('EINVAL', `flags 0x${hex(flags)}`);
  return struct.read(view);
}
