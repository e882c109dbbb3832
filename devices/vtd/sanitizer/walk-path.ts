import { PGTT } from '../../spec/vtd/pasid.ts';
import { SS_LO } from '../../spec/x86/paging.ts';
import type { Walked } from '../observer.ts';
import type { WalkedEntry } from '../walk-log.ts';
import type { TableEntry, TableKind, Tables } from './tables.ts';

/** A paging-structure cache entry that a walk left or used: what is below it was read through it. */
export interface Structure {
  readonly stage: 'first' | 'second';
  /** Level of the table entry it stands for, 2 to 5. */
  readonly level: number;
  /** First page, of its own stage's input, and how many it spans. */
  readonly page: number;
  readonly pages: number;
  /** Host frame, and guest frame of a first-stage table under nesting (else -1), it leads to. */
  readonly frame: number;
  readonly gfn: number;
  readonly path: readonly TableEntry[];
}

/** A walk as the entries it went through. */
export interface WalkPath {
  /** Page-table entries, of both stages, that the translation depends on. */
  readonly path: readonly TableEntry[];
  readonly structures: readonly Structure[];
  /** Guest frame of a nested translation, -1 otherwise. */
  readonly gfn: number;
}

/** What a walk that began at a cached structure had read before: the path to a level. */
export type UpperPath = (
  stage: Structure['stage'],
  level: number,
  page: number,
) => readonly TableEntry[];

const FRAME = 0x000f_ffff_ffff_f000n;
const PS = BigInt(SS_LO.PS);

/** Pages that one entry of a level spans. */
export function spanOf(level: number): number {
  return 2 ** (9 * (level - 1));
}

/**
 * Makes the path of a walk out of the entries that the unit read. Under nesting, second-stage
 * entries come before the first-stage entry whose table they lead to, and last for the page itself.
 */
export function pathOf(walk: Walked, tables: Tables, upper: UpperPath): WalkPath {
  const { page, how } = walk;
  let first: readonly TableEntry[] = [];
  let second: readonly TableEntry[] = [];
  /** What the second-stage entries being read translate; -1: the request itself. */
  let gfn = how.pgtt === PGTT.NESTED ? how.fsRoot : -1;
  /** Second-stage paths of the first-stage tables so far. */
  let places: readonly TableEntry[] = [];
  let firstLevel = 0;
  let secondLevel = 0;
  let made: Structure[] = [];
  const open: { level: number; gfn: number; path: readonly TableEntry[] }[] = [];
  for (const seen of walk.entries) {
    if (seen.level === 0) continue;
    const address = Number(seen.address);
    const next = frameIn(seen);
    const entry = tables.at(seen.table as TableKind, seen.level, address);
    const leads = seen.level > 1 && (BigInt(seen.entry) & PS) === 0n;
    if (seen.table === 'second-stage') {
      const input = gfn >= 0 ? gfn : page;
      if (secondLevel !== seen.level + 1) second = upper('second', seen.level + 1, input);
      second = [...second, entry];
      secondLevel = leads ? seen.level : 0;
      if (leads) made.push(structure('second', seen.level, input, next, -1, second));
      continue;
    }
    if (firstLevel !== seen.level + 1) {
      // The walk began again, or from a cached structure.
      open.length = 0;
      made = made.filter(({ stage }) => stage === 'second');
      first = seen.level === how.fsLevels ? [] : upper('first', seen.level + 1, page);
      places = [];
    }
    const above = open.pop();
    if (above !== undefined) {
      const frame = Math.floor(address / 4096);
      made.push(structure('first', above.level, page, frame, above.gfn, above.path));
    }
    places = [...places, ...second];
    second = [];
    first = [...first, entry];
    firstLevel = leads ? seen.level : 0;
    gfn = next + (leads || seen.level === 1 ? 0 : page % spanOf(seen.level));
    if (leads) open.push({ level: seen.level, gfn: next, path: [...places, ...first] });
  }
  const nested = first.length > 0 && second.length > 0;
  return {
    path: [...new Set([...places, ...first, ...second])],
    structures: made,
    gfn: nested ? gfn : -1,
  };
}

function structure(
  stage: Structure['stage'],
  level: number,
  input: number,
  frame: number,
  gfn: number,
  path: readonly TableEntry[],
): Structure {
  const pages = spanOf(level);
  return { stage, level, page: input - (input % pages), pages, frame, gfn, path };
}

function frameIn({ entry }: WalkedEntry): number {
  return Number((BigInt(entry) & FRAME) >> 12n);
}
