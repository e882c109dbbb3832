import { ContextConfig, PasidConfig } from './entries.ts';
import type { Epoch } from './epoch.ts';
import { LIVE, SetCache } from './set-cache.ts';

const CONTEXT_SETS = 128;
const PASID_SETS = 256;

/** Function bits that an FM value of 0 to 3 masks out of the comparison. */
const FUNCTION_MASK = [0, 4, 6, 7] as const;

/** Whether two source ids agree outside what FM `fm` masks. */
export function sameFunction(a: number, b: number, fm: number): boolean {
  return ((a ^ b) & ~FUNCTION_MASK[fm & 3]! & 0xffff) === 0;
}

/** Context cache: looked up by source id (VT-d spec 6.2.2). Only present, valid entries enter. */
export class ContextCache {
  readonly #tags = new SetCache(CONTEXT_SETS);
  readonly #entries: (ContextConfig | undefined)[];
  readonly #epoch: Epoch;

  /** @param epoch ends with every change of what is in the cache */
  constructor(epoch: Epoch) {
    this.#epoch = epoch;
    this.#entries = Array.from({ length: this.#tags.slots }, () => undefined);
  }

  find(sid: number): ContextConfig | null {
    const slot = this.#tags.find(contextSet(sid), sid, 0, LIVE);
    return slot < 0 ? null : this.#entries[slot]!;
  }

  keep(entry: ContextConfig): void {
    const slot = this.#tags.take(contextSet(entry.sid), entry.sid, 0, LIVE);
    this.#entries[slot] = entry;
    this.#epoch.end();
  }

  /** Drops an entry, chosen by any number; false: there is none. */
  evict(choice: number): boolean {
    this.#epoch.end();
    return this.#tags.evict(choice);
  }

  dropAll(): number {
    this.#epoch.end();
    return this.#tags.clear();
  }

  /** Drops the functions whose source id agrees outside what FM `fm` masks. */
  dropFunction(sid: number, fm: number): number {
    return this.#dropWhere((entry) => sameFunction(entry.sid, sid, fm));
  }

  /** Legacy mode: drops the entries of a domain. */
  dropDomain(did: number): number {
    return this.#dropWhere((entry) => entry.legacy?.did === did);
  }

  #dropWhere(matches: (entry: ContextConfig) => boolean): number {
    let dropped = 0;
    for (let slot = 0; slot < this.#tags.slots; slot++) {
      if (!this.#tags.isLive(slot) || !matches(this.#entries[slot]!)) continue;
      this.#tags.drop(slot);
      this.#epoch.end();
      dropped++;
    }
    return dropped;
  }
}

/** PASID cache: looked up by source id and PASID, dropped by DID and PASID (VT-d spec 6.2.3). */
export class PasidCache {
  readonly #tags = new SetCache(PASID_SETS);
  readonly #entries: (PasidConfig | undefined)[];
  readonly #epoch: Epoch;

  /** @param epoch ends with every change of what is in the cache */
  constructor(epoch: Epoch) {
    this.#epoch = epoch;
    this.#entries = Array.from({ length: this.#tags.slots }, () => undefined);
  }

  find(sid: number, pasid: number): PasidConfig | null {
    const slot = this.#tags.find(pasidSet(sid, pasid), sid, pasid, LIVE);
    return slot < 0 ? null : this.#entries[slot]!;
  }

  keep(sid: number, pasid: number, entry: PasidConfig): void {
    const slot = this.#tags.take(pasidSet(sid, pasid), sid, pasid, LIVE);
    this.#entries[slot] = entry;
    this.#epoch.end();
  }

  /** Drops an entry, chosen by any number; false: there is none. */
  evict(choice: number): boolean {
    this.#epoch.end();
    return this.#tags.evict(choice);
  }

  dropAll(): number {
    this.#epoch.end();
    return this.#tags.clear();
  }

  dropDomain(did: number): number {
    return this.#dropWhere((entry) => entry.did === did);
  }

  dropPasid(did: number, pasid: number): number {
    return this.#dropWhere((entry) => entry.did === did && entry.pasid === pasid);
  }

  #dropWhere(matches: (entry: PasidConfig) => boolean): number {
    if (this.#tags.live === 0) return 0;
    let dropped = 0;
    for (let slot = 0; slot < this.#tags.slots; slot++) {
      if (!this.#tags.isLive(slot) || !matches(this.#entries[slot]!)) continue;
      this.#tags.drop(slot);
      this.#epoch.end();
      dropped++;
    }
    return dropped;
  }
}

function contextSet(sid: number): number {
  return (sid ^ (sid >>> 7)) & (CONTEXT_SETS - 1);
}

function pasidSet(sid: number, pasid: number): number {
  return (pasid ^ (pasid >>> 8) ^ Math.imul(sid, 0x1d)) & (PASID_SETS - 1);
}
