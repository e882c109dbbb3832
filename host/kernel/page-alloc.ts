import type { Ram } from '../machine/ram.ts';
import type { Random } from '../machine/random.ts';
import { BlockList } from './block-list.ts';
import { Errno } from './errno.ts';

const PAGE_BYTES = 4096;
/** Frames in a block: 2 MiB, what one large page maps. */
export const BLOCK_FRAMES = 512;
const BLOCK_WORDS = BLOCK_FRAMES / 32;

/** State of a frame. DYING: freed while pinned; it goes back when the last pin drops. */
const FREE = 0;
const USED = 1;
const DYING = 2;
const RESERVED = 3;

/** Somebody who wants to know what becomes of frames, such as the sanitizer. */
export interface FrameWatcher {
  /** Nobody has the frame any more. */
  freed(pfn: number): void;
  /** Its last pin is gone; who has it may go on to use it. */
  unpinned(pfn: number): void;
}

/**
 * The kernel's physical memory. Single frames are dealt from 2 MiB blocks already broken, blocks in
 * an order shuffled by the machine's seed: memory of a process is not physically contiguous, but
 * large pages are possible. Frames are zeroed when they are handed out.
 *
 * Pins are counted per frame. A frame that is freed while pinned is reused only after the last
 * unpin. Freeing twice and unpinning what is not pinned are errors of the model, not of a user, and
 * throw plain errors.
 */
export class PageAllocator {
  watcher: FrameWatcher | null = null;
  readonly #ram: Ram;
  readonly #state: Uint8Array;
  readonly #pins: Int32Array;
  /** One bit per frame, set while it is free. */
  readonly #map: Int32Array;
  readonly #freeInBlock: Uint16Array;
  /** Blocks with all frames free, and blocks with some. */
  readonly #whole: BlockList;
  readonly #broken: BlockList;
  #freePages = 0;
  #pinned = 0;

  /** @param usable ranges of bytes that the firmware left to the kernel */
  constructor(
    ram: Ram,
    random: Random,
    usable: readonly { readonly start: number; readonly end: number }[],
  ) {
    const blocks = Math.ceil(ram.size / (BLOCK_FRAMES * PAGE_BYTES));
    this.#ram = ram;
    this.#state = new Uint8Array(blocks * BLOCK_FRAMES).fill(RESERVED);
    this.#pins = new Int32Array(blocks * BLOCK_FRAMES);
    this.#map = new Int32Array(blocks * BLOCK_WORDS);
    this.#freeInBlock = new Uint16Array(blocks);
    this.#whole = new BlockList(blocks);
    this.#broken = new BlockList(blocks);
    for (const { start, end } of usable) {
      const last = Math.floor(end / PAGE_BYTES);
      for (let pfn = Math.ceil(start / PAGE_BYTES); pfn < last; pfn++) this.#markFree(pfn);
    }
    this.#shuffle(blocks, random);
  }

  /** How many frames are free. */
  get freePages(): number {
    return this.#freePages;
  }

  /** How many frames have at least one pin. */
  get pinned(): number {
    return this.#pinned;
  }

  /** One zeroed frame. Errno ENOMEM. */
  alloc(): number {
    return this.allocRun(1);
  }

  /** As `tryRun`; Errno ENOMEM when there is none. */
  allocRun(count: number): number {
    const pfn = this.tryRun(count);
    if (pfn < 0) throw new Errno('ENOMEM', `${count} contiguous pages, ${this.#freePages} free`);
    return pfn;
  }

  /**
   * The first of `count` contiguous zeroed frames, or -1. Up to 512 they are aligned to the next
   * power of two; 512 is one aligned 2 MiB block, more are whole blocks in a row.
   */
  tryRun(count: number): number {
    if (!Number.isInteger(count) || count < 1) throw new RangeError(`a run of ${count} frames`);
    const first = count < BLOCK_FRAMES ? this.#smallRun(count) : this.#blocksInRow(count);
    if (first < 0) return -1;
    for (let pfn = first; pfn < first + count; pfn++) this.#take(pfn);
    this.#ram.bytes.fill(0, first * PAGE_BYTES, (first + count) * PAGE_BYTES);
    this.#ram.touched(first * PAGE_BYTES, count * PAGE_BYTES);
    return first;
  }

