import { host as events } from '../../trace/catalogue/host.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { Task } from '../syscall.ts';
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_TYPE,
  PROT_WRITE,
} from '../uapi/poll.ts';
import { KERNEL_NS } from './costs.ts';
import { Errno } from './errno.ts';
import type { Caller, OpenFile } from './file.ts';
import type { SimulatedMm } from './mm.ts';

/** Longest read or write (MAX_RW_COUNT); longer ones are cut. */
const MAX_RW_BYTES = 0x7fff_f000;

const PAGE_BYTES = 4096;

/** The process that makes a call, with the memory that a mapping goes to. */
export interface MappingCaller extends Caller {
  readonly mm: SimulatedMm;
}

/**
 * read(2), or pread(2) with a position. Errno EBADF (not open, or not for reading), EINVAL (the
 * file has none), ESPIPE (it has no positions).
 */
export function* readFile(
  caller: Caller,
  fd: number,
  buffer: number,
  count: number,
  position?: number,
): Task<number> {
  const file = caller.files.get(fd);
  if (!file.readable) throw new Errno('EBADF', `${file.ops.name} is not open for reading`);
  checkTransfer(count, position);
  const bytes = Math.min(count, MAX_RW_BYTES);
  const { ops } = file;
  if (position !== undefined) {
    if (ops.pread === undefined) throw new Errno('ESPIPE', `${ops.name} has no positions`);
    return yield* holding(file, ops.pread(caller, file, buffer, bytes, position));
  }
  if (ops.read === undefined) throw new Errno('EINVAL', `${ops.name} cannot be read`);
  return yield* holding(file, ops.read(caller, file, buffer, bytes));
}

/** write(2), or pwrite(2) with a position. Errno as `readFile`. */
export function* writeFile(
  caller: Caller,
  fd: number,
  buffer: number,
  count: number,
  position?: number,
): Task<number> {
  const file = caller.files.get(fd);
  if (!file.writable) throw new Errno('EBADF', `${file.ops.name} is not open for writing`);
  checkTransfer(count, position);
  const bytes = Math.min(count, MAX_RW_BYTES);
  const { ops } = file;
  if (position !== undefined) {
    if (ops.pwrite === undefined) throw new Errno('ESPIPE', `${ops.name} has no positions`);
    return yield* holding(file, ops.pwrite(caller, file, buffer, bytes, position));
  }
  if (ops.write === undefined) throw new Errno('EINVAL', `${ops.name} cannot be written`);
  return yield* holding(file, ops.write(caller, file, buffer, bytes));
}

/** Tells of a call that failed: nothing to read yet is no refusal. */
export function noteRefusal(trace: Tracer, pid: number, call: string, error: Errno): void {
  const { code, reason } = error;
  if (trace.on && code !== 'EAGAIN') {
    trace.emit(events.refused, { pid, call, result: `-${code}`, reason });
  }
}

/**
 * ioctl(2), with the events that show it and what it came to. Errno EBADF, ENOTTY (the file has
 * none), and what the file says.
 */
export function controlFile(
  trace: Tracer,
  caller: Caller,
  fd: number,
  request: number,
  argument: number,
): Task<number> {
  if (!trace.on) return control(caller, fd, request, argument);
  return controlTraced(trace, caller, fd, request, argument);
}

function* controlTraced(
  trace: Tracer,
  caller: Caller,
  fd: number,
  request: number,
  argument: number,
): Task<number> {
  const { pid } = caller;
  const { name, args } = describe(caller, fd, request, argument);
  using _span = trace.span(events.ioctl, { pid, fd, name, args });
  try {
    const result = yield* control(caller, fd, request, argument);
    const out = written(args, describe(caller, fd, request, argument).args);
    trace.emit(events.ioctlReturn, { pid, fd, name, result: `${result}`, out, reason: '' });
    return result;
  } catch (error) {
    if (error instanceof Errno) {
      const { code, reason } = error;
      trace.emit(events.ioctlReturn, { pid, fd, name, result: `-${code}`, out: '', reason });
    }
    throw error;
  }
}

