import type { ForeignMemory } from '../kernel/kernel.ts';
import type { FrameWatcher } from '../kernel/page-alloc.ts';

const PAGE_BYTES = 4096;
/** Frames of one window: 4 MiB. A window costs about a page, so that no pin costs much more. */
const WINDOW_PAGES = 2 ** 10;
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
  /** By index: where a pinned page is that the process has not at its place any more. */
  readonly moved: Map<number, Moved>;
  /** An earlier window of the same pages, some of which are still pinned. */
  older: Window | undefined;
}

interface Moved {
  readonly backing: Backing;
  /** Page of it. */
  readonly page: number;
}

/** A page that only its pins keep. */
class LonePage implements Backing {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  read(at: number, into: Uint8Array): boolean {
    into.set(this.#bytes.subarray(at, at + into.length));
    return true;
  }

  write(at: number, from: Uint8Array): boolean {
    this.#bytes.set(from, at);
    return true;
  }
}

/** Lone pages at most: what goes beyond that is lost. 1 GiB. */
const MAX_LONE = 2 ** 18;

/** A page that could not be kept when it went. */
const GONE: Backing = { read: () => false, write: () => false };

/**
 * Frame numbers for pages of real processes. One page of one backing has one number however often
 * it is pinned, and neighbours have neighbouring numbers, aligned alike.
 */
export class ForeignFrames implements ForeignMemory {
  /** Hears of every frame that loses its last pin. */
  watcher: Pick<FrameWatcher, 'unpinned'> | null = null;
  readonly #windows: (Window | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #byBacking = new Map<Backing, Map<number, Window>>();
  #pinned = 0;
  #lone = 0;

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
    const index = page % WINDOW_PAGES;
    const window = this.#holder(backing, number, index) ?? this.#open(backing, number);
    if (window === undefined) return -1;
    if (window.pins[index]!++ === 0) {
      window.held += 1;
      this.#pinned += 1;
    }
    return window.firstFrame + index;
  }

  /** How many pins that page has. */
  pinsOf(backing: Backing, page: number): number {
    const index = page % WINDOW_PAGES;
    return this.#holder(backing, Math.floor(page / WINDOW_PAGES), index)?.pins[index] ?? 0;
  }

  /**
   * The pages from..to of `backing` go from their place: to page `target` and on, or for -1 away.
   * What is pinned stays the same memory for those who pinned it; what is pinned there later is new.
   */
  leave(backing: Backing, from: number, to: number, target: number): void {
    for (const first of this.#byBacking.get(backing)?.values() ?? []) {
      for (let window: Window | undefined = first; window !== undefined; window = window.older) {
        this.#leaveWindow(window, from, to, target);
      }
    }
  }

  /** Throws for a frame that is not pinned: an error of the model. */
  unpin(pfn: number): void {
    const window = this.#at(pfn);
    const index = pfn % WINDOW_PAGES;
    if (window === undefined || window.pins[index] === 0) {
      throw new Error(`unpin of foreign frame ${pfn}, not pinned`);
    }
    if (--window.pins[index]! > 0) return;
    if (window.moved.get(index)?.backing instanceof LonePage) this.#lone -= 1;
    window.moved.delete(index);
    this.#pinned -= 1;
    this.watcher?.unpinned(pfn);
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
      const window = this.#at(Math.floor(at / PAGE_BYTES));
      if (window === undefined) return false;
      // Where something has moved, each page is looked up.
      const unit = window.moved.size === 0 ? windowBytes : PAGE_BYTES;
      const run = Math.min(bytes.length - done, unit - (at % unit));
      const part = bytes.subarray(done, done + run);
      const offset = at % windowBytes;
      const moved = window.moved.get(Math.floor(offset / PAGE_BYTES));
      const place =
        moved === undefined
          ? window.number * windowBytes + offset
          : moved.page * PAGE_BYTES + (offset % PAGE_BYTES);
      if (!move(moved?.backing ?? window.backing, place, part)) return false;
      done += run;
    }
    return true;
  }

  /** The window in which a page of a backing has its number, or would get it. */
  #holder(backing: Backing, number: number, index: number): Window | undefined {
    const first = this.#byBacking.get(backing)?.get(number);
    for (let window = first; window !== undefined; window = window.older) {
      if (window.pins[index]! > 0 && !window.moved.has(index)) return window;
    }
    return first?.moved.has(index) === true ? undefined : first;
  }

  #leaveWindow(window: Window, from: number, to: number, target: number): void {
    const { backing, number, moved, pins } = window;
    const base = number * WINDOW_PAGES;
    const place = (page: number): Moved =>
      target < 0 ? this.#keep(backing, page) : { backing, page: target + page - from };
    for (const [index, at] of moved) {
      if (at.backing === backing && at.page >= from && at.page < to) {
        moved.set(index, place(at.page));
      }
    }
    const last = Math.min(to - base, WINDOW_PAGES);
    for (let index = Math.max(from - base, 0); index < last; index++) {
      if (pins[index]! > 0 && !moved.has(index)) moved.set(index, place(base + index));
    }
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
    const windows = this.#byBacking.get(backing) ?? new Map<number, Window>();
    const older = windows.get(number);
    const moved = new Map<number, Moved>();
    const window = { backing, number, firstFrame, pins, held: 0, moved, older };
    this.#windows[index] = window;
    windows.set(number, window);
    this.#byBacking.set(backing, windows);
    return window;
  }

  #close(window: Window): void {
    const { backing, number, firstFrame, older } = window;
    const index = (firstFrame - FIRST_FRAME) / WINDOW_PAGES;
    this.#windows[index] = undefined;
    this.#free.push(index);
    const windows = this.#byBacking.get(backing)!;
    const first = windows.get(number)!;
    if (first !== window) {
      let newer = first;
      while (newer.older !== window) newer = newer.older!;
      newer.older = older;
    } else if (older !== undefined) {
      windows.set(number, older);
    } else {
      windows.delete(number);
    }
    if (windows.size === 0) this.#byBacking.delete(backing);
  }

  /** The page as it is now, for those who pinned it. */
  #keep(backing: Backing, page: number): Moved {
    const bytes = new Uint8Array(PAGE_BYTES);
    const kept = this.#lone < MAX_LONE && backing.read(page * PAGE_BYTES, bytes);
    if (kept) this.#lone += 1;
    return { backing: kept ? new LonePage(bytes) : GONE, page: 0 };
  }
}
