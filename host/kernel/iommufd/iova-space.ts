/**
 * The IOVAs of an IOAS: which of them nobody may map, which the user wants for what it maps without
 * saying where, and which are taken (drivers/iommu/iommufd/io_pagetable.c).
 */
import { Errno } from '../errno.ts';
import type { Kernel } from '../kernel.ts';
import type { Interval } from './interval-set.ts';
import { holes, IntervalSet, IOVA_MAX } from './interval-set.ts';
import { allocateIova } from './iova.ts';
import { hex } from './page-source.ts';

/** A range nobody may map; `owner` is the device or domain it is there for. */
interface Reserved extends Interval {
  readonly owner: object;
}

/** `[0x1000, 0x1fff]`, for reasons. */
export const rangeText = ({ start, last }: Interval): string => `[0x${hex(start)}, 0x${hex(last)}]`;

/** What is looked for: bytes at `iova`, or anywhere. */
export interface Wish {
  /** Above 0. */
  readonly length: bigint;
  readonly iova: bigint | null;
  /** What an IOVA of our choice should be aligned like. */
  readonly address: bigint;
  /** Of the IOAS. */
  readonly alignment: bigint;
}

export class IovaSpace {
  readonly #kernel: Kernel;
  readonly #areas: IntervalSet<Interval>;
  readonly #reserved = new IntervalSet<Reserved>();
  readonly #allowed = new IntervalSet<Interval>();

  /** @param areas what is mapped */
  constructor(kernel: Kernel, areas: IntervalSet<Interval>) {
    this.#kernel = kernel;
    this.#areas = areas;
  }

  /** The holes between the reserved ranges, ascending. */
  usable(): Generator<Interval> {
    return holes({ start: 0n, last: IOVA_MAX }, this.#reserved);
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
        const hit = this.#areas.firstIn(start, last) ?? this.#allowed.firstIn(start, last);
        if (hit !== undefined) {
          const what = `${rangeText(hit)}, mapped or allowed`;
          throw new Errno('EADDRINUSE', `reserved ${rangeText({ start, last })} meets ${what}`);
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

  /** Reserves what is outside of `aperture` for `owner`. @throws Errno EADDRINUSE */
  reserveOutside(owner: object, { start, last }: Interval): void {
    const outside: Interval[] = [];
    if (start > 0n) outside.push({ start: 0n, last: start - 1n });
    if (last < IOVA_MAX) outside.push({ start: last + 1n, last: IOVA_MAX });
    this.reserve(owner, outside);
  }

  /** Drops every range reserved for `owner`. */
  unreserve(owner: object): void {
    this.#reserved.removeWhere((item) => item.owner === owner);
  }

  /**
   * Replaces the allowed list, for which memory has been taken.
   *
   * @throws Errno EADDRINUSE: one is reserved; the old list stays
   */
  allow(allowed: IntervalSet<Interval>): void {
    for (const range of allowed) {
      const hit = this.#reserved.firstIn(range.start, range.last);
      if (hit === undefined) continue;
      throw new Errno('EADDRINUSE', `allowed ${rangeText(range)} meets reserved ${rangeText(hit)}`);
    }
    this.#kernel.memory.give(this.#allowed.size);
    this.#allowed.replace(allowed);
  }

  /** The IOAS goes. */
  release(): void {
    this.#kernel.memory.give(this.#allowed.size);
  }

  /**
   * Where a mapping goes (iopt_check_iova, iopt_alloc_iova).
   *
   * @throws Errno EINVAL: misaligned, or reserved; EOVERFLOW; EEXIST: mapped; ENOSPC: no room
   */
  place({ length, iova, address, alignment }: Wish): bigint {
    misaligned('length', length, alignment);
    if (iova === null) {
      const wanted = { length, address, alignment };
      return allocateIova(wanted, this.#allowed, this.#reserved, this.#areas);
    }
    misaligned('iova', iova, alignment);
    const range = { start: iova, last: iova + length - 1n };
    if (range.last > IOVA_MAX) {
      throw new Errno('EOVERFLOW', `iova 0x${hex(iova)} + length 0x${hex(length)} wraps`);
    }
    const reserved = this.#reserved.firstIn(iova, range.last);
    if (reserved !== undefined) {
      throw new Errno('EINVAL', `${rangeText(range)} meets reserved ${rangeText(reserved)}`);
    }
    const area = this.#areas.firstIn(iova, range.last);
    if (area !== undefined) {
      throw new Errno('EEXIST', `${rangeText(range)} overlaps area ${rangeText(area)}`);
    }
    return iova;
  }
}

function misaligned(name: string, value: bigint, alignment: bigint): void {
  if (value % alignment === 0n) return;
  throw new Errno('EINVAL', `${name} 0x${hex(value)} is not a multiple of ${alignment.toString()}`);
}
