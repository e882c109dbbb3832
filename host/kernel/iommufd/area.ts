/** One mapping of an IOAS and its way into hardware page tables (struct iopt_area). */
import type { Task } from '../../syscall.ts';
import type { IommuDomain } from '../iommu/ops.ts';
import type { Interval } from './interval-set.ts';
import type { ExportedMapping } from './page-source.ts';
import type { IoptPages } from './pages.ts';
import { PAGE_SIZE } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);

/** Physically contiguous bytes of an area. */
interface Run {
  readonly iova: bigint;
  readonly paddr: number;
  readonly bytes: number;
}

export class Area implements Interval {
  readonly start: bigint;
  readonly last: bigint;
  readonly pages: IoptPages;
  /** Byte of the page set, from the start of its first page, that `start` maps. */
  readonly pagesByte: bigint;
  /** PROT bits. */
  readonly prot: number;
  /** Domains that map it; the pages are held while there is one. */
  domains = 0;
  /** False while the ioctl that makes or unmaps it is under way: COPY and accesses do not see it. */
  ready = false;
  /** Pins by access objects; while there are some it cannot go. */
  accessPins = 0;
  /** It is being unmapped: accesses pin it no more. */
  preventAccess = false;
  /** Hardware queues in it; while there is one, UNMAP is EBUSY. */
  locks = 0;
  /** Only of exported memory. */
  #exportedTo: Map<IommuDomain, ExportedMapping> | null = null;

  constructor(start: bigint, length: bigint, pages: IoptPages, pagesByte: bigint, prot: number) {
    this.start = start;
    this.last = start + length - 1n;
    this.pages = pages;
    this.pagesByte = pagesByte;
    this.prot = prot;
  }

  get length(): bigint {
    return this.last - this.start + 1n;
  }

  /** Offset of the first byte in its page. */
  get pageOffset(): bigint {
    return this.pagesByte % PAGE;
  }

  get firstPage(): number {
    return Number(this.pagesByte / PAGE);
  }

  get pageCount(): number {
    return Number((this.pagesByte + this.length - 1n) / PAGE) - this.firstPage + 1;
  }

  /**
   * Pins the pages if no domain had them and maps them into `domain`: one call for each physically
   * contiguous run, or for each page where `singlePages` (HUGE_PAGES off). All or nothing. Of
   * exported memory that is revoked nothing is mapped.
   */
  *fill(domain: IommuDomain, singlePages: boolean): Task {
    const { exported } = this.pages.source;
    if (exported === undefined) {
      yield* this.#fill(domain, singlePages);
      return;
    }
    yield* exported.mutex.lock();
    try {
      if (exported.revoked) this.domains++;
      else yield* this.#fill(domain, singlePages);
      const mapping = { unmap: () => unmapAll(domain, this.start, this.length) };
      exported.track(mapping);
      this.#exportedTo = (this.#exportedTo ?? new Map<IommuDomain, ExportedMapping>()).set(
        domain,
        mapping,
      );
    } finally {
      exported.mutex.unlock();
    }
  }

  /** Unmaps it from `domain`, flushes, and unpins when no other domain has it. */
  *unfill(domain: IommuDomain): Task {
    const { exported } = this.pages.source;
    if (exported === undefined) {
      const unpin = (): void => {
        if (--this.domains === 0) this.pages.release(this.firstPage, this.pageCount);
      };
      if (this.pages.hasBug('host-unmap-unpins-first')) unpin();
      yield* unmapAll(domain, this.start, this.length);
      if (!this.pages.hasBug('host-unmap-unpins-first')) unpin();
      return;
    }
    yield* exported.mutex.lock();
    try {
      if (!exported.revoked) yield* unmapAll(domain, this.start, this.length);
      this.domains--;
      const mapping = this.#exportedTo?.get(domain);
      if (mapping !== undefined) exported.untrack(mapping);
      this.#exportedTo?.delete(domain);
    } finally {
      exported.mutex.unlock();
    }
  }

  *#fill(domain: IommuDomain, singlePages: boolean): Task {
    if (this.domains === 0) this.pages.hold(this.firstPage, this.pageCount);
    let mapped = this.start;
    try {
      for (const run of this.#runs(singlePages)) {
        yield* domain.ops.map!(domain, run.iova, run.paddr, run.bytes, this.prot);
        mapped = run.iova + BigInt(run.bytes);
      }
    } catch (error) {
      if (mapped > this.start) yield* unmapAll(domain, this.start, mapped - this.start);
      if (this.domains === 0) this.pages.release(this.firstPage, this.pageCount);
      throw error;
    }
    this.domains++;
  }

  *#runs(singlePages: boolean): Generator<Run> {
    const end = this.firstPage + this.pageCount;
    let iova = this.start;
    let left = Number(this.length);
    let skip = Number(this.pageOffset);
    for (let page = this.firstPage; page < end; ) {
      const pfn = this.pages.pfn(page);
      let count = 1;
      while (!singlePages && page + count < end && this.pages.pfn(page + count) === pfn + count) {
        count++;
      }
      const bytes = Math.min(left, count * PAGE_SIZE - skip);
      yield { iova, paddr: pfn * PAGE_SIZE + skip, bytes };
      iova += BigInt(bytes);
      left -= bytes;
      skip = 0;
      page += count;
    }
  }
}

function* unmapAll(domain: IommuDomain, iova: bigint, bytes: bigint): Task {
  yield* domain.ops.unmap!(domain, iova, bytes);
}
