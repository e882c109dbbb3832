/** `/dev/iommu`: opening it, and the way of an ioctl to its handler (drivers/iommu/iommufd/main.c). */
import type { Task } from '../../syscall.ts';
import { IOMMUFD_IOCTLS } from '../../uapi/iommufd.ts';
import type { Struct } from '../../uapi/struct.ts';
import { VFIO_CONTAINER_IOCTLS } from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { Caller, FileOps, MmapRequest, MmapResult, OpenFile } from '../file.ts';
import type { Kernel } from '../kernel.ts';
import { checkZeroed } from '../zeroed.ts';
import type { Commands } from './commands.ts';
import { COMMANDS } from './commands.ts';
import { describeArgument } from './describe.ts';
import { mapRange } from './mmap.ts';
import { IommufdCtx, IommufdGlobal } from './object.ts';
import { vfioCompat } from './vfio-compat.ts';

const SIZE_FIELD_BYTES = 4;

/** iommufd's commands begin here among the 256 numbers of its ioctl type; VFIO's are below. */
const FIRST_NUMBER = 0x80;

const NAMES: ReadonlyMap<number, string> = new Map(
  [...VFIO_CONTAINER_IOCTLS, ...IOMMUFD_IOCTLS].map(({ cmd, name }) => [cmd, name]),
);

/** An open `/dev/iommu`. */
export class IommufdFile implements FileOps {
  readonly name = '[iommufd]';
  readonly ctx: IommufdCtx;
  readonly #commands: Commands;
  readonly #last: number;

  /** @param last the highest of the commands' numbers, of the 256 of their ioctl type */
  constructor(ctx: IommufdCtx, commands: Commands, last: number) {
    this.ctx = ctx;
    this.#commands = commands;
    this.#last = last;
  }

  /**
   * The size rules of all commands, then the command.
   *
   * @throws Errno EFAULT; ENOTTY: no such command; EINVAL: `size` below the command's minimum;
   *   E2BIG: something in the part the kernel does not know; what the command says
   */
  ioctl(
    caller: Caller,
    _file: OpenFile,
    request: number,
    argument: number,
  ): Task<number | undefined> | Task {
    const number = request & 0xff;
    if (number < FIRST_NUMBER || number > this.#last) {
      return vfioCompat(this.ctx, caller, request, argument);
    }
    const address = BigInt(argument);
    const size = readSize(caller, address);
    const found = this.#commands.get(request);
    if (found === undefined) {
      throw new Errno('ENOTTY', `0x${request.toString(16)} is no command of iommufd`);
    }
    const { struct } = found;
    if (size < struct.minSize) {
      throw new Errno('EINVAL', `size ${size} is below ${struct.minSize}`);
    }
    const bytes = copyArgument(caller, address, size, struct);
    return found.run(this.ctx, caller, bytes, address, size);
  }

  mmap(_caller: Caller, file: OpenFile, request: MmapRequest): MmapResult {
    return mapRange(this.ctx.mmaps, file, request);
  }

  *release(): Task {
    yield* this.ctx.unreference();
  }

  describe(request: number, argument: number, caller: Caller): { name: string; args: string } {
    const plain = NAMES.get(request) ?? `0x${request.toString(16)}`;
    const found = this.#commands.get(request);
    if (found === undefined) return { name: plain, args: '' };
    return this.ctx.kernel.failpoints.suspended(() => {
      try {
        const address = BigInt(argument);
        const size = readSize(caller, address);
        const variant = found.variant?.(copyArgument(caller, address, size, found.struct));
        const { name, struct } = variant ?? { name: plain, struct: found.struct };
        const args = describeArgument(caller.mm, argument, struct, size);
        return { name, args: variant === undefined ? args : args.replace(/^op=\d+ ?/, '') };
      } catch {
        return { name: plain, args: '' };
      }
    });
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

/**
 * Registers `/dev/iommu`, and `/dev/vfio/vfio` as another name of it for programs that know only the
 * VFIO container. Counts what their users leave behind.
 *
 * @param more commands beside the uAPI's, by ioctl number
 */
export function iommufdInit(kernel: Kernel, more: Commands = new Map()): void {
  const global = new IommufdGlobal();
  const commands = new Map([...COMMANDS, ...more]);
  const last = Math.max(...commands.keys()) & 0xff;
  kernel.addLeftover('objects', () => global.objects);
  const open = (pid: number, accounting: 'user' | 'mm'): IommufdFile => {
    kernel.failpoints.point('iommufd:open');
    const ctx = new IommufdCtx(kernel, pid, global);
    ctx.accounting = accounting;
    return new IommufdFile(ctx, commands, last);
  };
  kernel.registerDevice('/dev/iommu', ({ pid }) => open(pid, 'user'));
  kernel.registerDevice('/dev/vfio/vfio', ({ pid }) => open(pid, 'mm'));
}

function readSize(caller: Caller, address: bigint): number {
  const bytes = caller.mm.copyFrom(address, SIZE_FIELD_BYTES);
  return (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
}

/** copy_struct_from_user: short arguments end in zeros, long ones must. */
function copyArgument(
  caller: Caller,
  address: bigint,
  size: number,
  struct: Struct,
): Uint8Array<ArrayBuffer> {
  const tail = address + BigInt(struct.size);
  checkZeroed(
    caller.mm,
    tail,
    size - struct.size,
    () => new Errno('E2BIG', `size ${size}: non-zero bytes beyond ${struct.size}`),
  );
  const given = caller.mm.copyFrom(address, Math.min(size, struct.size));
  if (size >= struct.size) return given;
  const bytes = new Uint8Array(struct.size);
  bytes.set(given);
  return bytes;
}
