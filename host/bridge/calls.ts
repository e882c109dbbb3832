import { Errno } from '../kernel/errno.ts';
import { type Caller, type FileOps, OpenFile } from '../kernel/file.ts';
import { controlFile, noteRefusal, readFile, writeFile } from '../kernel/file-calls.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { MappedFile } from '../kernel/vma.ts';
import type { Task } from '../syscall.ts';
import { ERRNO } from '../uapi/errno.ts';
import { IOMMUFD_CMD } from '../uapi/iommufd.ts';
import {
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_RDWR,
  PROT_WRITE,
} from '../uapi/poll.ts';
import { VFIO_GROUP_CMD } from '../uapi/vfio.ts';
import { type BridgedMm, InlineArgument } from './bridged-mm.ts';
import { BrokerGone } from './broker.ts';
import { deviceStat } from './device-numbers.ts';
import { type BridgedFiles, type FileTable, SpareNeeded } from './files.ts';
import type { Places } from './places.ts';
import { MappedWindow } from './window.ts';
import { OP, REPLY, REQUEST_WRITABLE, type Request } from './wire.ts';

/** What goes back to the caller. */
export interface Outcome {
  /** >= 0, or -errno. */
  readonly result: number;
  /** REPLY bits. */
  readonly flags: number;
  /** For an ioctl its argument's first bytes. */
  readonly data: Uint8Array;
}

/** A call on behalf of a real program. */
export interface BridgedCall extends Caller {
  readonly mm: BridgedMm;
  readonly files: BridgedFiles;
  /** The thread that calls. */
  readonly tid: number;
  /** What paths lead to besides devices. */
  readonly places: Places;
  /** The ioctl argument while the call is served. */
  argument: InlineArgument | null;
  answer(outcome: Outcome): void;
}

/** Ioctls that make a file: asked for again with a spare descriptor before they begin. */
const MAKES_FILE: ReadonlySet<number> = new Set([
  IOMMUFD_CMD.IOMMU_FAULT_QUEUE_ALLOC,
  IOMMUFD_CMD.IOMMU_VEVENTQ_ALLOC,
  VFIO_GROUP_CMD.VFIO_GROUP_GET_DEVICE_FD,
]);

/** Calls whose refusal is told; an ioctl tells of itself. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [OP.OPEN, 'open'],
  [OP.READ, 'read'],
  [OP.WRITE, 'write'],
  [OP.PREAD, 'pread'],
  [OP.PWRITE, 'pwrite'],
  [OP.MMAP, 'mmap'],
]);

const NOTHING = new Uint8Array(0);
const AGAIN: Outcome = { result: 0, flags: REPLY.AGAIN, data: NOTHING };
const PATH_MAX = 768;

/**
 * Runs one request to its end and answers it; what the kernel refuses becomes -errno. A defect of
 * the model is EIO for this call, and goes to `defect`.
 */
export function* perform(
  kernel: Kernel,
  table: FileTable,
  call: BridgedCall,
  request: Request,
  defect: (error: unknown) => void,
): Task {
  let outcome: Outcome;
  try {
    outcome =
      request.op === OP.IOCTL
        ? yield* control(kernel, call, request)
        : yield* dispatch(kernel, table, call, request);
  } catch (error) {
    if (error instanceof BrokerGone) throw error;
    if (!(error instanceof Errno)) defect(error);
    if (error instanceof SpareNeeded && request.spareFile === 0) {
      outcome = AGAIN;
    } else {
      const name = NAMES.get(request.op);
      if (error instanceof Errno && name !== undefined) {
        noteRefusal(kernel.trace, call.pid, name, error);
      }
      outcome = plain(error instanceof Errno ? -error.number : -ERRNO.EIO);
    }
  } finally {
    if (call.files.borrowing) yield* call.files.done();
  }
  call.answer(outcome);
}

function* dispatch(
  kernel: Kernel,
  table: FileTable,
  call: BridgedCall,
  request: Request,
): Task<Outcome> {
  const { fd, args } = request;
  const [a, b, position] = args;
  switch (request.op) {
    case OP.OPEN:
      yield* open(kernel, table, call, request);
      return plain(0);
    case OP.READ:
      return plain(yield* readFile(call, fd, a, b));
    case OP.WRITE:
      return plain(yield* writeFile(call, fd, a, b));
    case OP.PREAD:
      return plain(yield* readFile(call, fd, a, b, position));
    case OP.PWRITE:
      return plain(yield* writeFile(call, fd, a, b, position));
    case OP.MMAP:
      return yield* map(kernel, call, request);
    case OP.LOAD:
    case OP.STORE:
      return yield* touch(table, request);
    case OP.SETTLE:
      return plain(0);
    case OP.STAT:
      return { ...plain(0), data: stat(kernel, table, call, request) };
    case OP.LEAVE:
      call.mm.leave(a, b, position, args[3] === 0);
      return { ...plain(0), flags: pinFlag(call) };
    case OP.PATH: {
      const { kind, real } = call.places.locate(pathOf(request), call);
      return { ...plain(kind), data: new TextEncoder().encode(real) };
    }
    default:
      throw new Errno('ENOSYS', `operation ${request.op}`);
  }
}

