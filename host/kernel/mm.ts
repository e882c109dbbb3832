import type { Ram } from '../machine/ram.ts';
import type { UserMemory } from '../syscall.ts';
import { AddressSpace, PAGE_BYTES } from './address-space.ts';
import { Errno } from './errno.ts';
import type { FailPoints } from './failpoint.ts';
import { BLOCK_FRAMES, type PageAllocator } from './page-alloc.ts';
import { CpuMemory, type PhysicalBus } from './user-memory.ts';
import { type MappedFile, type SharedMemory, Vma } from './vma.ts';

/** User addresses are below this (4-level paging). */
const TASK_SIZE = 2 ** 47;
/** vm.max_map_count. */
const MAX_VMAS = 65530;
/** A process may map this many times the RAM there is. */
const OVERCOMMIT = 4;

/** A process's memory as the kernel uses it on its behalf. */
export interface Mm {
  /** False once the process has ended: every access is then refused. */
  readonly alive: boolean;
  /** copy_from_user: `length` fresh bytes. Errno EFAULT. */
  copyFrom(address: bigint, length: number): Uint8Array<ArrayBuffer>;
  /** copy_to_user. Errno EFAULT, with nothing written. */
  copyTo(address: bigint, bytes: Uint8Array): void;
  /**
   * pin_user_pages: the frames of `pages` consecutive pages, from the page of `address` on. All or
   * nothing. Errno EFAULT (not mapped, device memory, `writable` against the mapping), ENOMEM.
   */
  pin(address: bigint, pages: number, writable: boolean): Float64Array<ArrayBuffer>;
  /** Gives up one pin of each frame; works after the process has ended. */
  unpin(pfns: Iterable<number>): void;
  /**
   * How many pins each of the pages has, from the one that `address` lies in; -1 for a page that is
   * not counted. Where it is missing, the frames are the kernel's own and tell it. @throws Errno
   * EFAULT
   */
  pinsOf?(address: bigint, pages: number): Int32Array;
  /** mm->pinned_vm, pages; kept by whoever accounts pins. */
  pinnedVm: number;
  /** mm->locked_vm, pages. */
  lockedVm: number;
  /** RLIMIT_MEMLOCK in pages; Infinity: no limit. */
  lockLimit: number;
}

export interface DeviceMapping {
  /** Page aligned. */
  readonly physicalAddress: number;
  readonly accessible?: () => boolean;
}

/** Memory of a simulated process: frames of the machine's RAM, and device memory. */
export class SimulatedMm implements Mm {
  /** Loads and stores of the process's own code. */
  readonly memory: UserMemory;
  pinnedVm = 0;
  lockedVm = 0;
  lockLimit = Infinity;
  readonly #pages: PageAllocator;
  readonly #failpoints: Pick<FailPoints, 'point'>;
  readonly #space: AddressSpace;
  readonly #pageLimit: number;
  #anonymousPages = 0;
  #alive = true;

