/** Ways of every set. */
const WAYS = 4;

/** Marks a tag as live; callers put it into the third tag word. */
export const LIVE = 0x4000_0000;

/**
 * Tags of a four-way set-associative cache: three int32 words each, of which the third carries
 * LIVE. It finds, takes and drops slots (0 to sets * 4 - 1); what a slot holds is kept by the
 * owner in arrays of its own. Within a set the victims go round.
 */
export class SetCache {
  readonly slots: number;
  /** Four words a slot: the tag, and in the first slot of a set the next victim. */
  readonly tags: Int32Array;
  /** Slots in use. */
  live = 0;

  /** @param sets a power of two */
  constructor(sets: number) {
    this.slots = sets * WAYS;
    this.tags = new Int32Array(this.slots * 4);
  }

  /** The slot that holds the tag, or -1. */
  find(set: number, t0: number, t1: number, t2: number): number {
    const tags = this.tags;
    const at = set << 4;
    if (tags[at] === t0 && tags[at + 1] === t1 && tags[at + 2] === t2) return set << 2;
    if (tags[at + 4] === t0 && tags[at + 5] === t1 && tags[at + 6] === t2) return (set << 2) + 1;
    if (tags[at + 8] === t0 && tags[at + 9] === t1 && tags[at + 10] === t2) return (set << 2) + 2;
    if (tags[at + 12] === t0 && tags[at + 13] === t1 && tags[at + 14] === t2) {
      return (set << 2) + 3;
    }
    return -1;
  }

  /** The slot for a tag: its own, a free one, or a victim's. */
  take(set: number, t0: number, t1: number, t2: number): number {
    const tags = this.tags;
    let slot = this.find(set, t0, t1, t2);
    if (slot >= 0) return slot;
    slot = this.#free(set);
    const at = slot << 2;
    tags[at] = t0;
    tags[at + 1] = t1;
    tags[at + 2] = t2;
    return slot;
  }

  drop(slot: number): void {
    this.tags[(slot << 2) + 2] = 0;
    this.live--;
  }

  /** Drops the first slot in use from some slot on, round the cache. False: it is empty. */
  evict(from: number): boolean {
    if (this.live === 0) return false;
    let slot = from % this.slots;
    while (!this.isLive(slot)) slot = (slot + 1) % this.slots;
    this.drop(slot);
    return true;
  }

  isLive(slot: number): boolean {
    return this.tags[(slot << 2) + 2] !== 0;
  }

  /** Drops everything; returns how many slots were in use. */
  clear(): number {
    const dropped = this.live;
    if (dropped !== 0) this.tags.fill(0);
    this.live = 0;
    return dropped;
  }

  #free(set: number): number {
    const tags = this.tags;
    const first = set << 2;
    for (let slot = first; slot < first + WAYS; slot++) {
      if (tags[(slot << 2) + 2] === 0) {
        this.live++;
        return slot;
      }
    }
    const way = tags[(first << 2) + 3]!;
    tags[(first << 2) + 3] = (way + 1) & (WAYS - 1);
    return first + way;
  }
}
