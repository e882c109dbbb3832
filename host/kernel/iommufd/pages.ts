/**
 * The memory behind mappings: struct iopt_pages (drivers/iommu/iommufd/pages.c). One set of pages is
 * shared by an area and all its copies, and a page is pinned once however many areas and domains
 * cover it.
 */
import { host } from '../../../trace/catalogue/host.ts';
import type { HostBug } from '../bugs.ts';
import { Errno } from '../errno.ts';
import type { Kernel } from '../kernel.ts';
import type { PinAccount } from './accounting.ts';
import type { IommufdGlobal } from './object.ts';
import type { PageSource } from './page-source.ts';
import { hex, PAGE_SIZE } from './page-source.ts';

export { hex, PAGE_SIZE } from './page-source.ts';

/** The length of a page set must fit the kernel's size_t after rounding up. */
const LENGTH_MAX = 0xffff_ffff_ffff_ffffn - BigInt(PAGE_SIZE);
/** Temporary memory for each page that is being pinned: a pointer. */
const PIN_BYTES = 8;
/** Pages whose pin state is kept together; the state exists only while one of them is pinned. */
const CHUNK_PAGES = 1024;

/** Pages of a chunk up to which plain arrays take less memory than typed ones. */
const FEW_PAGES = 16;

interface Chunk {
  /** How many holders each page has; 0: not pinned. */
  readonly users: Int32Array | number[];
  readonly pfns: Float64Array | number[];
  held: number;
}

function newChunk(pages: number): Chunk {
  if (pages > FEW_PAGES) {
    return { users: new Int32Array(pages), pfns: new Float64Array(pages), held: 0 };
  }
  const zeros = new Array<number>(pages).fill(0);
  return { users: zeros, pfns: [...zeros], held: 0 };
}

export class IoptPages {
  readonly source: PageSource;
  readonly account: PinAccount;
  /** From the source's `firstByte`. */
  readonly length: bigint;
  readonly writable: boolean;
  /** Pages pinned now. */
  pinned = 0;
  readonly #kernel: Kernel;
  readonly #global: IommufdGlobal;
  /** By number; the only one of a short page set has no map around it. */
  #chunks: Map<number, Chunk> | Chunk | null = null;
  #users = 1;

  /**
   * Takes the source over, also when it throws. The caller is the first user.
   *
   * @throws Errno EINVAL: length; ENOMEM
   */
  constructor(
    kernel: Kernel,
    global: IommufdGlobal,
    parts: {
      readonly source: PageSource;
      readonly length: bigint;
      readonly writable: boolean;
      readonly account: PinAccount;
    },
  ) {
    this.#kernel = kernel;
    this.#global = global;
    this.source = parts.source;
    this.account = parts.account;
    this.length = parts.length;
    this.writable = parts.writable;
    using undo = new DisposableStack();
    undo.defer(() => this.source.release());
    if (this.length === 0n || this.length > LENGTH_MAX) {
      throw new Errno('EINVAL', `length 0x${hex(this.length)}`);
    }
    kernel.failpoints.point('iommufd:iopt_pages');
    undo.move();
  }

  /** The process that pays for the pins, and to which their events belong. */
  get pid(): number {
    return this.account.payer.pid;
  }

  /** Address, or offset in the file, of the first page. */
  get base(): bigint {
    return this.source.base;
  }

  /** Where the mapped bytes begin in the first page. */
  get firstByte(): bigint {
    return this.source.firstByte;
  }

  /** Whether the kernel makes a mistake on purpose. */
  hasBug(bug: HostBug): boolean {
    return this.#kernel.options.bugs.has(bug);
  }

  /** Every area and every ioctl under way that has it is a user. */
  get(): void {
    this.#users++;
  }

