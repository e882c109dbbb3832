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

/** A node of a height-balanced tree, with what a search wants to know of everything below it. */
class Node<T extends Interval> {
  item: T;
  left: Node<T> | null = null;
  right: Node<T> | null = null;
  height = 1;
  /** Lowest `start` and greatest `last` in this subtree. */
  low: bigint;
  reach: bigint;
  /** Longest hole between two neighbours in this subtree; exact where no intervals overlap. */
  gap = 0n;

  constructor(item: T) {
    this.item = item;
    this.low = item.start;
    this.reach = item.last;
  }
}

type Tree<T extends Interval> = Node<T> | null;

/** A tree: every operation on one interval takes a time that grows with the logarithm of `size`. */
export class IntervalSet<T extends Interval> {
  #root: Tree<T> = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** All intervals, ascending by start. Do not insert or remove while iterating. */
  *[Symbol.iterator](): Generator<T> {
    const path: Node<T>[] = [];
    for (let node = this.#root; node !== null || path.length > 0; ) {
      for (; node !== null; node = node.left) path.push(node);
      const next = path.pop()!;
      yield next.item;
      node = next.right;
    }
  }

  insert(item: T): void {
    this.#root = inserted(this.#root, item);
    this.#size++;
  }

  /** Removes that very object; false if it is not in the set. */
  remove(item: T): boolean {
    const rest = without(this.#root, item);
    if (rest === undefined) return false;
    this.#root = rest;
    this.#size--;
    return true;
  }

  /** Removes what `doomed` accepts and returns how many went. */
  removeWhere(doomed: (item: T) => boolean): number {
    const before = this.#size;
    const kept = [...this].filter((item) => !doomed(item));
    if (kept.length < before) this.replace(kept);
    return before - kept.length;
  }

  /** Makes `items`, in any order, the whole content. */
  replace(items: Iterable<T>): void {
    const sorted = [...items].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    this.#root = built(sorted, 0, sorted.length);
    this.#size = sorted.length;
  }

  /** The interval with the lowest start that intersects [start, last], if any does. */
  firstIn(start: bigint, last: bigint): T | undefined {
    for (let node = this.#root; node !== null && node.reach >= start; ) {
      if (node.left !== null && node.left.reach >= start) {
        node = node.left;
      } else if (node.item.last >= start) {
        return node.item.start <= last ? node.item : undefined;
      } else {
        node = node.right;
      }
    }
    return undefined;
  }

  /** All intervals that intersect [start, last], ascending; a copy, so the set may change meanwhile. */
  allIn(start: bigint, last: bigint): T[] {
    const found: T[] = [];
    collect(this.#root, start, last, found);
    return found;
  }

  /** The lowest value from `from` on where `length` uncovered ones begin. For disjoint intervals. */
  roomFrom(from: bigint, length: bigint): bigint {
    const search = { at: from, length };
    fits(this.#root, search);
    return search.at;
  }
}

function refresh<T extends Interval>(node: Node<T>): void {
  const { left, right, item } = node;
  let { start: low, last: reach } = item;
  let height = 0;
  let gap = 0n;
  if (left !== null) {
    low = left.low;
    if (left.reach > reach) reach = left.reach;
    height = left.height;
    gap = left.gap;
    const hole = item.start - left.reach - 1n;
    if (hole > gap) gap = hole;
  }
  if (right !== null) {
    const hole = right.low - reach - 1n;
    if (right.reach > reach) reach = right.reach;
    if (right.height > height) height = right.height;
    if (right.gap > gap) gap = right.gap;
    if (hole > gap) gap = hole;
  }
  node.low = low;
  node.reach = reach;
  node.height = height + 1;
  node.gap = gap;
}

const heightOf = <T extends Interval>(tree: Tree<T>): number => tree?.height ?? 0;

/** The left child takes the place of `node`, which goes down to the right. */
function turnRight<T extends Interval>(node: Node<T>): Node<T> {
  const top = node.left!;
  node.left = top.right;
  top.right = node;
  refresh(node);
  refresh(top);
  return top;
}

function turnLeft<T extends Interval>(node: Node<T>): Node<T> {
  const top = node.right!;
  node.right = top.left;
  top.left = node;
  refresh(node);
  refresh(top);
  return top;
}

/** The tree of `node`, one of whose subtrees may have become two higher or lower than the other. */
function balanced<T extends Interval>(node: Node<T>): Node<T> {
  const lean = heightOf(node.left) - heightOf(node.right);
  if (lean > 1) {
    const left = node.left!;
    if (heightOf(left.left) < heightOf(left.right)) node.left = turnLeft(left);
    return turnRight(node);
  }
  if (lean < -1) {
    const right = node.right!;
    if (heightOf(right.right) < heightOf(right.left)) node.right = turnRight(right);
    return turnLeft(node);
  }
  refresh(node);
  return node;
}

function inserted<T extends Interval>(tree: Tree<T>, item: T): Node<T> {
  if (tree === null) return new Node(item);
  if (item.start <= tree.item.start) tree.left = inserted(tree.left, item);
  else tree.right = inserted(tree.right, item);
  return balanced(tree);
}

/** The tree without that very item; undefined if it is not there. */
function without<T extends Interval>(tree: Tree<T>, item: T): Tree<T> | undefined {
  if (tree === null) return undefined;
  if (tree.item === item) {
    if (tree.left === null) return tree.right;
    if (tree.right === null) return tree.left;
    let next = tree.right;
    while (next.left !== null) next = next.left;
    tree.right = without(tree.right, next.item) ?? null;
    tree.item = next.item;
    return balanced(tree);
  }
  // Others that start where it starts may be on either side of it.
  if (item.start <= tree.item.start) {
    const left = without(tree.left, item);
    if (left !== undefined) {
      tree.left = left;
      return balanced(tree);
    }
  }
  if (item.start < tree.item.start) return undefined;
  const right = without(tree.right, item);
  if (right === undefined) return undefined;
  tree.right = right;
  return balanced(tree);
}

/** Of sorted items. */
function built<T extends Interval>(items: readonly T[], from: number, to: number): Tree<T> {
  if (from === to) return null;
  const middle = (from + to) >>> 1;
  const node = new Node(items[middle]!);
  node.left = built(items, from, middle);
  node.right = built(items, middle + 1, to);
  refresh(node);
  return node;
}

function collect<T extends Interval>(tree: Tree<T>, start: bigint, last: bigint, found: T[]): void {
  if (tree === null || tree.reach < start) return;
  collect(tree.left, start, last, found);
  const { item } = tree;
  if (item.start > last) return;
  if (item.last >= start) found.push(item);
  collect(tree.right, start, last, found);
}

/** Moves `at` to where `length` values are free before the end of this subtree, or beyond it. */
function fits<T extends Interval>(
  tree: Tree<T>,
  search: { at: bigint; readonly length: bigint },
): boolean {
  if (tree === null || tree.reach < search.at) return false;
  if (tree.low - search.at < search.length && tree.gap < search.length) {
    search.at = tree.reach + 1n;
    return false;
  }
  if (fits(tree.left, search)) return true;
  const { start, last } = tree.item;
  if (start - search.at >= search.length) return true;
  if (last >= search.at) search.at = last + 1n;
  return fits(tree.right, search);
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
