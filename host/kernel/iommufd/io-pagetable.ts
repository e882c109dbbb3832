/**
 * The I/O page table of an IOAS: its areas, what it may not or should not use, and the domains that
 * mirror it (drivers/iommu/iommufd/io_pagetable.c).
 */

import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { IommuDomain } from '../iommu/ops.ts';
import { PROT } from '../iommu/ops.ts';
import type { Kernel } from '../kernel.ts';
import { Area } from './area.ts';
import { COST } from './cost.ts';
import type { Interval } from './interval-set.ts';
import { holes, IntervalSet, IOVA_MAX } from './interval-set.ts';
import { allocateIova } from './iova.ts';
import type { IoptPages } from './pages.ts';
import { hex, PAGE_SIZE } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);

/** A range nobody may map; `owner` is the device or domain it is there for. */
interface Reserved extends Interval {
  readonly owner: object;
}

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

const range = (start: bigint, last: bigint): string => `[0x${hex(start)}, 0x${hex(last)}]`;

export class IoPagetable {
  readonly areas = new IntervalSet<Area>();
  readonly #reserved = new IntervalSet<Reserved>();
  readonly #allowed = new IntervalSet<Interval>();
  readonly #domains: IommuDomain[] = [];
  readonly #accesses = new Set<IoptAccess>();
  readonly #kernel: Kernel;
  readonly #mutex = new Mutex();
  #hugePages = true;
  #alignment = 1n;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** What iova and length of a mapping must be multiples of, in bytes. */
  get alignment(): bigint {
    return this.#alignment;
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

  /** Puts `parts`, which have the same pages in the same domains, in the place of an area. */
  exchange(area: Area, parts: readonly Area[]): void {
    for (const part of parts) part.pages.get();
    this.areas.remove(area);
    for (const part of parts) this.areas.insert(part);
    area.pages.put();
  }

  /** The holes between the reserved ranges, ascending. */
  usable(): Generator<Interval> {
    return holes({ start: 0n, last: IOVA_MAX }, this.#reserved);
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
      const start = this.#place(length, iova, address);
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
      throw new Errno('ENOENT', `IOVA 0x${hex(next)} of ${range(iova, last)} is not mapped`);
    }
    return slices;
  }

  /**
   * Unmaps all areas inside the range, which may not cut one. Areas before the one it cuts are gone
   * then (iopt_unmap_iova_range). Accesses are told of an area that they have pinned, and must let
   * go of it.
   *
   * @returns bytes unmapped
   * @throws Errno ENOENT; EBUSY: an area is locked or in the making; EDEADLOCK: an access does not
   *   let go
   */
  *unmap(start: bigint, last: bigint): Task<bigint> {
    let bytes = 0n;
    let from = start;
    let tries = 0;
    while (from <= last) {
      const pinned = yield* this.#unmapUnpinned(from, last, (area) => {
        bytes += area.length;
        from = area.last + 1n;
        tries = 0;
      });
      if (pinned === null) break;
      from = pinned.start;
      if (tries++ === UNMAP_TRIES) {
        throw new Errno('EDEADLOCK', `${range(from, pinned.last)} stays pinned by an access`);
      }
      for (const access of [...this.#accesses]) yield* access.unmap(from, pinned.length);
    }
    if (bytes === 0n && !(start === 0n && last === IOVA_MAX)) {
      throw new Errno('ENOENT', `nothing is mapped in ${range(start, last)}`);
    }
    return bytes;
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
      this.#reserveOutside(domain);
      try {
        yield* this.#fillAll([...this.areas], [domain]);
      } catch (error) {
        this.unreserve(domain);
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
      this.unreserve(domain);
      this.#alignment = this.#alignmentWith(this.#domains, this.#hugePages);
    } finally {
      this.#mutex.unlock();
    }
  }

  /**
   * Reserves ranges for `owner`; all or nothing.
   *
   * @throws Errno EADDRINUSE: something is mapped there, or the user asked to be able to
   */
  reserve(owner: object, ranges: Iterable<Interval>): void {
    const added: Reserved[] = [];
    try {
      for (const { start, last } of ranges) {
        const hit = this.areas.firstIn(start, last) ?? this.#allowed.firstIn(start, last);
        if (hit !== undefined) {
          const what = `${range(hit.start, hit.last)}, mapped or allowed`;
          throw new Errno('EADDRINUSE', `reserved ${range(start, last)} meets ${what}`);
        }
        this.#kernel.failpoints.point('iommufd:iopt_reserved');
        const item = { start, last, owner };
        this.#reserved.insert(item);
        added.push(item);
      }
    } catch (error) {
      for (const item of added) this.#reserved.remove(item);
      throw error;
    }
  }

  /** Drops every range reserved for `owner`. */
  unreserve(owner: object): void {
    this.#reserved.removeWhere((item) => item.owner === owner);
  }

  /** Replaces the allowed list. @throws Errno EADDRINUSE: one is reserved; the old list stays */
  allow(allowed: IntervalSet<Interval>): void {
    for (const { start, last } of allowed) {
      const hit = this.#reserved.firstIn(start, last);
      if (hit === undefined) continue;
      const what = `reserved ${range(hit.start, hit.last)}`;
      throw new Errno('EADDRINUSE', `allowed ${range(start, last)} meets ${what}`);
    }
    this.#allowed.replace(allowed);
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
        const what = `area ${range(area.start, area.last)}`;
        if (!area.ready) throw new Errno('EBUSY', `${what} is being made or unmapped`);
        if (area.start < start || area.last > last) {
          throw new Errno('ENOENT', `${range(start, last)} cuts ${what}`);
        }
        if (area.locks > 0) throw new Errno('EBUSY', `${what} has a hardware queue`);
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

  /** Where a mapping goes, after the checks of iopt_check_iova or by iopt_alloc_iova. */
  #place(length: bigint, iova: bigint | null, address: bigint): bigint {
    if (length % this.#alignment !== 0n) {
      throw new Errno(
        'EINVAL',
        `length 0x${hex(length)} is not a multiple of ${this.#alignment.toString()}`,
      );
    }
    if (iova === null) {
      const size = { length, address, alignment: this.#alignment };
      return allocateIova(size, this.#allowed, this.#reserved, this.areas);
    }
    if (iova % this.#alignment !== 0n) {
      throw new Errno(
        'EINVAL',
        `iova 0x${hex(iova)} is not a multiple of ${this.#alignment.toString()}`,
      );
    }
    const last = iova + length - 1n;
    if (last > IOVA_MAX) {
      throw new Errno('EOVERFLOW', `iova 0x${hex(iova)} + length 0x${hex(length)} wraps`);
    }
    const reserved = this.#reserved.firstIn(iova, last);
    if (reserved !== undefined) {
      const what = `reserved ${range(reserved.start, reserved.last)}`;
      throw new Errno('EINVAL', `${range(iova, last)} meets ${what}`);
    }
    const area = this.areas.firstIn(iova, last);
    if (area !== undefined) {
      const what = `area ${range(area.start, area.last)}`;
      throw new Errno('EEXIST', `${range(iova, last)} overlaps ${what}`);
    }
    return iova;
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
      this.#kernel.failpoints.point('iommufd:iopt_area');
      areas.push(new Area(iova, length, pages, pagesByte, prot));
      iova += length;
    }
    return areas;
  }

  #insert(area: Area): void {
    area.pages.get();
    this.areas.insert(area);
  }

  #remove(area: Area): void {
    this.areas.remove(area);
    area.pages.put();
  }

