/**
 * The I/O page table of an IOAS: its areas, what it may not or should not use, and the domains that
 * mirror it (drivers/iommu/iommufd/io_pagetable.c).
 */

import { host } from '../../../trace/catalogue/host.ts';
import { PERM, permText } from '../../../trace/perm.ts';
import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { FailPoints } from '../failpoint.ts';
import type { IommuDomain } from '../iommu/ops.ts';
import { PROT } from '../iommu/ops.ts';
import type { Kernel } from '../kernel.ts';
import { alignmentOf, checkAligned } from './alignment.ts';
import { Area } from './area.ts';
import { COST } from './cost.ts';
import { IntervalSet, IOVA_MAX } from './interval-set.ts';
import { IovaSpace, rangeText } from './iova-space.ts';
import type { IoptPages } from './pages.ts';
import { hex, PAGE_SIZE } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);

/** Bytes of a page set, as COPY takes them from a source IOAS. */
export interface PagesSlice {
  readonly pages: IoptPages;
  readonly pagesByte: bigint;
  readonly length: bigint;
}

/** What a kernel user of an IOAS without a domain is to its table (struct iommufd_access). */
export interface IoptAccess {
  /** What areas must be aligned to: the page size for one that pins pages, else 1. */
  readonly alignment: bigint;
  /** Must unpin all it has of the range before it returns. */
  unmap(iova: bigint, length: bigint): Task;
}

/** How often accesses are asked to let go of one area. */
const UNMAP_TRIES = 100;

/** The IOAS as events name it. */
interface IoasName {
  readonly id: number;
  readonly ctx: { readonly pid: number };
}

export class IoPagetable {
  readonly areas = new IntervalSet<Area>();
  /** What may be mapped, and what is reserved for whom. */
  readonly space: IovaSpace;
  readonly #domains: IommuDomain[] = [];
  readonly #accesses = new Set<IoptAccess>();
  readonly #kernel: Kernel;
  readonly #owner: IoasName | null;
  readonly #mutex = new Mutex();
  #hugePages = true;
  #alignment = 1n;

  /** @param owner the IOAS it is of, for traces */
  constructor(kernel: Kernel, owner: IoasName | null = null) {
    this.#kernel = kernel;
    this.#owner = owner;
    this.space = new IovaSpace(kernel, this.areas);
  }

  /** What iova and length of a mapping must be multiples of, in bytes. */
  get alignment(): bigint {
    return this.#alignment;
  }

  get failpoints(): FailPoints {
    return this.#kernel.failpoints;
  }

  get hugePages(): boolean {
    return this.#hugePages;
  }

  /** The domains that mirror it. */
  get domains(): readonly IommuDomain[] {
    return this.#domains;
  }

  /** Does something while nothing is mapped or unmapped. */
  *locked(work: Task): Task {
    yield* this.#mutex.lock();
    try {
      yield* work;
    } finally {
      this.#mutex.unlock();
    }
  }

  /**
   * Puts `parts`, which have the same pages in the same domains, in the place of an area.
   *
   * @throws Errno ENOMEM: then it stays
   */
  exchange(area: Area, parts: readonly Area[]): void {
    this.#kernel.memory.take(parts.length - 1, 'areas');
    for (const part of parts) part.pages.get();
    this.areas.remove(area);
    this.#noteGone(area);
    for (const part of parts) this.areas.insert(part);
    for (const part of parts) this.#noteNew(part);
    area.pages.put();
  }

