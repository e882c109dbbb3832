import { PGTT, pasidEntry } from '../../spec/vtd/pasid.ts';
import type { Trail } from './history.ts';
import type { Kind } from './report.ts';

const { P, DID } = pasidEntry.masks;
/** Words that hardware reads in one piece. */
const HALF_WORDS = 2;

interface Written {
  /** Where the writes come from: the same for the writes of one change. */
  readonly by: string;
  /** The entry before the first of them. */
  readonly before: readonly bigint[];
  /** The entry after the last of them so far, and the words they changed. */
  after: readonly bigint[];
  readonly words: Set<number>;
  didFirst: boolean;
}

/**
 * How a PASID entry may be written (VT-d spec 6.5.3.3, 9.6): P last; while present only in aligned
 * 16-byte pieces, and in an order in which the state between is the old or the new translation.
 */
export class EntryRules {
  /** The change that made an entry present, and the one under way, by function and PASID. */
  readonly #present = new Map<number, string>();
  readonly #changes = new Map<number, Written>();

  /** An entry was written; `null`: in order. */
  stored(
    sid: number,
    pasid: number,
    before: readonly bigint[],
    after: readonly bigint[],
    trail: Trail | null,
    ns: number,
  ): { kind: Kind; why: string } | null {
    const key = sid * 2 ** 20 + pasid;
    const by = `${trail?.seq ?? 0} ${ns}`;
    const [was, is] = [(before[0]! & P) !== 0n, (after[0]! & P) !== 0n];
    if (!is) {
      this.#present.delete(key);
      this.#changes.delete(key);
      return null;
    }
    const changed = [...after.keys()].filter((i) => before[i] !== after[i]);
    if (!was) {
      this.#present.set(key, by);
      return null;
    }
    if (this.#present.get(key) === by) {
      return { kind: 'present-too-early', why: `word ${changed.join(', ')} came after P` };
    }
    return this.#inPlace(key, by, before, after, changed);
  }

  #inPlace(
    key: number,
    by: string,
    before: readonly bigint[],
    after: readonly bigint[],
    changed: readonly number[],
  ): { kind: Kind; why: string } | null {
    const kind = 'changed-in-place';
    if (new Set(changed.map((i) => Math.floor(i / HALF_WORDS))).size > 1) {
      return { kind, why: 'one write of more than 16 bytes: hardware may see part of it' };
    }
    const known = this.#changes.get(key);
    const didChanged = changed.includes(1) && ((before[1]! ^ after[1]!) & DID) !== 0n;
    if (known?.by !== by) {
      const words = new Set(changed);
      this.#changes.set(key, { by, before, after, words, didFirst: didChanged });
      return null;
    }
    const between = known.after;
    const torn = changed.some((i) => known.words.has(i ^ 1) && !known.words.has(i));
    if (torn) {
      return { kind, why: 'a 16-byte half in two writes: hardware may see half of it' };
    }
    for (const i of changed) known.words.add(i);
    known.after = after;
    const mixed = ![known.before, after].some((entry) => sameTranslation(entry, between));
    if (mixed) return { kind, why: 'between the writes it was neither the old nor the new one' };
    if (known.didFirst && !sameTranslation(between, after)) {
      return { kind, why: 'the new domain id came before the new table' };
    }
    return null;
  }
}

/** Whether two present entries lead to the same tables in the same way, whatever their tag. */
function sameTranslation(a: readonly bigint[], b: readonly bigint[]): boolean {
  const { PGTT: kind } = pasidEntry.decode(a);
  if (kind !== pasidEntry.decode(b).PGTT) return false;
  const { PGTT: kindMask, SSPTPTR, FSPTPTR, AW, SSADE, FSPM } = pasidEntry.masks;
  const ss = kind === PGTT.SECOND_STAGE || kind === PGTT.NESTED;
  const fs = kind === PGTT.FIRST_STAGE || kind === PGTT.NESTED;
  const low = kindMask | (ss ? SSPTPTR | AW | SSADE : 0n);
  const high = fs ? FSPTPTR | FSPM : 0n;
  return (a[0]! & low) === (b[0]! & low) && (a[2]! & high) === (b[2]! & high);
}
