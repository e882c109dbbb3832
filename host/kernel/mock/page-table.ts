/**
 * The I/O page table of a mock domain: items of 2 KiB, and leaves of 1 MiB where the domain has
 * them. Dirty bits are the test's to set (drivers/iommu/iommufd/selftest.c).
 */
import { MOCK_HUGE_PAGE_SIZE, MOCK_PAGE_SIZE } from '../../uapi/iommufd-test.ts';
import type { DirtyRecord } from '../iommu/ops.ts';

const ITEMS = MOCK_HUGE_PAGE_SIZE / MOCK_PAGE_SIZE;
const ITEM = BigInt(MOCK_PAGE_SIZE);
const REGION = BigInt(MOCK_HUGE_PAGE_SIZE);
const UNMAPPED = -1;

/** 1 MiB of IOVA space: one leaf, or items. */
interface Region {
  /** Physical address of each item; a leaf has only the first. */
  readonly items: Float64Array;
  readonly dirty: Uint8Array;
  /** Items mapped. */
  mapped: number;
}

/** Part of a range that lies in one region. */
interface Piece {
  readonly region: bigint;
  /** Items `from` (inclusive) to `to`. */
  readonly from: number;
  readonly to: number;
}

const isLeaf = (region: Region): boolean => region.items.length === 1;

export class MockPageTable {
  readonly #huge: boolean;
  readonly #regions = new Map<bigint, Region>();

  /** @param huge whether there are 1 MiB leaves */
  constructor(huge: boolean) {
    this.#huge = huge;
  }

  get empty(): boolean {
    return this.#regions.size === 0;
  }

  /** Maps bytes (multiples of 2 KiB). Mapping twice is an error of the model. */
  map(iova: bigint, paddr: number, bytes: number): void {
    for (const piece of pieces(iova, BigInt(bytes))) {
      const skipped = Number(piece.region * REGION - iova) + piece.from * MOCK_PAGE_SIZE;
      this.#mapPiece(piece, paddr + skipped);
    }
  }

  /** Unmaps what is mapped of the range; a leaf that it cuts becomes items. */
  unmap(iova: bigint, bytes: bigint): void {
    for (const { region: number, from, to } of pieces(iova, bytes)) {
      let region = this.#regions.get(number);
      if (region === undefined) continue;
      if (from === 0 && to === ITEMS) {
        this.#regions.delete(number);
        continue;
      }
      if (isLeaf(region)) {
        region = split(region);
        this.#regions.set(number, region);
      }
      for (let item = from; item < to; item++) {
        if (region.items[item] === UNMAPPED) continue;
        region.items[item] = UNMAPPED;
        region.dirty[item] = 0;
        region.mapped--;
      }
      if (region.mapped === 0) this.#regions.delete(number);
    }
  }

  /** Physical address behind `iova`, or -1. */
  lookup(iova: bigint): number {
    const region = this.#regions.get(iova / REGION);
    if (region === undefined) return UNMAPPED;
    if (isLeaf(region)) return region.items[0]! + Number(iova % REGION);
    const paddr = region.items[Number((iova % REGION) / ITEM)]!;
    return paddr === UNMAPPED ? UNMAPPED : paddr + Number(iova % ITEM);
  }

  /** A device writes there: false where nothing is mapped. */
  setDirty(iova: bigint): boolean {
    if (this.lookup(iova) === UNMAPPED) return false;
    const region = this.#regions.get(iova / REGION)!;
    region.dirty[isLeaf(region) ? 0 : Number((iova % REGION) / ITEM)] = 1;
    return true;
  }

  /** Tells what is dirty in the range, whole items and leaves cut to it, and may clear it. */
  readDirty(iova: bigint, bytes: bigint, clear: boolean, record: DirtyRecord | null): void {
    for (const { region: number, from, to } of pieces(iova, bytes)) {
      const region = this.#regions.get(number);
      if (region === undefined) continue;
      const start = number * REGION;
      if (isLeaf(region)) {
        if (region.dirty[0] === 0) continue;
        record?.(start + BigInt(from) * ITEM, BigInt(to - from) * ITEM);
        if (clear) region.dirty[0] = 0;
        continue;
      }
      for (let item = from; item < to; item++) {
        if (region.dirty[item] === 0) continue;
        record?.(start + BigInt(item) * ITEM, ITEM);
        if (clear) region.dirty[item] = 0;
      }
    }
  }

  #mapPiece({ region: number, from, to }: Piece, paddr: number): void {
    const found = this.#regions.get(number);
    const whole = to - from === ITEMS;
    if (whole && found === undefined && this.#huge && paddr % MOCK_HUGE_PAGE_SIZE === 0) {
      const items = Float64Array.of(paddr);
      this.#regions.set(number, { items, dirty: new Uint8Array(1), mapped: ITEMS });
      return;
    }
    const region = found ?? {
      items: new Float64Array(ITEMS).fill(UNMAPPED),
      dirty: new Uint8Array(ITEMS),
      mapped: 0,
    };
    this.#regions.set(number, region);
    for (let item = from; item < to; item++) {
      if (region.items[item] !== UNMAPPED) {
        const at = number * REGION + BigInt(item) * ITEM;
        throw new Error(`IOVA 0x${at.toString(16)} is mapped twice`);
      }
      region.items[item] = paddr + (item - from) * MOCK_PAGE_SIZE;
      region.mapped++;
    }
  }
}

function* pieces(iova: bigint, bytes: bigint): Generator<Piece> {
  const end = iova + bytes;
  for (let at = iova; at < end; ) {
    const region = at / REGION;
    const next = (region + 1n) * REGION;
    const stop = next < end ? next : end;
    const base = region * REGION;
    const to = Number((stop - base + ITEM - 1n) / ITEM);
    yield { region, from: Number((at - base) / ITEM), to };
    at = stop;
  }
}

/** The items of a leaf, each as dirty as it was. */
function split(leaf: Region): Region {
  const first = leaf.items[0]!;
  return {
    items: Float64Array.from({ length: ITEMS }, (_, item) => first + item * MOCK_PAGE_SIZE),
    dirty: new Uint8Array(ITEMS).fill(leaf.dirty[0]!),
    mapped: ITEMS,
  };
}
