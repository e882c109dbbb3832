import { Errno } from '../errno.ts';

/** Shared by every pass-through entry; it never names tables of its own (FLPT_DEFAULT_DID). */
export const PASS_THROUGH_DID = 1;

/** DID 0 is reserved by caching mode, 1 by the driver. */
const FIRST_DID = 2;

interface Use {
  readonly did: number;
  users: number;
}

/** The domain ids of one unit: one per domain that is attached there, counted by attachments. */
export class DomainIds {
  readonly #limit: number;
  readonly #uses = new Map<object, Use>();
  readonly #taken = new Set<number>();

  /** @param nd CAP.ND: the unit has 2^(4 + 2 * nd) ids */
  constructor(nd: number) {
    this.#limit = 2 ** (4 + 2 * nd);
  }

  /** The id of a domain, the lowest free one at its first attachment. Errno ENOSPC: none is free. */
  acquire(domain: object): number {
    const use = this.#uses.get(domain);
    if (use !== undefined) {
      use.users++;
      return use.did;
    }
    const did = this.#lowestFree();
    this.#taken.add(did);
    this.#uses.set(domain, { did, users: 1 });
    return did;
  }

  /** Ends one attachment. The caller has dropped what is cached under the id if it was the last. */
  release(domain: object): void {
    const use = this.#uses.get(domain);
    if (use === undefined || --use.users > 0) return;
    this.#uses.delete(domain);
    this.#taken.delete(use.did);
  }

  /** The id of an attached domain. */
  of(domain: object): number | undefined {
    return this.#uses.get(domain)?.did;
  }

  /** Ids in use. */
  get size(): number {
    return this.#taken.size;
  }

  #lowestFree(): number {
    for (let did = FIRST_DID; did < this.#limit; did++) {
      if (!this.#taken.has(did)) return did;
    }
    throw new Errno('ENOSPC', `all ${this.#limit - FIRST_DID} domain ids of the unit are in use`);
  }
}
