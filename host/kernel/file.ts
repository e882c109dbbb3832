import type { WaitQueue } from '../machine/scheduler.ts';
import type { Task } from '../syscall.ts';
import { O_ACCMODE, O_NONBLOCK, O_RDONLY, O_WRONLY } from '../uapi/poll.ts';
import type { Credentials } from './credentials.ts';
import type { Mm } from './mm.ts';
import type { MappedFile } from './vma.ts';

/** A process's table of open files, as file operations use it. */
export interface Files {
  /** Errno EBADF for a number that is not open. */
  get(fd: number): OpenFile;
  peek(fd: number): OpenFile | undefined;
  /** A new file at the lowest free number. Errno EMFILE. */
  install(ops: FileOps, flags: number): number;
  /** Frees the number and drops its reference. Errno EBADF. */
  close(fd: number): Task;
}

/** The process on whose behalf a file operation runs. */
export interface Caller {
  readonly pid: number;
  readonly mm: Mm;
  readonly files: Files;
  readonly credentials: Credentials;
}

/** What mmap of a file gives: device memory, or pages that all who map the file share. */
export type MmapResult = MmapDevice | MmapPages;

export interface MmapDevice {
  /** Page aligned physical address of the first byte. */
  readonly physicalAddress: number;
  /** Asked at each access; false: the access is a SIGBUS (memory decoding is off). */
  readonly accessible?: () => boolean;
  /** What the mapping holds; the file itself where it is missing. */
  readonly keeper?: MappedFile;
}

export interface MmapPages {
  readonly memory: FileMemory;
  /** Page of the file that the mapping begins with. */
  readonly firstPage: number;
}

/** The pages of a memory file (memfd and its like), which others can map and pin. */
export interface FileMemory {
  /** Length of the file. */
  readonly bytes: number;
  /** Keeps the pages, also when the file is closed; each hold is ended by one release. */
  hold(): void;
  release(): void;
  /** Frame of a page, made if need be; -1: beyond the end, or no memory is left. */
  frame(page: number): number;
  /**
   * memfd_pin_folios: the frames of `count` pages from `page` on. All or nothing. Errno EINVAL: a
   * page beyond the end; ENOMEM.
   */
  pin(page: number, count: number): Float64Array<ArrayBuffer>;
  /** Gives up one pin of each frame; works after the last release. */
  unpin(pfns: Iterable<number>): void;
  /** CPU access to the bytes. Errno EFAULT: beyond the end. */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  write(offset: number, bytes: Uint8Array): void;
}

export interface MmapRequest {
  /** Bytes, a multiple of the page size. */
  readonly length: number;
  /** Bytes, a multiple of the page size. */
  readonly offset: number;
  /** PROT_* bits. */
  readonly prot: number;
  /** MAP_* bits. */
  readonly flags: number;
}

/**
 * struct file_operations: what an open file can do. All may throw Errno; what is missing is refused
 * as the kernel does (ioctl ENOTTY, read and write EINVAL, pread and pwrite ESPIPE, mmap ENODEV).
 * `buffer` is an address in the caller's memory. Waits that a kill may end use `queue.killable`.
 */
export interface FileOps {
  readonly name: string;
  /** Memory files: what IOMMU_IOAS_MAP_FILE pins. */
  readonly memory?: FileMemory;
  /** What it does not return is 0. It may throw before its first step, too. */
  ioctl?(
    caller: Caller,
    file: OpenFile,
    request: number,
    argument: number,
  ): Task<number | undefined> | Task;
  read?(caller: Caller, file: OpenFile, buffer: number, count: number): Task<number>;
  write?(caller: Caller, file: OpenFile, buffer: number, count: number): Task<number>;
  pread?(
    caller: Caller,
    file: OpenFile,
    buffer: number,
    count: number,
    position: number,
  ): Task<number>;
  pwrite?(
    caller: Caller,
    file: OpenFile,
    buffer: number,
    count: number,
    position: number,
  ): Task<number>;
  mmap?(caller: Caller, file: OpenFile, request: MmapRequest): MmapResult;
  /** What is ready now (POLL* bits), and the queue that is woken when that may have changed. */
  poll?(file: OpenFile): { readonly events: number; readonly queue: WaitQueue };
  /** The last reference has gone. */
  release?(file: OpenFile): Task;
  /** The name and decoded arguments of an ioctl, for the trace; only asked while somebody listens. */
  describe?(
    request: number,
    argument: number,
    caller: Caller,
  ): { readonly name: string; readonly args: string };
}

/** struct file: shared by descriptors, mappings and kernel users; released when the last one goes. */
export class OpenFile {
  readonly ops: FileOps;
  /** O_* flags. */
  flags: number;
  /** The file's private data, for its operations. */
  data: unknown = undefined;
  #references = 1;

  constructor(ops: FileOps, flags: number) {
    this.ops = ops;
    this.flags = flags;
  }

  get refcount(): number {
    return this.#references;
  }

  get readable(): boolean {
    return (this.flags & O_ACCMODE) !== O_WRONLY;
  }

  get writable(): boolean {
    return (this.flags & O_ACCMODE) !== O_RDONLY;
  }

  get nonblocking(): boolean {
    return (this.flags & O_NONBLOCK) !== 0;
  }

  /** Takes a reference. */
  get(): this {
    if (this.#references === 0) throw new Error(`${this.ops.name} was released`);
    this.#references += 1;
    return this;
  }

  /** Drops a reference that is not the last one. False: it is, nothing was done. */
  putShared(): boolean {
    if (this.#references <= 1) return false;
    this.#references -= 1;
    return true;
  }

  /** Drops a reference; the last one releases the file before this returns. */
  *put(): Task {
    if (this.#references === 0) throw new Error(`${this.ops.name} was released`);
    this.#references -= 1;
    if (this.#references === 0 && this.ops.release !== undefined) yield* this.ops.release(this);
  }
}
