/**
 * The memory behind mappings: struct iopt_pages (drivers/iommu/iommufd/pages.c). One set of pages is
 * shared by an area and all its copies, and a page is pinned once however many areas and domains
 * cover it.
 */
import { host } from '../../../trace/catalogue/host.ts';
import { Errno } from '../errno.ts';
import type { Kernel } from '../kernel.ts';
import type { Mm } from '../mm.ts';
import type { PinAccount } from './accounting.ts';

export const PAGE_SIZE = 4096;
const PAGE_MASK = 0xfffn;
/** Pages whose pin state is kept together; the state exists only while one of them is pinned. */
const CHUNK_PAGES = 1024;

interface Chunk {
  /** How many holders each page has; 0: not pinned. */
  readonly users: Int32Array;
  readonly pfns: Float64Array;
  held: number;
}

export class IoptPages {
  readonly mm: Mm;
  readonly pid: number;
  /** Address of the first page in the process. */
  readonly base: bigint;
  /** Where the mapped bytes begin in the first page. */
  readonly firstByte: bigint;
  /** From `firstByte`. */
  readonly length: bigint;
  readonly writable: boolean;
  /** Pages pinned now. */
  pinned = 0;
  readonly #kernel: Kernel;
  readonly #account: PinAccount;
  readonly #chunks = new Map<number, Chunk>();

  /** @throws Errno EOVERFLOW when the range wraps. */
  constructor(
    kernel: Kernel,
    owner: { readonly pid: number; readonly mm: Mm },
    address: bigint,
    length: bigint,
    writable: boolean,
    account: PinAccount,
  ) {
    if (address + length > 0xffff_ffff_ffff_ffffn) {
      throw new Errno('EOVERFLOW', `user_va 0x${hex(address)} + length 0x${hex(length)} wraps`);
    }
    kernel.failpoints.point('iommufd:iopt_pages');
    this.#kernel = kernel;
    this.#account = account;
    this.mm = owner.mm;
    this.pid = owner.pid;
    this.base = address & ~PAGE_MASK;
    this.firstByte = address & PAGE_MASK;
    this.length = length;
    this.writable = writable;
  }

  /** Frame of a page that is held. */
  pfn(index: number): number {
    const chunk = this.#chunks.get(Math.floor(index / CHUNK_PAGES));
    return chunk === undefined ? -1 : chunk.pfns[index % CHUNK_PAGES]!;
  }

  /**
   * Adds a holder to `count` pages from `first`, pinning those that have none yet. All or nothing.
   *
   * @throws Errno EFAULT: not the process's memory, or not writable where the mapping is, or the
   *   process is gone; ENOMEM.
   */
  hold(first: number, count: number): void {
    const before = this.pinned;
    let done = 0;
    try {
      while (done < count) done += this.#holdRun(first + done, count - done);
    } catch (error) {
      this.release(first, done);
      throw error;
    }
    const { trace } = this.#kernel;
    if (trace.on && this.pinned > before) {
      trace.emit(host.pin, {
        pid: this.pid,
        address: this.base + BigInt(first) * BigInt(PAGE_SIZE),
        pages: this.pinned - before,
      });
    }
  }

  /** Takes a holder from `count` pages and unpins those that have none left. */
  release(first: number, count: number): void {
    const before = this.pinned;
    for (let at = first; at < first + count; ) {
      const number = Math.floor(at / CHUNK_PAGES);
      const end = Math.min((number + 1) * CHUNK_PAGES, first + count);
      this.#releaseIn(number, at % CHUNK_PAGES, end - at);
      at = end;
    }
    const { trace } = this.#kernel;
    if (trace.on && this.pinned < before) {
      trace.emit(host.unpin, { pid: this.pid, pages: before - this.pinned });
    }
  }

  /** Holds the leading pages of one chunk that are alike (all pinned, or all not); their number. */
  #holdRun(at: number, limit: number): number {
    const number = Math.floor(at / CHUNK_PAGES);
    const from = at % CHUNK_PAGES;
    const end = Math.min(CHUNK_PAGES, from + limit);
    const { failpoints } = this.#kernel;
    failpoints.point('iommufd:pfn_batch');
    const chunk: Chunk = this.#chunks.get(number) ?? {
      users: new Int32Array(CHUNK_PAGES),
      pfns: new Float64Array(CHUNK_PAGES),
      held: 0,
    };
    const wasPinned = chunk.users[from]! > 0;
    let to = from + 1;
    while (to < end && chunk.users[to]! > 0 === wasPinned) to++;
    if (!wasPinned) {
      failpoints.point('iommufd:pin_user_pages');
      const address = this.base + BigInt(at) * BigInt(PAGE_SIZE);
      using undo = new DisposableStack();
      this.#account.charge(to - from);
      undo.defer(() => this.#account.uncharge(to - from));
      chunk.pfns.set(this.mm.pin(address, to - from, this.writable), from);
      undo.move();
      chunk.held += to - from;
      this.pinned += to - from;
      this.#chunks.set(number, chunk);
    }
    for (let page = from; page < to; page++) chunk.users[page]!++;
    return to - from;
  }

  #releaseIn(number: number, from: number, count: number): void {
    const chunk = this.#chunks.get(number);
    if (chunk === undefined) return;
    const gone: number[] = [];
    for (let page = from; page < from + count; page++) {
      if (--chunk.users[page]! === 0) gone.push(chunk.pfns[page]!);
    }
    chunk.held -= gone.length;
    this.pinned -= gone.length;
    if (chunk.held === 0) this.#chunks.delete(number);
    this.mm.unpin(gone);
    this.#account.uncharge(gone.length);
  }
}

export const hex = (value: bigint | number): string => value.toString(16);