function* control(caller: Caller, fd: number, request: number, argument: number): Task<number> {
  yield KERNEL_NS.IOCTL;
  const file = caller.files.get(fd);
  if (file.ops.ioctl === undefined) throw new Errno('ENOTTY', `${file.ops.name} takes no ioctl`);
  file.get();
  try {
    return (yield* file.ops.ioctl(caller, file, request, argument)) ?? 0;
  } finally {
    if (!file.putShared()) yield* file.put();
  }
}

/** What of the struct the kernel wrote: the fields that read differently now. */
function written(before: string, after: string): string {
  const known = new Set(before.split(' '));
  return after
    .split(' ')
    .filter((field) => !known.has(field))
    .join(' ');
}

function describe(
  caller: Caller,
  fd: number,
  request: number,
  argument: number,
): { readonly name: string; readonly args: string } {
  const plain = { name: `0x${request.toString(16)}`, args: `0x${argument.toString(16)}` };
  try {
    return caller.files.peek(fd)?.ops.describe?.(request, argument, caller) ?? plain;
  } catch (error) {
    if (error instanceof Errno) return plain;
    throw error;
  }
}

/**
 * mmap(2) at an address that the kernel chooses. Errno EINVAL (type, length, offset, a fixed
 * address), EBADF, EACCES (the file's mode), ENODEV (the file has none), ENOMEM.
 */
export function mapMemory(
  caller: MappingCaller,
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  const type = flags & MAP_TYPE;
  if (type !== MAP_SHARED && type !== MAP_PRIVATE && type !== MAP_SHARED_VALIDATE) {
    throw new Errno('EINVAL', `mmap flags 0x${flags.toString(16)}: neither shared nor private`);
  }
  if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0) {
    throw new Errno('EINVAL', 'mmap at a fixed address');
  }
  if (!(offset >= 0) || offset % PAGE_BYTES !== 0) throw new Errno('EINVAL', `offset ${offset}`);
  if ((flags & MAP_ANONYMOUS) !== 0) {
    return caller.mm.mapAnonymous(length, prot, (flags & MAP_POPULATE) !== 0);
  }
  const file = caller.files.get(fd);
  if (!file.readable || (type !== MAP_PRIVATE && (prot & PROT_WRITE) !== 0 && !file.writable)) {
    throw new Errno('EACCES', `${file.ops.name} is not open for this mapping`);
  }
  if (file.ops.mmap === undefined) throw new Errno('ENODEV', `${file.ops.name} has no mmap`);
  if (!Number.isSafeInteger(length) || length <= 0) throw new Errno('EINVAL', `${length} bytes`);
  const bytes = Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
  const mapping = file.ops.mmap(caller, file, { length: bytes, offset, prot, flags });
  if ('memory' in mapping) {
    return caller.mm.mapShared(bytes, prot, mapping.memory, mapping.firstPage);
  }
  return caller.mm.mapDevice(bytes, prot, mapping, mapping.keeper ?? file);
}

/** munmap(2). Errno EINVAL. */
export function* unmapMemory(caller: MappingCaller, address: number, length: number): Task<number> {
  for (const file of caller.mm.unmap(address, length)) yield* file.put();
  return 0;
}

/** Keeps the file while an operation on it runs, even if its number is closed meanwhile (fdget). */
function* holding(file: OpenFile, operation: Task<number>): Task<number> {
  file.get();
  try {
    return yield* operation;
  } finally {
    if (!file.putShared()) yield* file.put();
  }
}

function checkTransfer(count: number, position: number | undefined): void {
  if (!Number.isSafeInteger(count) || count < 0) throw new Errno('EINVAL', `count ${count}`);
  if (position !== undefined && !(position >= 0)) throw new Errno('EINVAL', `offset ${position}`);
}
