import { LAYOUT } from './layout.ts';
import type { MemoryMap, Range } from './memory-map.ts';

/** Gives addresses for BARs, as firmware does: naturally aligned, one after another. */
export class BarAllocator {
  #next: number = LAYOUT.BAR_WINDOW;

  /** @throws RangeError when the window is full */
  take(bytes: number): number {
    const address = Math.ceil(this.#next / bytes) * bytes;
    if (address + bytes > LAYOUT.BAR_WINDOW_END) throw new RangeError('the BAR window is full');
    this.#next = address + bytes;
    return address;
  }
}

/** A BAR's window: where it goes moves with the register, what it is stays. */
type Placed = (start: number) => Range;

/** Keeps a function's BARs in the memory map where its registers say, while it decodes memory. */
export class BarWindows {
  readonly #map: MemoryMap;
  readonly #windows = new Map<number, { readonly place: Placed; range: Range | null }>();

  constructor(map: MemoryMap) {
    this.#map = map;
  }

  define(bar: number, place: Placed): void {
    this.#windows.set(bar, { place, range: null });
  }

  /**
   * Follows the registers. A BAR whose place is taken (RAM, another BAR) is not reachable: overlap
   * never hides what was there.
   */
  update(decode: boolean, addressOf: (bar: number) => number): void {
    for (const window of this.#windows.values()) {
      if (window.range !== null) this.#map.remove(window.range);
      window.range = null;
    }
    if (!decode) return;
    for (const [bar, window] of this.#windows) {
      const range = window.place(addressOf(bar));
      if (range.start > 0 && this.#map.add(range)) window.range = range;
    }
  }
}