  /**
   * Maps the slices one after the other at `iova`, or where there is room when it is null.
   *
   * @param address what the IOVA's alignment should follow: the first byte's address in the process
   * @returns the IOVA
   * @throws Errno EINVAL, EOVERFLOW, EEXIST, ENOSPC, EPERM, EFAULT, ENOMEM; then nothing is mapped
   */
  *map(
    slices: readonly PagesSlice[],
    prot: number,
    iova: bigint | null,
    address: bigint,
  ): Task<bigint> {
    yield* this.#mutex.lock();
    try {
      const length = slices.reduce((sum, slice) => sum + slice.length, 0n);
      const start = this.space.place({ length, iova, address, alignment: this.#alignment });
      const areas = this.#newAreas(slices, prot, start);
      for (const area of areas) this.#insert(area);
      try {
        yield* this.#fillAll(areas, this.#domains);
      } catch (error) {
        for (const area of areas) this.#remove(area);
        throw error;
      }
      for (const area of areas) area.ready = true;
      return start;
    } finally {
      this.#mutex.unlock();
    }
  }

  /** The slices behind a fully mapped range. @throws Errno EINVAL, EOVERFLOW, ENOENT */
  slices(iova: bigint, length: bigint): PagesSlice[] {
    if (length === 0n) throw new Errno('EINVAL', 'length 0');
    const last = iova + length - 1n;
    if (last > IOVA_MAX) {
      throw new Errno('EOVERFLOW', `src_iova 0x${hex(iova)} + length 0x${hex(length)} wraps`);
    }
    const slices: PagesSlice[] = [];
    let next = iova;
    for (const area of this.areas.allIn(iova, last)) {
      if (area.start > next || !area.ready) break;
      const end = area.last < last ? area.last : last;
      slices.push({
        pages: area.pages,
        pagesByte: area.pagesByte + (next - area.start),
        length: end - next + 1n,
      });
      next = end + 1n;
    }
    if (next <= last) {
      throw new Errno(
        'ENOENT',
        `IOVA 0x${hex(next)} of ${rangeText({ start: iova, last })} is not mapped`,
      );
    }
    return slices;
  }

  /**
   * Unmaps all areas inside the range, which may not cut one. Areas before the one it cuts are gone
   * then (iopt_unmap_iova_range). Accesses are told of an area that they have pinned, and must let
   * go of it.
   *
   * @param done counts the bytes unmapped, also when it throws
   * @throws Errno ENOENT: it would cut an area; EBUSY: an area is locked or in the making;
   *   EDEADLOCK: an access does not let go
   */
  *unmap(start: bigint, last: bigint, done: { bytes: bigint } = { bytes: 0n }): Task {
    let from = start;
    let tries = 0;
    while (from <= last) {
      const pinned = yield* this.#unmapUnpinned(from, last, (area) => {
        done.bytes += area.length;
        from = area.last + 1n;
        tries = 0;
      });
      if (pinned === null) break;
      from = pinned.start;
      if (tries++ === UNMAP_TRIES) {
        throw new Errno('EDEADLOCK', `${rangeText(pinned)} stays pinned by an access`);
      }
      for (const access of [...this.#accesses]) yield* access.unmap(from, pinned.length);
    }
  }

  /**
   * Lets an access use the table (iopt_add_access).
   *
   * @throws Errno EADDRINUSE: an area is not aligned as it needs
   */
  *addAccess(access: IoptAccess): Task {
    yield* this.#mutex.lock();
    try {
      this.#kernel.failpoints.point('iommufd:iopt_access');
      this.#accesses.add(access);
      const alignment = this.#alignmentWith(this.#domains, this.#hugePages);
      try {
        this.#checkAligned(alignment);
      } catch (error) {
        this.#accesses.delete(access);
        throw error;
      }
      this.#alignment = alignment;
    } finally {
      this.#mutex.unlock();
    }
  }

  *removeAccess(access: IoptAccess): Task {
    yield* this.#mutex.lock();
    this.#accesses.delete(access);
    this.#alignment = this.#alignmentWith(this.#domains, this.#hugePages);
    this.#mutex.unlock();
  }

  /**
   * Makes `domain` mirror the table (iopt_table_add_domain).
   *
   * @throws Errno EINVAL: smallest page above 4 KiB; EADDRINUSE: an area is misaligned for it or
   *   outside its aperture; or what pinning and mapping say. Then the domain is left empty.
   */
  *addDomain(domain: IommuDomain): Task {
    yield* this.#mutex.lock();
    try {
      const alignment = this.#alignmentWith([...this.#domains, domain], this.#hugePages);
      this.#checkAligned(alignment);
      this.#kernel.failpoints.point('iommufd:domain_slot');
      this.space.reserveOutside(domain, domain.aperture);
      try {
        yield* this.#fillAll([...this.areas], [domain]);
      } catch (error) {
        this.space.unreserve(domain);
        throw error;
      }
      this.#domains.push(domain);
      this.#alignment = alignment;
    } finally {
      this.#mutex.unlock();
    }
  }

  /** Empties `domain` and lets go of the pages no other domain has. */
  *removeDomain(domain: IommuDomain): Task {
    yield* this.#mutex.lock();
    try {
      const at = this.#domains.indexOf(domain);
      if (at < 0) return;
      for (const area of this.areas) yield* this.#unfill(area, [domain]);
      this.#domains.splice(at, 1);
      this.space.unreserve(domain);
      this.#alignment = this.#alignmentWith(this.#domains, this.#hugePages);
    } finally {
      this.#mutex.unlock();
    }
  }

  /** IOMMU_OPTION_HUGE_PAGES. @throws Errno EINVAL: would change what domains already map;
   *  EADDRINUSE: an area is not page aligned */
  *setHugePages(on: boolean): Task {
    yield* this.#mutex.lock();
    try {
      if (on === this.#hugePages) return;
      const alignment = this.#alignmentWith(this.#domains, on);
      if (!on) {
        if (this.#domains.length > 0 && this.areas.size > 0) {
          throw new Errno('EINVAL', `${this.areas.size} areas are mapped in domains`);
        }
        this.#checkAligned(alignment);
      }
      this.#hugePages = on;
      this.#alignment = alignment;
    } finally {
      this.#mutex.unlock();
    }
  }

  /**
   * One go of `unmap`, with the table locked: up to the first area that an access has pinned, which
   * it returns.
   */
  *#unmapUnpinned(start: bigint, last: bigint, gone: (area: Area) => void): Task<Area | null> {
    yield* this.#mutex.lock();
    try {
      for (const area of this.areas.allIn(start, last)) {
        const what = `area ${rangeText(area)}`;
        if (!area.ready) throw new Errno('EBUSY', `${what} is being made or unmapped`);
        if (area.locks > 0) throw new Errno('EBUSY', `${what} has a hardware queue`);
        if (area.start < start || area.last > last) {
          throw new Errno('ENOENT', `${rangeText({ start, last })} cuts ${what}`);
        }
        if (area.accessPins > 0) {
          area.preventAccess = true;
          return area;
        }
        area.ready = false;
        yield* this.#unfill(area, this.#domains);
        this.#remove(area);
        gone(area);
      }
      return null;
    } finally {
      this.#mutex.unlock();
    }
  }

  #newAreas(slices: readonly PagesSlice[], prot: number, start: bigint): Area[] {
    const areas: Area[] = [];
    let iova = start;
    for (const { pages, pagesByte, length } of slices) {
      if ((prot & PROT.WRITE) !== 0 && !pages.writable) {
        throw new Errno('EPERM', `pages at 0x${hex(pages.base)} were mapped without WRITEABLE`);
      }
      if ((pagesByte % PAGE) % this.#alignment !== 0n) {
        const offset = hex(pagesByte % PAGE);
        throw new Errno(
          'EINVAL',
          `page offset 0x${offset} against alignment ${this.#alignment.toString()}`,
        );
      }
      this.#kernel.failpoints.point('iommufd:iopt_pages_list');
      this.#kernel.failpoints.point('iommufd:iopt_area');
      areas.push(new Area(iova, length, pages, pagesByte, prot));
      iova += length;
    }
    this.#kernel.memory.take(areas.length, 'areas');
    return areas;
  }

  #insert(area: Area): void {
    area.pages.get();
    this.areas.insert(area);
    this.#noteNew(area);
  }

