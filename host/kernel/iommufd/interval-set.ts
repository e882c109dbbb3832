/**
 * Inclusive intervals of 64-bit IOVAs, sorted by start: what the kernel keeps in its interval trees
 * (areas, reserved ranges, allowed ranges of an IOAS). Intervals may overlap one another; those of
 * areas never do because their owner asks `firstIn` first.
 */

/** The last IOVA there is. */
export const IOVA_MAX = 0xffff_ffff_ffff_ffffn;

export interface Interval {
  readonly start: bigint;
  /** Inclusive; never below `start`. */
  readonly last: bigint;
}

export class IntervalSet<T extends Interval> {
  #items: T[] = [];
  /** Greatest `last` of the items up to and including each one: makes overlap search logarithmic. */
  #reach: bigint[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** All intervals, ascending by start. Do not insert or remove while iterating. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#items[Symbol.iterator]();
  }

  insert(item: T): void {
    const at = this.#lowerBound(item.start);
    this.#items.splice(at, 0, item);
    this.#reach.splice(at, 0, 0n);
    this.#refresh(at);
  }

  /** Removes that very object; false if it is not in the set. */
  remove(item: T): boolean {
    for (let at = this.#lowerBound(item.start); at < this.#items.length; at++) {
      const found = this.#items[at]!;
      if (found.start !== item.start) return false;
      if (found !== item) continue;
      this.#items.splice(at, 1);
      this.#reach.splice(at, 1);
      this.#refresh(at);
      return true;
    }
    return false;
  }

  /** Removes what `doomed` accepts and returns how many went. */
  removeWhere(doomed: (item: T) => boolean): number {
    const kept = this.#items.filter((item) => !doomed(item));
    const gone = this.#items.length - kept.length;
    this.replace(kept);
    return gone;
  }

  /** Makes `items`, in any order, the whole content. */
  replace(items: Iterable<T>): void {
    this.#items = [...items].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    this.#reach = this.#items.map(() => 0n);
    this.#refresh(0);
  }

  /** The interval with the lowest start that intersects [start, last], if any does. */
  firstIn(start: bigint, last: bigint): T | undefined {
    const found = this.#items[this.#firstReaching(start)];
    return found !== undefined && found.start <= last ? found : undefined;
  }

  /** All intervals that intersect [start, last], ascending; a copy, so the set may change meanwhile. */
  allIn(start: bigint, last: bigint): T[] {
    const found: T[] = [];
    for (let at = this.#firstReaching(start); at < this.#items.length; at++) {
      const item = this.#items[at]!;
      if (item.start > last) break;
      if (item.last >= start) found.push(item);
    }
    return found;
  }

  /** Index of the first item whose start is not below `start`. */
  #lowerBound(start: bigint): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#items[middle]!.start < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Index of the first item whose last reaches `start`. */
  #firstReaching(start: bigint): number {
    let low = 0;
    let high = this.#reach.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#reach[middle]! < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #refresh(from: number): void {
    let reach = from === 0 ? 0n : this.#reach[from - 1]!;
    for (let at = from; at < this.#items.length; at++) {
      const last = this.#items[at]!.last;
      if (last > reach) reach = last;
      this.#reach[at] = reach;
    }
  }
}

/**
 * The holes between the intervals of several sets inside `within`, ascending.
 *
 * @param sets each sorted by start; overlaps inside and between them are allowed
 */
export function* holes(
  within: Interval,
  ...sets: readonly IntervalSet<Interval>[]
): Generator<Interval> {
  let from = within.start;
  while (from <= within.last) {
    let next: bigint | null = null;
    let covered = false;
    for (const set of sets) {
      const hit = set.firstIn(from, within.last);
      if (hit === undefined) continue;
      if (hit.start <= from) {
        from = hit.last + 1n;
        covered = true;
        break;
      }
      if (next === null || hit.start < next) next = hit.start;
    }
    if (covered) continue;
    const last = next === null ? within.last : next - 1n;
    yield { start: from, last };
    from = last + 1n;
  }
}