  constructor(parts: {
    pages: PageAllocator;
    failpoints: Pick<FailPoints, 'point'>;
    ram: Ram;
    root: PhysicalBus;
  }) {
    this.#pages = parts.pages;
    this.#failpoints = parts.failpoints;
    this.#space = new AddressSpace(parts.pages);
    this.#pageLimit = (OVERCOMMIT * parts.ram.size) / PAGE_BYTES;
    this.memory = new CpuMemory(this.#space, parts.ram, parts.root);
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** How many pages are mapped to memory that is there. */
  get residentPages(): number {
    let pages = 0;
    for (const { pfns } of this.#space.vmas.all()) {
      if (pfns !== null) for (const pfn of pfns) pages += pfn >= 0 ? 1 : 0;
    }
    return pages;
  }

  /**
   * mmap(MAP_ANONYMOUS): zeroed memory, page by page as it is touched, or at once with `populate`.
   * `length` is rounded up to pages. Errno EINVAL (0), ENOMEM.
   */
  mapAnonymous(length: number, prot: number, populate = false): number {
    const bytes = this.#checkLength(length);
    const pages = bytes / PAGE_BYTES;
    if (this.#anonymousPages + pages > this.#pageLimit) {
      throw new Errno(
        'ENOMEM',
        `${pages} pages on top of ${this.#anonymousPages} exceed the limit`,
      );
    }
    const start = this.#gap(bytes);
    const vma = new Vma(start, start + bytes, prot, { pfns: new Int32Array(pages).fill(-1) });
    this.#space.vmas.insert(vma);
    this.#anonymousPages += pages;
    // Linux ignores a populate that fails; the pages come later, or the touch fails.
    if (populate) {
      for (let page = 0; page < pages; page++) {
        if (vma.pfns![page]! < 0 && this.#space.populate(vma, page) < 0) break;
      }
    }
    return start;
  }

  /** mmap of device memory; takes a reference to `file`. Errno EINVAL, ENOMEM. */
  mapDevice(length: number, prot: number, mapping: DeviceMapping, file: MappedFile): number {
    const bytes = this.#checkLength(length);
    const start = this.#gap(bytes);
    file.get();
    const { physicalAddress: physical, accessible = () => true } = mapping;
    this.#space.vmas.insert(
      new Vma(start, start + bytes, prot, { device: { physical, accessible, file } }),
    );
    return start;
  }

  /** mmap of a file's pages, shared; keeps them. Errno EINVAL, ENOMEM. */
  mapShared(length: number, prot: number, memory: SharedMemory, firstPage: number): number {
    const bytes = this.#checkLength(length);
    const start = this.#gap(bytes);
    const pfns = new Int32Array(bytes / PAGE_BYTES).fill(-1);
    memory.hold();
    this.#space.vmas.insert(new Vma(start, start + bytes, prot, { pfns, memory, firstPage }));
    return start;
  }

  /**
   * munmap: whatever is mapped in the range goes; mappings that reach beyond it are split. Returns
   * the files whose reference the caller must put. Errno EINVAL (unaligned, empty, out of range).
   */
  unmap(address: number, length: number): MappedFile[] {
    const end = address + Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
    if (address % PAGE_BYTES !== 0 || !(length > 0) || address < 0 || end > TASK_SIZE) {
      throw new Errno('EINVAL', `munmap of ${length} bytes at 0x${address.toString(16)}`);
    }
    return this.#space.vmas
      .overlapping(address, end)
      .flatMap((vma) => this.#cut(vma, Math.max(address, vma.start), Math.min(end, vma.end)));
  }

  /** The process has ended: all goes. Returns the files to put. */
  destroy(): MappedFile[] {
    this.#alive = false;
    return [...this.#space.vmas.all()].flatMap((vma) => this.#cut(vma, vma.start, vma.end));
  }

  copyFrom(address: bigint, length: number): Uint8Array<ArrayBuffer> {
    this.#failpoints.point('copy_from_user', 'EFAULT');
    const start = this.#checkRange(address, length, false);
    const bytes = new Uint8Array(length);
    this.#access(() => this.memory.read(start, bytes));
    return bytes;
  }

  copyTo(address: bigint, bytes: Uint8Array): void {
    this.#failpoints.point('copy_to_user', 'EFAULT');
    const start = this.#checkRange(address, bytes.length, true);
    this.#access(() => this.memory.write(start, bytes));
  }

  pin(address: bigint, pages: number, writable: boolean): Float64Array<ArrayBuffer> {
    const first = address - (address & 0xfffn);
    const start = this.#checkRange(first, pages * PAGE_BYTES, writable);
    const pfns = new Float64Array(pages);
    for (let i = 0; i < pages; i++) {
      const pfn = this.#frameAt(start + i * PAGE_BYTES);
      if (pfn < 0) {
        this.unpin(pfns.subarray(0, i));
        throw new Errno('ENOMEM', `no memory for page ${i} of ${pages} to pin`);
      }
      this.#pages.pin(pfn);
      pfns[i] = pfn;
    }
    return pfns;
  }

  unpin(pfns: Iterable<number>): void {
    for (const pfn of pfns) this.#pages.unpin(pfn);
  }

  #frameAt(address: number): number {
    const vma = this.#space.vmas.find(address)!;
    const page = (address - vma.start) / PAGE_BYTES;
    const pfn = vma.pfns![page]!;
    return pfn >= 0 ? pfn : this.#space.populate(vma, page);
  }

  /** Bytes rounded up to pages. */
  #checkLength(length: number): number {
    if (!Number.isSafeInteger(length) || length <= 0) {
      throw new Errno('EINVAL', `a mapping of ${length} bytes`);
    }
    if (this.#space.vmas.length >= MAX_VMAS) throw new Errno('ENOMEM', `${MAX_VMAS} mappings`);
    return Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
  }

  /** Large mappings are aligned so that large pages fit. */
  #gap(bytes: number): number {
    const block = BLOCK_FRAMES * PAGE_BYTES;
    const start = this.#space.vmas.gap(bytes, bytes >= block ? block : PAGE_BYTES);
    if (start < 0) throw new Errno('ENOMEM', `no address range of ${bytes} bytes is free`);
    return start;
  }

  /** Takes `start` to `end` out of a mapping. */
  #cut(vma: Vma, start: number, end: number): MappedFile[] {
    const { vmas } = this.#space;
    vmas.remove(vma);
    const rest = [];
    if (vma.start < start) rest.push(vma.slice(vma.start, start));
    if (end < vma.end) rest.push(vma.slice(end, vma.end));
    for (const part of rest) vmas.insert(part);
    if (vma.device !== null) {
      for (const part of rest) part.device!.file.get();
      return [vma.device.file];
    }
    if (vma.shared !== null) {
      for (const part of rest) part.shared!.memory.hold();
      vma.shared.memory.release();
      return [];
    }
    const gone = vma.slice(start, end).pfns!;
    this.#anonymousPages -= gone.length;
    for (const pfn of gone) if (pfn >= 0) this.#pages.free(pfn);
    return [];
  }

  /** The address as a number, when the whole range is memory that allows the access. */
  #checkRange(address: bigint, length: number, write: boolean): number {
    const start = address >= 0n && address < BigInt(TASK_SIZE) ? Number(address) : -1;
    const fits = this.#alive && start >= 0 && length >= 0 && start + length <= TASK_SIZE;
    if (!fits || !this.#space.covers(start, start + length, write)) {
      const access = write ? 'writable' : 'readable';
      const why = this.#space.vmas.find(start)?.device ? ": they are a device's BAR" : '';
      throw new Errno(
        'EFAULT',
        `${length} bytes at 0x${address.toString(16)} are not ${access} memory${why}`,
      );
    }
    return start;
  }

  /** What still can go wrong in checked memory is that a first touch finds none left. */
  #access(access: () => void): void {
    try {
      access();
    } catch {
      throw new Errno('EFAULT', 'out of memory at the first touch of a page');
    }
  }
}
