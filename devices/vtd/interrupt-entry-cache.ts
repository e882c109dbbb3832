import { IEC_GRANULARITY, type IecDescriptor } from '../spec/vtd/invalidation.ts';

/** A remapping entry as it was read: the two words. */
export type InterruptEntry = readonly [low: bigint, high: bigint];

/**
 * Interrupt entry cache (VT-d spec 6.2.6): remapping entries by index. Only entries that remapped a
 * request enter, so an entry made present needs no invalidation; one that is changed does.
 * At most one entry for each of the 65536 indices.
 */
export class InterruptEntryCache {
  readonly #entries = new Map<number, InterruptEntry>();

  find(index: number): InterruptEntry | undefined {
    return this.#entries.get(index);
  }

  keep(index: number, entry: InterruptEntry): void {
    this.#entries.set(index, entry);
  }

  /** Drops an entry, chosen by any number; false: there is none. */
  evict(choice: number): boolean {
    const index = this.#indices()[choice % Math.max(1, this.#entries.size)];
    return index !== undefined && this.#entries.delete(index);
  }

  /** The indices in the cache, oldest first. */
  #indices(): readonly number[] {
    return [...this.#entries.keys()];
  }

  dropAll(): number {
    const dropped = this.#entries.size;
    this.#entries.clear();
    return dropped;
  }

  /** All, or the 2^IM entries around an index whose low IM bits do not count. */
  invalidate(d: IecDescriptor): number {
    if (d.granularity === IEC_GRANULARITY.GLOBAL) return this.dropAll();
    const same = (index: number): boolean => (index ^ d.index) >>> d.im === 0;
    const gone = this.#indices().filter(d.im > 15 ? (): boolean => true : same);
    for (const index of gone) this.#entries.delete(index);
    return gone.length;
  }
}
