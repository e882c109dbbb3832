/**
 * The I/O page table of a mock domain: leaves of the sizes that the domain has, 2 KiB and up. Dirty
 * bits are the test's to set (drivers/iommu/iommufd/selftest.c, drivers/iommu/generic_pt).
 */
import { MOCK_HUGE_PAGE_SIZE, MOCK_PAGE_SIZE } from '../../uapi/iommufd-test.ts';
import type { DirtyRecord } from '../iommu/ops.ts';
import type { Behaviour } from '../release.ts';

/** Items of a table; what the items of the next level are larger by. */
const ITEMS = MOCK_HUGE_PAGE_SIZE / MOCK_PAGE_SIZE;
const ITEM = BigInt(MOCK_PAGE_SIZE);
/** What a table of the lowest level maps. */
const REGION = BigInt(MOCK_HUGE_PAGE_SIZE);
const UNMAPPED = -1;

/** A page of the I/O page table: an item of a table, or a run of them. */
interface Leaf {
  readonly iova: bigint;
  readonly paddr: number;
  /** A power of two; `iova` and `paddr` are multiples of it. */
  readonly bytes: number;
  dirty: boolean;
}

/** 1 MiB of IOVA space: (part of) one leaf, or a leaf for each item. */
type Region = Leaf | Table;

interface Table {
  readonly leaves: (Leaf | undefined)[];
  /** Items mapped. */
  mapped: number;
}

export class MockPageTable {
  /** Ascending. */
  readonly #sizes: readonly number[];
  readonly #dirtyLeaf: Behaviour['dirtyLeaf'];
  readonly #regions = new Map<bigint, Region>();

  /**
   * @param sizes of leaves in bytes, as a bitmap
   * @param dirtyLeaf what a dirty leaf is told of as
   */
  constructor(sizes: number, dirtyLeaf: Behaviour['dirtyLeaf']) {
    const powers = Array.from({ length: 52 }, (_, lg2) => 2 ** lg2);
    this.#sizes = powers.filter((size) => Math.floor(sizes / size) % 2 === 1);
    this.#dirtyLeaf = dirtyLeaf;
  }

  get empty(): boolean {
    return this.#regions.size === 0;
  }

  /** Maps bytes with the largest leaves that fit. Mapping twice is an error of the model. */
  map(iova: bigint, paddr: number, bytes: number): void {
    for (let done = 0; done < bytes; ) {
      const [at, to] = [iova + BigInt(done), paddr + done];
      const fits = (size: number): boolean =>
        size <= bytes - done && to % size === 0 && at % BigInt(size) === 0n;
      const size = this.#sizes.findLast(fits);
      if (size === undefined) throw new Error(`no leaf fits at IOVA 0x${at.toString(16)}`);
      this.#set({ iova: at, paddr: to, bytes: size, dirty: false });
      done += size;
    }
  }

