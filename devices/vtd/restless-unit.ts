import { type AddressType, AT } from '../pci/fabric.ts';
import type { MemoryRequest } from './memory-request.ts';
import { type VtdOptions, VtdUnit } from './unit.ts';

/** One request in so many loses an entry of some cache, and one lets a neighbour be fetched. */
const EVICT_ONE_IN = 3;
const PREFETCH_ONE_IN = 5;

/** Pages at most that a prefetch lies beside the page asked for. */
const REACH = 4;

/**
 * A unit whose caches do what the architecture allows at any time (VT-d spec 6.1): entries go
 * though nobody asked, and translations come that nobody asked for (accessed bits are set for them,
 * dirty bits and fault records never). Software that is right does not notice. The sequence follows
 * from the seed.
 */
export class RestlessUnit extends VtdUnit {
  /** Entries evicted, and translations prefetched. */
  evictions = 0;
  prefetches = 0;
  #state: number;

  /** @param options with `seed`, any integer */
  constructor(options: VtdOptions & { readonly seed: number }) {
    super(options);
    this.#state = (Math.imul(options.seed | 0, 0x9e37_79b9) ^ 0x5bd1_e995) | 1;
  }

  override translate(
    sid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    vpn: number,
    write: boolean,
    noWrite: boolean,
  ): boolean {
    this.#evict();
    const ok = super.translate(sid, pasid, priv, type, vpn, write, noWrite);
    if (ok) this.#prefetch(sid, pasid, priv, vpn);
    return ok;
  }

  override request(request: MemoryRequest): boolean {
    this.#evict();
    const ok = super.request(request);
    const { sid, pasid, priv, page, type } = request;
    if (ok && type !== AT.TRANSLATED) this.#prefetch(sid, pasid, priv, page);
    return ok;
  }

  override translated(sid: number, pfn: number, write: boolean): boolean {
    this.#evict();
    return super.translated(sid, pfn, write);
  }

  override interruptRequest(sid: number, address: number, data: number): boolean {
    this.#evict();
    return super.interruptRequest(sid, address, data);
  }

  /** Perhaps fetches a page near the one asked for. */
  #prefetch(sid: number, pasid: number, priv: boolean, asked: number): void {
    if (this.#below(PREFETCH_ONE_IN) !== 0) return;
    const page = asked + this.#below(2 * REACH + 1) - REACH;
    if (page < 0 || page >= 2 ** 52) return;
    if (this.internals.translator.prefetch(sid, pasid, priv, page)) this.prefetches++;
  }

  #evict(): void {
    if (this.#below(EVICT_ONE_IN) !== 0) return;
    const { caches } = this.internals;
    if (caches.evict(this.#below(caches.kinds), this.#next())) this.evictions++;
  }

  #below(n: number): number {
    return this.#next() % n;
  }

  /** xorshift32, 1 to 2^32 - 1. */
  #next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }
}
