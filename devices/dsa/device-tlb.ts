import { NO_PASID } from '../pci/fabric.ts';
import type { TlbShape } from './model.ts';

const READ = 1;
const WRITE = 2;
/** log2 of the 4 KiB pages an entry of each part covers. */
const ORDERS = [0, 9, 18] as const;

/** Mappings of one page size, set-associative. A context of 0 marks a free place. */
class TlbPart {
  readonly order: number;
  readonly #setMask: number;
  readonly #ways: number;
  readonly #contexts: Int32Array;
  /** Page numbers in units of the part's page size, and the first frame (4 KiB) behind them. */
  readonly #pages: Float64Array;
  readonly #frames: Float64Array;
  readonly #access: Uint8Array;
  /** Per set, the way to be replaced next. */
  readonly #victims: Uint8Array;

  constructor(order: number, shape: TlbShape) {
    const places = shape.sets * shape.ways;
    this.order = order;
    this.#setMask = shape.sets - 1;
    this.#ways = shape.ways;
    this.#contexts = new Int32Array(places);
    this.#pages = new Float64Array(places);
    this.#frames = new Float64Array(places);
    this.#access = new Uint8Array(places);
    this.#victims = new Uint8Array(shape.sets);
  }

  /** Place of the mapping of page `unit`, or -1. */
  find(context: number, unit: number): number {
    const contexts = this.#contexts;
    const pages = this.#pages;
    const first = (unit & this.#setMask) * this.#ways;
    const end = first + this.#ways;
    for (let at = first; at < end; at++) {
      if (pages[at] === unit && contexts[at] === context) return at;
    }
    return -1;
  }

  frame(at: number): number {
    return this.#frames[at]!;
  }

  access(at: number): number {
    return this.#access[at]!;
  }

  fill(context: number, unit: number, frame: number, access: number): void {
    let at = this.find(context, unit);
    if (at < 0) {
      const set = unit & this.#setMask;
      at = set * this.#ways + this.#victims[set]!;
      for (let way = 0; way < this.#ways; way++) {
        if (this.#contexts[set * this.#ways + way] === 0) at = set * this.#ways + way;
      }
      if (this.#contexts[at] !== 0) this.#victims[set] = (this.#victims[set]! + 1) % this.#ways;
    }
    this.#contexts[at] = context;
    this.#pages[at] = unit;
    this.#frames[at] = frame;
    this.#access[at] = access;
  }

  /** Drops the mappings of units [first, end) that `pasid` and `global` select. */
  drop(pasid: number, global: boolean, first: number, end: number): number {
    const single = end - first === 1;
    const from = single ? (first & this.#setMask) * this.#ways : 0;
    const to = single ? from + this.#ways : this.#contexts.length;
    let dropped = 0;
    for (let at = from; at < to; at++) {
      const context = this.#contexts[at]!;
      if (context === 0 || !selects(context, pasid, global)) continue;
      const unit = this.#pages[at]!;
      if (unit < first || unit >= end) continue;
      this.#contexts[at] = 0;
      dropped++;
    }
    return dropped;
  }

  clear(): void {
    this.#contexts.fill(0);
    this.#victims.fill(0);
  }
}

/** One number for PASID (20 bits or none) and privilege; never 0. */
export function tlbContext(pasid: number, privileged: boolean): number {
  return 2 * (pasid + 2) + (privileged ? 1 : 0);
}

function selects(context: number, pasid: number, global: boolean): boolean {
  const owner = (context >>> 1) - 2;
  return global ? owner !== NO_PASID : owner === pasid;
}

/**
 * The accelerator's cache of ATS translations. Nothing leaves it but by replacement, invalidation or
 * `clear`: a missing invalidation shows as a stale access.
 */
export class DeviceTlb {
  /** Of the last hit: frame of the page, and the run of pages around it that the entry covers. */
  frame = 0;
  first = 0;
  end = 0;
  /** Whether the last hit allows writing. */
  writable = false;
  readonly #parts: readonly TlbPart[];
  /** The part of 4 KiB pages, where most hits are. */
  readonly #small: TlbPart;

  constructor(shapes: readonly [TlbShape, TlbShape, TlbShape]) {
    this.#parts = ORDERS.map((order, i) => new TlbPart(order, shapes[i]!));
    this.#small = this.#parts[0]!;
  }

  /** Looks a page up; true leaves the answer in the fields above. */
  lookup(context: number, vpn: number, write: boolean): boolean {
    const small = this.#small;
    const at = small.find(context, vpn);
    if (at >= 0 && (small.access(at) & (write ? WRITE : READ)) !== 0) {
      this.first = vpn;
      this.end = vpn + 1;
      this.frame = small.frame(at);
      this.writable = (small.access(at) & WRITE) !== 0;
      return true;
    }
    return this.#lookupLarge(context, vpn, write);
  }

  #lookupLarge(context: number, vpn: number, write: boolean): boolean {
    for (let i = 1; i < this.#parts.length; i++) {
      const part = this.#parts[i]!;
      const pages = 2 ** part.order;
      const unit = Math.floor(vpn / pages);
      const at = part.find(context, unit);
      if (at < 0 || (part.access(at) & (write ? WRITE : READ)) === 0) continue;
      this.first = unit * pages;
      this.end = this.first + pages;
      this.frame = part.frame(at) + (vpn - this.first);
      this.writable = (part.access(at) & WRITE) !== 0;
      return true;
    }
    return false;
  }

  /**
   * Remembers an ATS answer for `vpn`: the largest page of the device's that lies inside the
   * 2^shift bytes it covers. `pfn` is the frame of `vpn` itself.
   */
  fill(
    context: number,
    vpn: number,
    pfn: number,
    shift: number,
    read: boolean,
    write: boolean,
  ): void {
    const access = (read ? READ : 0) | (write ? WRITE : 0);
    if (access === 0) return;
    let part = this.#small;
    for (const larger of this.#parts) if (larger.order <= shift - 12) part = larger;
    const pages = 2 ** part.order;
    const unit = Math.floor(vpn / pages);
    part.fill(context, unit, pfn - (vpn - unit * pages), access);
  }

  /**
   * Drops every mapping that overlaps the 2^shift bytes (12 to 63; 64 is everything) around `vpn`,
   * of `pasid` (NO_PASID: those made without one), or with `global` of every PASID. Returns how many.
   */
  invalidate(pasid: number, global: boolean, vpn: number, shift: number): number {
    const pages = 2 ** Math.max(0, Math.min(shift, 64) - 12);
    const first = Math.floor(vpn / pages) * pages;
    let dropped = 0;
    for (const part of this.#parts) {
      const size = 2 ** part.order;
      const from = Math.floor(first / size);
      dropped += part.drop(pasid, global, from, Math.max(from + 1, (first + pages) / size));
    }
    return dropped;
  }

  clear(): void {
    for (const part of this.#parts) part.clear();
  }
}
