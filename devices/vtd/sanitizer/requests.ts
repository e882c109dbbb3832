import type { PageGroupResponseDescriptor } from '../../spec/vtd/invalidation.ts';
import type { PageRequest } from '../../spec/vtd/page-request.ts';

/** Groups answered last, of which another answer is known for a second one. */
const REMEMBERED = 4096;

/** Page request groups that software owes an answer, and those it has answered. */
export class Requests {
  /** How many groups of a name are open: a device may use an index again before its answer. */
  readonly #open = new Map<string, number>();
  readonly #answered = new Set<string>();

  queued(request: PageRequest): void {
    // Only the last request of a group takes an answer, and a stop marker none.
    if (!request.last || !(request.read || request.write || request.exec)) return;
    const { rid, prgi } = request;
    const key = keyOf(rid, request.pasidPresent ? request.pasid : -1, prgi);
    this.#open.set(key, (this.#open.get(key) ?? 0) + 1);
    this.#answered.delete(key);
  }

  /** Takes an answer: in order, or the second to its group, or one to nothing. */
  answered(d: PageGroupResponseDescriptor): 'ok' | 'second' | 'unmatched' {
    const key = keyOf(d.rid, d.pasidPresent ? d.pasid : -1, d.prgi);
    const open = this.#open.get(key) ?? 0;
    if (open === 0) return this.#answered.has(key) ? 'second' : 'unmatched';
    if (open === 1) this.#open.delete(key);
    else this.#open.set(key, open - 1);
    this.#answered.add(key);
    if (this.#answered.size > REMEMBERED) {
      for (const oldest of this.#answered) {
        this.#answered.delete(oldest);
        break;
      }
    }
    return 'ok';
  }

  clear(): void {
    this.#open.clear();
    this.#answered.clear();
  }
}

function keyOf(rid: number, pasid: number, prgi: number): string {
  return `${rid} ${pasid} ${prgi}`;
}
