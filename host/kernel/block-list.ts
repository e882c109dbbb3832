/** An ordered list of block numbers, with removal from anywhere in constant time. */
export class BlockList {
  readonly #items: number[] = [];
  readonly #at: Int32Array;

  /** @param blocks how many there are: numbers 0 to `blocks` - 1 */
  constructor(blocks: number) {
    this.#at = new Int32Array(blocks).fill(-1);
  }

  get length(): number {
    return this.#items.length;
  }

  /** The item at `index`, which is below `length`. */
  item(index: number): number {
    return this.#items[index]!;
  }

  has(block: number): boolean {
    return (this.#at[block] ?? -1) >= 0;
  }

  /** Adds at the end a block that is not in the list. */
  push(block: number): void {
    this.#at[block] = this.#items.length;
    this.#items.push(block);
  }

  /** Takes out a block that is in the list; the last item takes its place. */
  remove(block: number): void {
    const at = this.#at[block]!;
    const last = this.#items.pop()!;
    if (last !== block) {
      this.#items[at] = last;
      this.#at[last] = at;
    }
    this.#at[block] = -1;
  }
}
