import type { ForeignMemory } from '../kernel/kernel.ts';

const PAGE_BYTES = 4096;
/** Frames of one window: 64 MiB. */
const WINDOW_PAGES = 2 ** 14;
/** Foreign frames begin at 1 TiB, beyond all RAM and BARs, and stay below 2^31. */
const FIRST_FRAME = 2 ** 28;
const WINDOWS = (2 ** 31 - FIRST_FRAME) / WINDOW_PAGES;

/** Memory outside the simulation, by byte. False: it is not there (any more), nothing was moved. */
export interface Backing {
  read(at: number, into: Uint8Array): boolean;
  write(at: number, from: Uint8Array): boolean;
}

interface Window {
  readonly backing: Backing;
  /** In units of WINDOW_PAGES. */
  readonly number: number;
  readonly firstFrame: number;
  readonly pins: Int32Array;
  /** Frames with at least one pin. */
  held: number;
}

/**
 * Frame numbers for pages of real processes. One page of one backing has one number however often
 * it is pinned, and neighbours have neighbouring numbers, aligned alike.
 */
export class ForeignFrames implements ForeignMemory {
  readonly #windows: (Window | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #byBacking = new Map<Backing, Map<number, Window>>();
  #pinned = 0;

  /** How many frames have at least one pin. */
  get pinned(): number {
    return this.#pinned;
  }

  /** Whether something of `backing` is pinned. */
  holds(backing: Backing): boolean {
    return this.#byBacking.has(backing);
  }

  /** The frame of page `page` of `backing`, pinned once more; -1 when there is no number left. */
  pin(backing: Backing, page: number): number {
    const number = Math.floor(page / WINDOW_PAGES);
    const window = this.#byBacking.get(backing)?.get(number) ?? this.#open(backing, number);
    if (window === undefined) return -1;
    const index = page % WINDOW_PAGES;
    if (window.pins[index]!++ === 0) {
      window.held += 1;
      this.#pinned += 1;
    }
    return window.firstFrame + index;
  }

  /** Throws for a frame that is not pinned: an error of the model. */
  unpin(pfn: number): void {
    const window = this.#at(pfn);
    const index = pfn % WINDOW_PAGES;
    if (window === undefined || window.pins[index] === 0) {
      throw new Error(`unpin of foreign frame ${pfn}, not pinned`);
    }
    if (--window.pins[index]! > 0) return;
    this.#pinned -= 1;
    window.held -= 1;
    if (window.held === 0) this.#close(window);
  }

  contains(address: number, length: number): boolean {
    const first = Math.floor(address / PAGE_BYTES);
    const last = Math.floor((address + Math.max(length, 1) - 1) / PAGE_BYTES);
    for (let pfn = first; pfn <= last; pfn++) {
      const window = this.#at(pfn);
      if (window === undefined || window.pins[pfn % WINDOW_PAGES] === 0) return false;
    }
    return true;
  }

  read(address: number, into: Uint8Array): boolean {
    return this.#each(address, into, (backing, at, part) => backing.read(at, part));
  }

  write(address: number, from: Uint8Array): boolean {
    return this.#each(address, from, (backing, at, part) => backing.write(at, part));
  }

  #each(
    address: number,
    bytes: Uint8Array,
    move: (backing: Backing, at: number, part: Uint8Array) => boolean,
  ): boolean {
    const windowBytes = WINDOW_PAGES * PAGE_BYTES;
    for (let done = 0; done < bytes.length; ) {
      const at = address + done;
      const offset = at % windowBytes;
      const run = Math.min(bytes.length - done, windowBytes - offset);
      const window = this.#at(Math.floor(at / PAGE_BYTES));
      if (window === undefined) return false;
      const part = bytes.subarray(done, done + run);
      if (!move(window.backing, window.number * windowBytes + offset, part)) return false;
      done += run;
    }
    return true;
  }

  #at(pfn: number): Window | undefined {
    return this.#windows[Math.floor((pfn - FIRST_FRAME) / WINDOW_PAGES)];
  }

  /** A number is used again only when all have been used: a stale frame then hits nothing. */
  #open(backing: Backing, number: number): Window | undefined {
    const index = this.#windows.length < WINDOWS ? this.#windows.length : this.#free.shift();
    if (index === undefined) return undefined;
    const firstFrame = FIRST_FRAME + index * WINDOW_PAGES;
    const pins = new Int32Array(WINDOW_PAGES);
    const window = { backing, number, firstFrame, pins, held: 0 };
    this.#windows[index] = window;
    const windows = this.#byBacking.get(backing) ?? new Map<number, Window>();
    windows.set(number, window);
    this.#byBacking.set(backing, windows);
    return window;
  }

  #close({ backing, number, firstFrame }: Window): void {
    const index = (firstFrame - FIRST_FRAME) / WINDOW_PAGES;
    this.#windows[index] = undefined;
    this.#free.push(index);
    const windows = this.#byBacking.get(backing)!;
    windows.delete(number);
    if (windows.size === 0) this.#byBacking.delete(backing);
  }
}