  *#fillAll(areas: readonly Area[], domains: readonly IommuDomain[]): Task {
    const done: { area: Area; domain: IommuDomain }[] = [];
    try {
      for (const area of areas) {
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
    let alignment = hugePages ? 1n : PAGE;
    for (const access of this.#accesses) {
      if (access.alignment > alignment) alignment = access.alignment;
    }
    for (const domain of domains) {
      const sizes = BigInt(domain.pageSizes);
      const smallest = sizes & -sizes;
      if (smallest > PAGE) {
        throw new Errno('EINVAL', `smallest page of the domain is 0x${hex(smallest)} bytes`);
      }
      if (smallest > alignment) alignment = smallest;
    }
    return alignment;
  }

  #checkAligned(alignment: bigint): void {
    if (alignment <= this.#alignment) return;
    for (const area of this.areas) {
      if (((area.start | area.length | area.pageOffset) & (alignment - 1n)) === 0n) continue;
      const what = `area ${range(area.start, area.last)}`;
      throw new Errno('EADDRINUSE', `${what} is not aligned to ${alignment.toString()}`);
    }
  }

  #reserveOutside(domain: IommuDomain): void {
    const { start, last } = domain.aperture;
    const outside: Interval[] = [];
    if (start > 0n) outside.push({ start: 0n, last: start - 1n });
    if (last < IOVA_MAX) outside.push({ start: last + 1n, last: IOVA_MAX });
    this.reserve(domain, outside);
  }
}