  /** Gives one frame back; while pinned it stays out of use. Throws unless it is in use. */
  free(pfn: number): void {
    if (this.#state[pfn] !== USED) throw new Error(`free of frame ${pfn}, which is not in use`);
    if (this.#pins[pfn]! > 0) this.#state[pfn] = DYING;
    else this.#release(pfn);
  }

  /** Gives `count` frames from `pfn` on back. */
  freeRun(pfn: number, count: number): void {
    for (let i = 0; i < count; i++) this.free(pfn + i);
  }

  /** Keeps the frame from reuse until `unpin`. Throws for a frame that is not in use. */
  pin(pfn: number): void {
    const state = this.#state[pfn];
    if (state !== USED && state !== DYING) throw new Error(`pin of frame ${pfn}, not in use`);
    if (this.#pins[pfn]!++ === 0) this.#pinned += 1;
  }

  /** Throws if the frame is not pinned. */
  unpin(pfn: number): void {
    if (!((this.#pins[pfn] ?? 0) > 0)) throw new Error(`unpin of frame ${pfn}, not pinned`);
    if (--this.#pins[pfn]! > 0) return;
    this.#pinned -= 1;
    this.watcher?.unpinned(pfn);
    if (this.#state[pfn] === DYING) this.#release(pfn);
  }

  /** Whether it is memory that nobody has. */
  isFree(pfn: number): boolean {
    return this.#state[pfn] === FREE;
  }

  /** How often the frame is pinned. */
  pinsOf(pfn: number): number {
    return this.#pins[pfn] ?? 0;
  }

  /** Boot: the broken and whole lists, the whole blocks in the order they will be dealt. */
  #shuffle(blocks: number, random: Random): void {
    const whole: number[] = [];
    for (let block = 0; block < blocks; block++) {
      if (this.#freeInBlock[block] === BLOCK_FRAMES) whole.push(block);
      else if (this.#freeInBlock[block]! > 0) this.#broken.push(block);
    }
    for (let i = whole.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [whole[i], whole[j]] = [whole[j]!, whole[i]!];
    }
    for (const block of whole) this.#whole.push(block);
  }

  #smallRun(count: number): number {
    const step = 2 ** Math.ceil(Math.log2(count));
    for (let i = this.#broken.length - 1; i >= 0; i--) {
      const block = this.#broken.item(i);
      if (this.#freeInBlock[block]! < count) continue;
      const pfn = count === 1 ? this.#firstFree(block) : this.#freeRunIn(block, count, step);
      if (pfn >= 0) return pfn;
    }
    const blocks = this.#whole.length;
    return blocks === 0 ? -1 : this.#whole.item(blocks - 1) * BLOCK_FRAMES;
  }

  #firstFree(block: number): number {
    for (let word = block * BLOCK_WORDS; word < (block + 1) * BLOCK_WORDS; word++) {
      const bits = this.#map[word]!;
      if (bits !== 0) return word * 32 + (31 - Math.clz32(bits & -bits));
    }
    return -1;
  }

  #freeRunIn(block: number, count: number, step: number): number {
    const start = block * BLOCK_FRAMES;
    for (let pfn = start; pfn < start + BLOCK_FRAMES; pfn += step) {
      let length = 0;
      while (length < count && this.#state[pfn + length] === FREE) length++;
      if (length === count) return pfn;
    }
    return -1;
  }

  /** Whole blocks for `count` frames: the next one dealt, or the lowest that lie in a row. */
  #blocksInRow(count: number): number {
    const needed = Math.ceil(count / BLOCK_FRAMES);
    if (needed === 1) {
      const blocks = this.#whole.length;
      return blocks === 0 ? -1 : this.#whole.item(blocks - 1) * BLOCK_FRAMES;
    }
    let row = 0;
    for (let block = 0; block < this.#freeInBlock.length; block++) {
      row = this.#whole.has(block) ? row + 1 : 0;
      if (row === needed) return (block - needed + 1) * BLOCK_FRAMES;
    }
    return -1;
  }

  #markFree(pfn: number): void {
    this.#state[pfn] = FREE;
    this.#map[pfn >>> 5]! |= 1 << (pfn & 31);
    this.#freeInBlock[pfn >>> 9]! += 1;
    this.#freePages += 1;
  }

  #take(pfn: number): void {
    const block = pfn >>> 9;
    this.#state[pfn] = USED;
    this.#map[pfn >>> 5]! &= ~(1 << (pfn & 31));
    this.#freePages -= 1;
    const left = --this.#freeInBlock[block]!;
    if (left === BLOCK_FRAMES - 1) {
      this.#whole.remove(block);
      this.#broken.push(block);
    }
    if (left === 0) this.#broken.remove(block);
  }

  #release(pfn: number): void {
    const block = pfn >>> 9;
    this.watcher?.freed(pfn);
    this.#markFree(pfn);
    const left = this.#freeInBlock[block]!;
    if (left === 1) this.#broken.push(block);
    if (left === BLOCK_FRAMES) {
      this.#broken.remove(block);
      this.#whole.push(block);
    }
  }
}
