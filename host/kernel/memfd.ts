/** Memory files: memfd_create(2), as far as shared pages and pinning need it (mm/shmem.c, mm/gup.c). */
import type { Ram } from '../machine/ram.ts';
import type { Task } from '../syscall.ts';
import { MAP_PRIVATE, MAP_TYPE } from '../uapi/poll.ts';
import { Errno } from './errno.ts';
import type { Caller, FileMemory, FileOps, MmapRequest, MmapResult, OpenFile } from './file.ts';
import type { PageAllocator } from './page-alloc.ts';

const PAGE_BYTES = 4096;
/** Longest file: what a process can map. */
const MAX_BYTES = 2 ** 46;

/** The pages of a file, made as they are touched, shared by all who map or pin them. */
export class SharedPages implements FileMemory {
  readonly #pages: PageAllocator;
  readonly #ram: Ram;
  readonly #frames = new Map<number, number>();
  /** Cut off while somebody may still have them mapped. */
  readonly #orphans: number[] = [];
  #bytes = 0;
  #holders = 1;

  constructor(pages: PageAllocator, ram: Ram) {
    this.#pages = pages;
    this.#ram = ram;
  }

  get bytes(): number {
    return this.#bytes;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    if (--this.#holders > 0) return;
    for (const pfn of this.#frames.values()) this.#pages.free(pfn);
    for (const pfn of this.#orphans.splice(0)) this.#pages.free(pfn);
    this.#frames.clear();
  }

  /** ftruncate(2): pages beyond the new end go, or stay with those who map or pin them. */
  resize(bytes: number): void {
    const end = Math.ceil(bytes / PAGE_BYTES);
    for (const [page, pfn] of this.#frames) {
      if (page < end) continue;
      if (this.#holders > 1) this.#orphans.push(pfn);
      else this.#pages.free(pfn);
      this.#frames.delete(page);
    }
    const last = this.#frames.get(end - 1);
    if (last !== undefined && bytes % PAGE_BYTES !== 0) {
      const start = last * PAGE_BYTES;
      this.#ram.bytes.fill(0, start + (bytes % PAGE_BYTES), start + PAGE_BYTES);
      this.#ram.touched(start, PAGE_BYTES);
    }
    this.#bytes = bytes;
  }

  frame(page: number): number {
    if (page * PAGE_BYTES >= this.#bytes) return -1;
    const known = this.#frames.get(page);
    if (known !== undefined) return known;
    const pfn = this.#pages.tryRun(1);
    if (pfn >= 0) this.#frames.set(page, pfn);
    return pfn;
  }

  pin(page: number, count: number): Float64Array<ArrayBuffer> {
    if ((page + count - 1) * PAGE_BYTES >= this.#bytes) {
      const what = `pages ${page} to ${page + count - 1}`;
      throw new Errno('EINVAL', `${what} end beyond the file's ${this.#bytes} bytes`);
    }
    const pfns = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const pfn = this.frame(page + i);
      if (pfn < 0) {
        this.unpin(pfns.subarray(0, i));
        throw new Errno('ENOMEM', `no memory for page ${page + i} of the file`);
      }
      this.#pages.pin(pfn);
      pfns[i] = pfn;
    }
    return pfns;
  }

  unpin(pfns: Iterable<number>): void {
    for (const pfn of pfns) this.#pages.unpin(pfn);
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    this.#each(offset, length, (at, run, physical) => {
      bytes.set(this.#ram.bytes.subarray(physical, physical + run), at);
    });
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#each(offset, bytes.length, (at, run, physical) => {
      this.#ram.bytes.set(bytes.subarray(at, at + run), physical);
      this.#ram.touched(physical, run);
    });
  }

  #each(
    offset: number,
    length: number,
    use: (at: number, run: number, physical: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const inPage = (offset + at) % PAGE_BYTES;
      const pfn = this.frame((offset + at - inPage) / PAGE_BYTES);
      if (pfn < 0) throw new Errno('EFAULT', `byte ${offset + at} of the file is not there`);
      const run = Math.min(PAGE_BYTES - inPage, length - at);
      use(at, run, pfn * PAGE_BYTES + inPage);
      at += run;
    }
  }
}

/** An open memfd. Only shared mappings: nothing in the model writes to private ones. */
export class MemFile implements FileOps {
  readonly name: string;
  readonly memory: SharedPages;

  constructor(name: string, pages: PageAllocator, ram: Ram) {
    this.name = `/memfd:${name}`;
    this.memory = new SharedPages(pages, ram);
  }

  /** Errno EFAULT. Reads end at the end of the file. */
  *pread(
    caller: Caller,
    _file: OpenFile,
    buffer: number,
    count: number,
    position: number,
  ): Task<number> {
    const bytes = Math.max(0, Math.min(count, this.memory.bytes - position));
    if (bytes > 0) caller.mm.copyTo(BigInt(buffer), this.memory.read(position, bytes));
    return bytes;
  }

  /** Errno EFAULT, EFBIG. Writes beyond the end make the file longer. */
  *pwrite(
    caller: Caller,
    _file: OpenFile,
    buffer: number,
    count: number,
    position: number,
  ): Task<number> {
    if (position + count > MAX_BYTES) throw new Errno('EFBIG', `${position} + ${count} bytes`);
    const bytes = caller.mm.copyFrom(BigInt(buffer), count);
    if (position + count > this.memory.bytes) this.memory.resize(position + count);
    this.memory.write(position, bytes);
    return count;
  }

  /** Errno EINVAL: a private mapping. */
  mmap(_caller: Caller, _file: OpenFile, request: MmapRequest): MmapResult {
    if ((request.flags & MAP_TYPE) === MAP_PRIVATE) {
      throw new Errno('EINVAL', `a private mapping of ${this.name}`);
    }
    return { memory: this.memory, firstPage: request.offset / PAGE_BYTES };
  }

  /** ftruncate(2). Errno EINVAL, EFBIG. */
  truncate(bytes: number): void {
    if (!Number.isInteger(bytes) || bytes < 0) throw new Errno('EINVAL', `${bytes} bytes`);
    if (bytes > MAX_BYTES) throw new Errno('EFBIG', `${bytes} bytes`);
    this.memory.resize(bytes);
  }

  *release(): Task {
    this.memory.release();
  }
}