  #remove(area: Area): void {
    this.areas.remove(area);
    this.#kernel.memory.give(1);
    this.#noteGone(area);
    area.pages.put();
  }

  #noteNew({ start, length, pages, pagesByte, prot }: Area): void {
    const { trace } = this.#kernel;
    if (!trace.on || this.#owner === null) return;
    const { id: ioas, ctx } = this.#owner;
    const base = pages.base + pagesByte;
    const may = (prot & PROT.READ && PERM.R) | (prot & PROT.WRITE && PERM.W);
    const values = { pid: ctx.pid, ioas, iova: start, bytes: Number(length), base };
    trace.emit(host.areaNew, { ...values, perm: permText(may) });
  }

  #noteGone({ start, length }: Area): void {
    const { trace } = this.#kernel;
    if (!trace.on || this.#owner === null) return;
    const { id: ioas, ctx } = this.#owner;
    trace.emit(host.areaGone, { pid: ctx.pid, ioas, iova: start, bytes: Number(length) });
  }

  *#fillAll(areas: readonly Area[], domains: readonly IommuDomain[]): Task {
    const done: { area: Area; domain: IommuDomain }[] = [];
    try {
      for (const area of areas) {
        if (domains.length > 0) this.#kernel.failpoints.point('iommufd:pfn_batch');
        for (const domain of domains) {
          const pins = area.domains === 0;
          yield* area.fill(domain, !this.#hugePages);
          done.push({ area, domain });
          // Only now it is known that so many pages exist.
          if (pins) yield area.pageCount * COST.PIN_PAGE;
        }
      }
    } catch (error) {
      for (const { area, domain } of done.reverse()) yield* area.unfill(domain);
      throw error;
    }
  }

  *#unfill(area: Area, domains: readonly IommuDomain[]): Task {
    for (const domain of domains) yield* area.unfill(domain);
    if (domains.length > 0 && area.domains === 0) yield area.pageCount * COST.PIN_PAGE;
  }

  #alignmentWith(domains: readonly IommuDomain[], hugePages: boolean): bigint {
    return alignmentOf({ hugePages, domains, accesses: this.#accesses });
  }

  #checkAligned(alignment: bigint): void {
    if (alignment > this.#alignment) checkAligned(this.areas, alignment);
  }
}
