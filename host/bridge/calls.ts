import { Errno } from '../kernel/errno.ts';
import { type Caller, OpenFile } from '../kernel/file.ts';
import { controlFile, readFile, writeFile } from '../kernel/file-calls.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Task } from '../syscall.ts';
import { IOMMUFD_CMD } from '../uapi/iommufd.ts';
import { type BridgedMm, InlineArgument } from './bridged-mm.ts';
import { deviceStat } from './device-numbers.ts';
import { type BridgedFiles, type FileTable, SpareNeeded } from './files.ts';
import { OP, REPLY, REQUEST_WRITABLE, type Request } from './wire.ts';

/** What goes back to the caller. */
export interface Outcome {
  /** >= 0, or -errno. */
  readonly result: number;
  /** REPLY bits. */
  readonly flags: number;
  /** Where in the argument `data` goes, in bytes. */
  readonly offset: number;
  readonly data: Uint8Array;
}

/** A call on behalf of a real program. */
export interface BridgedCall extends Caller {
  readonly mm: BridgedMm;
  readonly files: BridgedFiles;
}

/** Ioctls that make a file: asked for again with a spare descriptor before they begin. */
const MAKES_FILE: ReadonlySet<number> = new Set([
  IOMMUFD_CMD.IOMMU_FAULT_QUEUE_ALLOC,
  IOMMUFD_CMD.IOMMU_VEVENTQ_ALLOC,
]);

const NOTHING = new Uint8Array(0);
const AGAIN: Outcome = { result: 0, flags: REPLY.AGAIN, offset: 0, data: NOTHING };
const PATH_MAX = 256;

/** Runs one request to its end; what the kernel refuses becomes -errno. */
export function* perform(
  kernel: Kernel,
  table: FileTable,
  call: BridgedCall,
  request: Request,
): Task<Outcome> {
  try {
    return yield* dispatch(kernel, table, call, request);
  } catch (error) {
    if (error instanceof SpareNeeded && request.spareFile === 0) return AGAIN;
    if (error instanceof Errno) return plain(-error.number);
    throw error;
  } finally {
    yield* call.files.done();
  }
}

function* dispatch(
  kernel: Kernel,
  table: FileTable,
  call: BridgedCall,
  request: Request,
): Task<Outcome> {
  const { fd, args, file } = request;
  const [a, b, position] = args;
  switch (request.op) {
    case OP.OPEN:
      yield* open(kernel, table, call, request);
      return plain(0);
    case OP.IOCTL:
      return yield* control(kernel, call, request);
    case OP.READ:
      return plain(yield* readFile(call, fd, a, b));
    case OP.WRITE:
      return plain(yield* writeFile(call, fd, a, b));
    case OP.PREAD:
      return plain(yield* readFile(call, fd, a, b, position));
    case OP.PWRITE:
      return plain(yield* writeFile(call, fd, a, b, position));
    case OP.MMAP:
      return map(call, request);
    case OP.SETTLE:
      return plain(0);
    case OP.STAT: {
      const path = file === 0 ? pathOf(request) : table.pathOf(file);
      return { ...plain(0), data: deviceStat(kernel.devicePaths(), path) };
    }
    default:
      throw new Errno('ENOSYS', `operation ${request.op}`);
  }
}

function* open(kernel: Kernel, table: FileTable, call: BridgedCall, request: Request): Task {
  const path = pathOf(request);
  const flags = request.args[0];
  const file = new OpenFile(kernel.openDevice(path, call, flags), flags);
  try {
    table.establish(request.file, file, path);
  } catch (error) {
    yield* file.put();
    throw error;
  }
}

function* control(kernel: Kernel, call: BridgedCall, request: Request): Task<Outcome> {
  const command = request.args[0] % 2 ** 32;
  const address = request.args[1];
  if (request.spareFile === 0 && MAKES_FILE.has(command)) return AGAIN;
  const writable = (request.flags & REQUEST_WRITABLE) !== 0;
  const argument = new InlineArgument(address, request.data, writable);
  call.mm.serve(argument);
  let result: number;
  try {
    result = yield* controlFile(kernel.trace, call, request.fd, command, address);
  } catch (error) {
    if (!(error instanceof Errno) || error instanceof SpareNeeded) throw error;
    result = -error.number;
  } finally {
    call.mm.served(argument);
  }
  const { installed, inherit } = call.files;
  const flags = (installed ? REPLY.SPARE : 0) | (inherit ? REPLY.INHERIT : 0);
  const { dirtyStart, dirtyEnd, bytes } = argument;
  if (dirtyStart >= dirtyEnd) return { result, flags, offset: 0, data: NOTHING };
  return { result, flags, offset: dirtyStart, data: bytes.subarray(dirtyStart, dirtyEnd) };
}

/** What the file refuses, it says; what it would map is not memory that a process can have. */
function map(call: BridgedCall, { fd, args }: Request): Outcome {
  const [length, prot, flags, offset] = args;
  const file = call.files.get(fd);
  if (file.ops.mmap !== undefined) {
    file.ops.mmap(call, file, { length, offset, prot, flags });
  }
  throw new Errno('ENODEV', `${file.ops.name} has no memory that a real process can map`);
}

function pathOf({ data }: Request): string {
  if (data.length > PATH_MAX) throw new Errno('ENAMETOOLONG', `a path of ${data.length} bytes`);
  return new TextDecoder().decode(data);
}

function plain(result: number): Outcome {
  return { result, flags: 0, offset: 0, data: NOTHING };
}
