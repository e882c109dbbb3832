/** `/dev/iommu`: opening it, and the way of an ioctl to its handler (drivers/iommu/iommufd/main.c). */
import type { Task } from '../../syscall.ts';
import {
  IOMMUFD_CMD,
  IOMMUFD_IOCTLS,
  iommu_destroy,
  iommu_fault_alloc,
  iommu_hw_info,
  iommu_hwpt_alloc,
  iommu_hwpt_invalidate,
  iommu_ioas_alloc,
  iommu_ioas_allow_iovas,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_ioas_map,
  iommu_ioas_unmap,
  iommu_option,
} from '../../uapi/iommufd.ts';
import type { Fields, Struct } from '../../uapi/struct.ts';
import { VFIO_CONTAINER_IOCTLS } from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { Caller, FileOps, OpenFile } from '../file.ts';
import type { Kernel } from '../kernel.ts';
import { describeArgument } from './describe.ts';
import { faultQueueAlloc } from './eventq.ts';
import { getHwInfo } from './hw-info.ts';
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
import { IommufdCtx, IommufdGlobal } from './object.ts';
import { Ucmd } from './ucmd.ts';

const SIZE_FIELD_BYTES = 4;
/** Longest argument a caller may state; the part beyond the structure must be zero anyway. */
const USER_SIZE_MAX = 4096;

interface Command {
  readonly struct: Struct;
  run(
    ctx: IommufdCtx,
    caller: Caller,
    bytes: Uint8Array<ArrayBuffer>,
    address: bigint,
    userSize: number,
  ): Task;
}

function command<F extends Fields>(struct: Struct<F>, handler: (ucmd: Ucmd<F>) => Task): Command {
  return {
    struct,
    run: (ctx, caller, bytes, address, userSize) =>
      handler(new Ucmd(ctx, caller, struct, bytes, address, userSize)),
  };
}

const COMMANDS: ReadonlyMap<number, Command> = new Map([
  [IOMMUFD_CMD.IOMMU_DESTROY, command(iommu_destroy, ({ ctx, args }) => ctx.destroy(args.id))],
  [IOMMUFD_CMD.IOMMU_IOAS_ALLOC, command(iommu_ioas_alloc, ioasAlloc)],
  [IOMMUFD_CMD.IOMMU_IOAS_ALLOW_IOVAS, command(iommu_ioas_allow_iovas, ioasAllowIovas)],
  [IOMMUFD_CMD.IOMMU_IOAS_COPY, command(iommu_ioas_copy, ioasCopy)],
  [IOMMUFD_CMD.IOMMU_IOAS_IOVA_RANGES, command(iommu_ioas_iova_ranges, ioasIovaRanges)],
  [IOMMUFD_CMD.IOMMU_IOAS_MAP, command(iommu_ioas_map, ioasMap)],
  [IOMMUFD_CMD.IOMMU_IOAS_UNMAP, command(iommu_ioas_unmap, ioasUnmap)],
  [IOMMUFD_CMD.IOMMU_OPTION, command(iommu_option, option)],
  [IOMMUFD_CMD.IOMMU_HWPT_ALLOC, command(iommu_hwpt_alloc, hwptAlloc)],
  [IOMMUFD_CMD.IOMMU_GET_HW_INFO, command(iommu_hw_info, getHwInfo)],
  [IOMMUFD_CMD.IOMMU_HWPT_INVALIDATE, command(iommu_hwpt_invalidate, hwptInvalidate)],
  [IOMMUFD_CMD.IOMMU_FAULT_QUEUE_ALLOC, command(iommu_fault_alloc, faultQueueAlloc)],
]);

const NAMES: ReadonlyMap<number, string> = new Map(
  [...VFIO_CONTAINER_IOCTLS, ...IOMMUFD_IOCTLS].map(({ cmd, name }) => [cmd, name]),
);

/** An open `/dev/iommu`. */
export class IommufdFile implements FileOps {
  readonly name = '[iommufd]';
  readonly ctx: IommufdCtx;

  constructor(ctx: IommufdCtx) {
    this.ctx = ctx;
  }

  /**
   * The size rules of all commands, then the command.
   *
   * @throws Errno EFAULT; ENOTTY: no such command; EINVAL: `size` below the command's minimum;
   *   E2BIG: something in the part the kernel does not know; what the command says
   */
  *ioctl(caller: Caller, _file: OpenFile, request: number, argument: number): Task<number> {
    if (!isIommufd(request)) {
      throw new Errno('ENOTTY', `0x${request.toString(16)} is no command of iommufd`);
    }
    const address = BigInt(argument);
    const size = readSize(caller, address);
    const found = COMMANDS.get(request);
    if (found === undefined) {
      throw new Errno('ENOTTY', `command ${NAMES.get(request) ?? request} has no handler`);
    }
    const { struct } = found;
    if (size < struct.minSize) {
      throw new Errno('EINVAL', `size ${size} is below ${struct.minSize}`);
    }
    const bytes = copyArgument(caller, address, size, struct);
    this.ctx.kernel.failpoints.point('iommufd:copy_from_user');
    yield* found.run(this.ctx, caller, bytes, address, size);
    return 0;
  }

  *release(): Task {
    yield* this.ctx.unreference();
  }

  describe(request: number, argument: number, caller: Caller): { name: string; args: string } {
    const name = NAMES.get(request) ?? `0x${request.toString(16)}`;
    const found = IOMMUFD_IOCTLS.find(({ cmd }) => cmd === request);
    if (found === undefined) return { name, args: '' };
    let size = 0;
    try {
      size = readSize(caller, BigInt(argument));
    } catch {
      return { name, args: '' };
    }
    return { name, args: describeArgument(caller.mm, argument, found.struct, size) };
  }
}

/** The context behind a file descriptor. @throws Errno EBADF: not open; EBADFD: not an iommufd */
export function ctxFromFd(caller: Caller, fd: number): IommufdCtx {
  const { ops } = caller.files.get(fd);
  if (!(ops instanceof IommufdFile)) {
    throw new Errno('EBADFD', `file descriptor ${fd} is ${ops.name}, not an iommufd`);
  }
  return ops.ctx;
}

/** Registers `/dev/iommu` and counts what its users leave behind. */
export function iommufdInit(kernel: Kernel): void {
  const global = new IommufdGlobal();
  kernel.addLeftover('objects', () => global.objects);
  kernel.registerDevice('/dev/iommu', (process) => {
    kernel.failpoints.point('iommufd:open');
    return new IommufdFile(new IommufdCtx(kernel, process.pid, global));
  });
}

/** Whether the number is in iommufd's part of the shared ioctl space. */
function isIommufd(request: number): boolean {
  return IOMMUFD_IOCTLS.some(({ cmd }) => cmd === request);
}

function readSize(caller: Caller, address: bigint): number {
  const bytes = caller.mm.copyFrom(address, SIZE_FIELD_BYTES);
  return new DataView(bytes.buffer).getUint32(0, true);
}

/** copy_struct_from_user: short arguments end in zeros, long ones must. */
function copyArgument(
  caller: Caller,
  address: bigint,
  size: number,
  struct: Struct,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(struct.size);
  for (let at = struct.size; at < size; at += USER_SIZE_MAX) {
    const tail = caller.mm.copyFrom(address + BigInt(at), Math.min(USER_SIZE_MAX, size - at));
    if (tail.some((byte) => byte !== 0)) {
      throw new Errno('E2BIG', `size ${size}: non-zero bytes beyond ${struct.size}`);
    }
  }
  bytes.set(caller.mm.copyFrom(address, Math.min(size, struct.size)));
  return bytes;
}