  /** Unmaps what is mapped of the range; of a leaf that it cuts the rest stays, item by item. */
  unmap(iova: bigint, bytes: bigint): void {
    const end = iova + bytes;
    for (const leaf of [...this.#leaves(iova, end)]) {
      this.#clear(leaf);
      const leafEnd = leaf.iova + BigInt(leaf.bytes);
      this.#keep(leaf, leaf.iova, iova);
      this.#keep(leaf, end, leafEnd);
    }
  }

  /** Physical address behind `iova`, or -1. */
  lookup(iova: bigint): number {
    const leaf = this.#leaf(iova);
    return leaf === undefined ? UNMAPPED : leaf.paddr + Number(iova - leaf.iova);
  }

  /** A device writes there: false where nothing is mapped. */
  setDirty(iova: bigint): boolean {
    const leaf = this.#leaf(iova);
    if (leaf !== undefined) leaf.dirty = true;
    return leaf !== undefined;
  }

  /** Tells what is dirty in the range, and may clear it. */
  readDirty(iova: bigint, bytes: bigint, clear: boolean, record: DirtyRecord | null): void {
    for (const leaf of this.#leaves(iova, iova + bytes)) {
      if (!leaf.dirty) continue;
      record?.(...this.#toldOf(leaf, iova, iova + bytes));
      if (clear) leaf.dirty = false;
    }
  }

  #toldOf(leaf: Leaf, start: bigint, end: bigint): [iova: bigint, bytes: bigint] {
    const leafEnd = leaf.iova + BigInt(leaf.bytes);
    if (this.#dirtyLeaf === 'whole') return [leaf.iova, BigInt(leaf.bytes)];
    const from = leaf.iova > start ? leaf.iova : start;
    const item = itemBytes(leaf);
    if (this.#dirtyLeaf === 'item' || item === BigInt(leaf.bytes)) {
      return [from, (leafEnd < end ? leafEnd : end) - from];
    }
    const last = leafEnd - item;
    return [from, (last < end ? last : end) - from];
  }

  #leaf(iova: bigint): Leaf | undefined {
    const region = this.#regions.get(iova / REGION);
    if (region === undefined || !('leaves' in region)) return region;
    return region.leaves[Number((iova % REGION) / ITEM)];
  }

  /** The leaves that meet a range, ascending. */
  *#leaves(start: bigint, end: bigint): Generator<Leaf> {
    for (let at = start; at < end; ) {
      const region = this.#regions.get(at / REGION);
      const leaf = this.#leaf(at);
      if (leaf !== undefined) {
        yield leaf;
        at = leaf.iova + BigInt(leaf.bytes);
      } else if (region === undefined) {
        at = (at / REGION + 1n) * REGION;
      } else {
        at = (at / ITEM + 1n) * ITEM;
      }
    }
  }

  #set(leaf: Leaf): void {
    if (leaf.bytes >= MOCK_HUGE_PAGE_SIZE) {
      for (const number of regionsOf(leaf)) {
        if (this.#regions.has(number)) throw mappedTwice(leaf);
        this.#regions.set(number, leaf);
      }
      return;
    }
    const number = leaf.iova / REGION;
    const found = this.#regions.get(number);
    const region = found ?? { leaves: new Array<Leaf | undefined>(ITEMS), mapped: 0 };
    if (!('leaves' in region)) throw mappedTwice(leaf);
    for (const item of itemsOf(leaf)) {
      if (region.leaves[item] !== undefined) throw mappedTwice(leaf);
      region.leaves[item] = leaf;
      region.mapped++;
    }
    this.#regions.set(number, region);
  }

  #clear(leaf: Leaf): void {
    if (leaf.bytes >= MOCK_HUGE_PAGE_SIZE) {
      for (const number of regionsOf(leaf)) this.#regions.delete(number);
      return;
    }
    const number = leaf.iova / REGION;
    const region = this.#regions.get(number);
    if (region === undefined || !('leaves' in region)) return;
    for (const item of itemsOf(leaf)) {
      region.leaves[item] = undefined;
      region.mapped--;
    }
    if (region.mapped === 0) this.#regions.delete(number);
  }

  /** Of a leaf that is no more: the items in a range. */
  #keep({ iova, paddr, dirty }: Leaf, start: bigint, end: bigint): void {
    for (let at = start; at < end; at += ITEM) {
      this.#set({ iova: at, paddr: paddr + Number(at - iova), bytes: MOCK_PAGE_SIZE, dirty });
    }
  }
}

/** Size of the items that the leaf consists of. */
function itemBytes({ bytes }: Leaf): bigint {
  let item = MOCK_PAGE_SIZE;
  while (item * ITEMS <= bytes) item *= ITEMS;
  return BigInt(item);
}

function* regionsOf({ iova, bytes }: Leaf): Generator<bigint> {
  const first = iova / REGION;
  for (let n = 0; n < bytes / MOCK_HUGE_PAGE_SIZE; n++) yield first + BigInt(n);
}

function* itemsOf({ iova, bytes }: Leaf): Generator<number> {
  const first = Number((iova % REGION) / ITEM);
  for (let n = 0; n < bytes / MOCK_PAGE_SIZE; n++) yield first + n;
}

function mappedTwice({ iova, bytes }: Leaf): Error {
  return new Error(`IOVA 0x${iova.toString(16)}, ${bytes} bytes, is mapped twice`);
}