  put(): void {
    if (--this.#users === 0) this.source.release();
  }

  /** CPU access at `byte` from the start of the first page. @throws Errno EFAULT */
  readBytes(byte: bigint, length: number): Uint8Array<ArrayBuffer> {
    return this.source.read(byte, length);
  }

  writeBytes(byte: bigint, bytes: Uint8Array): void {
    this.source.write(byte, bytes);
  }

  /** Frame of a page that is held; -1 for one that is not. Exported memory needs no hold. */
  pfn(index: number): number {
    const { exported } = this.source;
    if (exported !== undefined) return exported.frame(index);
    const chunk = this.#chunk(Math.floor(index / CHUNK_PAGES));
    const at = index % CHUNK_PAGES;
    return chunk === undefined || chunk.users[at] === 0 ? -1 : chunk.pfns[at]!;
  }

  /**
   * Adds a holder to `count` pages from `first`, pinning those that have none yet. All or nothing.
   *
   * @param window pages that may be pinned at once; the memory for a domain's batch is limited
   * @throws Errno EFAULT: not the process's memory, or not writable where the mapping is, or the
   *   process is gone; ENOMEM.
   */
  hold(first: number, count: number, window: number = this.#batchPages): void {
    if (this.source.exported !== undefined) return;
    const before = this.pinned;
    let done = 0;
    try {
      while (done < count) {
        done += this.#holdRun(first + done, Math.min(count - done, window));
      }
      if (this.pinned > before) this.#kernel.failpoints.point('iommufd:account');
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
    if (this.source.exported !== undefined) return;
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
    const chunk = this.#chunk(number) ?? newChunk(this.#pagesIn(number));
    const wasPinned = chunk.users[from]! > 0;
    let to = from + 1;
    while (to < end && chunk.users[to]! > 0 === wasPinned) to++;
    if (!wasPinned) {
      this.#kernel.failpoints.point('iommufd:pin_user_pages', 'EFAULT');
      using undo = new DisposableStack();
      this.account.charge(to - from);
      undo.defer(() => this.account.uncharge(to - from));
      const pinned = this.source.pin(at, to - from, this.writable);
      for (let page = from; page < to; page++) chunk.pfns[page] = pinned[page - from]!;
      undo.move();
      chunk.held += to - from;
      this.pinned += to - from;
      this.#keep(number, chunk);
    }
    for (let page = from; page < to; page++) chunk.users[page]!++;
    return to - from;
  }

  #releaseIn(number: number, from: number, count: number): void {
    const chunk = this.#chunk(number);
    if (chunk === undefined) return;
    const gone: number[] = [];
    for (let page = from; page < from + count; page++) {
      if (--chunk.users[page]! === 0) gone.push(chunk.pfns[page]!);
    }
    chunk.held -= gone.length;
    this.pinned -= gone.length;
    if (chunk.held === 0) this.#drop(number);
    this.source.unpin(gone);
    this.account.uncharge(gone.length);
  }

  get #batchPages(): number {
    return Math.max(1, Math.floor(this.#global.tempMemoryLimit / PIN_BYTES));
  }

  /** Chunks of all pages there are. */
  get #chunkCount(): number {
    return Math.ceil(this.#pageCount / CHUNK_PAGES);
  }

  get #pageCount(): number {
    return Math.ceil(Number(this.firstByte + this.length) / PAGE_SIZE);
  }

  #pagesIn(number: number): number {
    return Math.min(CHUNK_PAGES, this.#pageCount - number * CHUNK_PAGES);
  }

  #chunk(number: number): Chunk | undefined {
    const chunks = this.#chunks;
    if (chunks === null) return undefined;
    if (chunks instanceof Map) return chunks.get(number);
    return number === 0 ? chunks : undefined;
  }

  #keep(number: number, chunk: Chunk): void {
    if (this.#chunkCount === 1) {
      this.#chunks = chunk;
      return;
    }
    const chunks = this.#chunks instanceof Map ? this.#chunks : new Map<number, Chunk>();
    this.#chunks = chunks.set(number, chunk);
  }

  #drop(number: number): void {
    if (this.#chunks instanceof Map) this.#chunks.delete(number);
    else this.#chunks = null;
  }
}