/** struct vsva_stat of an open file, or of what a path leads to. */
function stat(kernel: Kernel, table: FileTable, call: BridgedCall, request: Request): Uint8Array {
  const { file } = request;
  const path = file === 0 ? pathOf(request) : table.pathOf(file);
  const special = path === undefined ? undefined : call.places.stat(path, call);
  const words = new Uint32Array(4);
  const bytes = new Uint8Array(words.buffer);
  bytes.set(special ?? deviceStat(kernel.devicePaths(), path));
  words[3] = (table.fileOf(file)?.flags ?? 0) & O_ACCMODE;
  return bytes;
}

function* open(kernel: Kernel, table: FileTable, call: BridgedCall, request: Request): Task {
  const path = pathOf(request);
  const flags = request.args[0];
  const ops = call.places.open(path, call, flags) ?? openNode(kernel, path, call, flags);
  const file = new OpenFile(ops, flags);
  try {
    table.establish(request.file, file, path);
  } catch (error) {
    yield* file.put();
    throw error;
  }
}

/** Errno as `openDevice`; EEXIST, ENOTDIR: the node is there, and no directory. */
function openNode(kernel: Kernel, path: string, call: BridgedCall, flags: number): FileOps {
  const wrong = (flags & O_CREAT) !== 0 && (flags & O_EXCL) !== 0 ? 'EEXIST' : 'ENOTDIR';
  if (wrong === 'EEXIST' || (flags & O_DIRECTORY) !== 0) {
    deviceStat(kernel.devicePaths(), path);
    throw new Errno(wrong, `${path} is a device`);
  }
  return kernel.openDevice(path, call, flags);
}

function* control(kernel: Kernel, call: BridgedCall, request: Request): Task<Outcome> {
  const command = request.args[0] % 2 ** 32;
  const address = request.args[1];
  if (request.spareFile === 0 && MAKES_FILE.has(command)) return AGAIN;
  const writable = (request.flags & REQUEST_WRITABLE) !== 0;
  const argument = new InlineArgument(address, request.data, writable);
  call.mm.serve(argument);
  call.argument = argument;
  let result: number;
  try {
    result = yield* controlFile(kernel.trace, call, request.fd, command, address);
  } catch (error) {
    if (!(error instanceof Errno) || error instanceof SpareNeeded) throw error;
    result = -error.number;
  } finally {
    call.mm.served(argument);
    call.argument = null;
  }
  const { installed, inherit } = call.files;
  const flags = (installed ? REPLY.SPARE : 0) | (inherit ? REPLY.INHERIT : 0) | pinFlag(call);
  const { dirtyEnd, bytes } = argument;
  return { result, flags, data: dirtyEnd === 0 ? NOTHING : bytes.subarray(0, dirtyEnd) };
}

/** A window on device memory; other memory of a file is not memory that a process can have. */
function* map(kernel: Kernel, call: BridgedCall, { fd, args }: Request): Task<Outcome> {
  const [length, prot, flags, offset] = args;
  const file = call.files.get(fd);
  const { ops } = file;
  if (!file.readable || ((prot & PROT_WRITE) !== 0 && !file.writable)) {
    throw new Errno('EACCES', `${ops.name} is not open for such a mapping`);
  }
  const found = ops.mmap?.(call, file, { length, offset, prot, flags });
  if (found === undefined || !('physicalAddress' in found)) {
    throw new Errno('ENODEV', `${ops.name} has no memory that a real process can map`);
  }
  const keeper: MappedFile = found.keeper ?? file;
  keeper.get();
  try {
    const window = new MappedWindow(ops.name, kernel.machine.root, found, length, keeper);
    call.files.install(window, O_RDWR | O_CLOEXEC);
  } catch (error) {
    yield* keeper.put();
    throw error;
  }
  return { ...plain(0), flags: REPLY.SPARE };
}

/** A load or store in a window. */
function* touch(table: FileTable, request: Request): Task<Outcome> {
  const [offset, argument] = request.args;
  const window = table.fileOf(request.file)?.ops;
  if (!(window instanceof MappedWindow)) throw new Errno('EBADF', 'no mapping');
  if (request.op === OP.LOAD) return { ...plain(0), data: yield* window.load(offset, argument) };
  yield* window.store(offset, request.data, argument !== 0);
  return plain(0);
}

/** Tells the library to say what becomes of its memory. */
function pinFlag({ mm }: BridgedCall): number {
  return mm.holdsPins ? REPLY.PINS : 0;
}

function pathOf({ data }: Request): string {
  if (data.length > PATH_MAX) throw new Errno('ENAMETOOLONG', `a path of ${data.length} bytes`);
  return new TextDecoder().decode(data);
}

function plain(result: number): Outcome {
  return { result, flags: 0, data: NOTHING };
}
