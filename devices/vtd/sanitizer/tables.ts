import type { PhysicalMemory } from '../../memory.ts';
import { describePasidEntry, pasidEntry } from '../../spec/vtd/pasid.ts';
import { FS_LO, SS_LO } from '../../spec/x86/paging.ts';
import type { Trail } from './history.ts';

export type TableKind =
  | 'root'
  | 'context'
  | 'PASID directory'
  | 'PASID'
  | 'first-stage'
  | 'second-stage';

/** A write after which what was read from a table entry no longer holds. */
export interface Change {
  readonly entry: TableEntry;
  readonly before: string;
  readonly after: string;
  /** A PASID entry that is not present any more. */
  readonly detach: boolean;
  readonly ns: number;
  /** Descriptors that had been carried out when it happened, of all units. */
  readonly order: number;
  /** What led to the write; null when nobody saw it (memory of a real process). */
  readonly trail: Trail | null;
  /** The first use of something stale. */
  used: { readonly trail: Trail | null; readonly ns: number; readonly what: string } | null;
}

/** Something that was read through a table entry. */
export interface Dependent {
  changed(change: Change): void;
}

/** An entry of a structure or page table in memory, as the unit read it. */
export class TableEntry {
  readonly kind: TableKind;
  /** 1 to 5; 0: not a page table. */
  readonly level: number;
  readonly address: number;
  words: bigint[];
  readonly dependents = new Set<Dependent>();

  constructor(kind: TableKind, level: number, address: number, words: bigint[]) {
    this.kind = kind;
    this.level = level;
    this.address = address;
    this.words = words;
  }

  get isPage(): boolean {
    return this.kind === 'first-stage' || this.kind === 'second-stage';
  }

  /** A page-table entry that leads to another table. */
  get leadsOn(): boolean {
    return this.isPage && this.level > 1 && (this.words[0]! & BigInt(FS_LO.PS)) === 0n;
  }

  describe(words: readonly bigint[] = this.words): string {
    if (this.kind === 'PASID') return describePasidEntry(words);
    return words.map((word) => `0x${word.toString(16)}`).join(' ');
  }

  toString(): string {
    const level = this.level > 0 ? ` level ${this.level}` : '';
    return `${this.kind}${level} entry at 0x${this.address.toString(16)}`;
  }
}

const WORDS: Readonly<Record<TableKind, number>> = {
  root: 2,
  context: 4,
  'PASID directory': 1,
  PASID: 8,
  'first-stage': 1,
  'second-stage': 1,
};

const FRAME = 0x000f_ffff_ffff_f000n;
const XD = 1n << 63n;

/** Whether what was read as `old` may be used no longer when the entry is `now`. */
function outdates(entry: TableEntry, now: readonly bigint[]): boolean {
  const old = entry.words;
  if (!entry.isPage) return old.some((word, i) => word !== now[i]);
  const [before, after] = [old[0]!, now[0]!];
  const rights = entry.kind === 'first-stage' ? FS_LO.RW | FS_LO.US | FS_LO.P : SS_LO.R | SS_LO.W;
  const lost = before & ~after & BigInt(rights);
  const isDirtyLost = entry.kind === 'second-stage' && (before & ~after & BigInt(SS_LO.D)) !== 0n;
  const other = (before ^ after) & (FRAME | (entry.level > 1 ? BigInt(FS_LO.PS) : 0n));
  return lost !== 0n || other !== 0n || isDirtyLost || (after & ~before & XD) !== 0n;
}

/**
 * Every table entry that something in a cache depends on, by its host physical address. A write to
 * one of them is compared with what was read; accessed and dirty bits that hardware sets do not count,
 * nor do rights that are added (a fault finds those).
 */
export class Tables {
  readonly #memory: PhysicalMemory;
  readonly #changed: (entry: TableEntry, now: readonly bigint[], seen: boolean) => Change;
  readonly #byWord = new Map<number, TableEntry>();
  /** Entries on each page. */
  readonly #pages = new Map<number, number>();

  /** @param changed makes what is told of a change; `seen`: its write was */
  constructor(
    memory: PhysicalMemory,
    changed: (entry: TableEntry, now: readonly bigint[], seen: boolean) => Change,
  ) {
    this.#memory = memory;
    this.#changed = changed;
  }

  get size(): number {
    return this.#pages.size;
  }

  /** The entry at an address, as memory has it now. */
  at(kind: TableKind, level: number, address: number): TableEntry {
    const words = this.#read(address, WORDS[kind]);
    const known = this.#byWord.get(address / 8);
    if (known?.kind === kind && known.level === level) {
      this.#compare(known, words, false);
      if (this.#byWord.get(address / 8) === known) return known;
    } else if (known !== undefined) {
      this.#forget(known);
    }
    const entry = new TableEntry(kind, level, address, words);
    for (let i = 0; i < words.length; i++) this.#byWord.set(address / 8 + i, entry);
    const page = Math.floor(address / 4096);
    this.#pages.set(page, (this.#pages.get(page) ?? 0) + 1);
    return entry;
  }

  /** Whether something depends on an entry in a frame. */
  watches(frame: number): boolean {
    return this.#pages.has(frame);
  }

  /** Memory was written, within one page. */
  stored(address: number, bytes: number): void {
    if (!this.#pages.has(Math.floor(address / 4096))) return;
    for (let word = Math.floor(address / 8); word * 8 < address + bytes; word++) {
      const entry = this.#byWord.get(word);
      if (entry === undefined) continue;
      this.#compare(entry, this.#read(entry.address, entry.words.length), true);
    }
  }

  /** `dependent` went. An entry on which nothing depends is forgotten. */
  release(path: readonly TableEntry[], dependent: Dependent): void {
    for (const entry of path) {
      entry.dependents.delete(dependent);
      if (entry.dependents.size === 0) this.#forget(entry);
    }
  }

  #compare(entry: TableEntry, now: bigint[], seen: boolean): void {
    if (!outdates(entry, now)) {
      entry.words = now;
      return;
    }
    this.#forget(entry);
    if (entry.dependents.size === 0) return;
    const change = this.#changed(entry, now, seen);
    for (const dependent of [...entry.dependents]) dependent.changed(change);
  }

  #forget(entry: TableEntry): void {
    const first = entry.address / 8;
    if (this.#byWord.get(first) !== entry) return;
    for (let i = 0; i < entry.words.length; i++) this.#byWord.delete(first + i);
    const page = Math.floor(entry.address / 4096);
    const left = this.#pages.get(page)! - 1;
    if (left === 0) this.#pages.delete(page);
    else this.#pages.set(page, left);
  }

  #read(address: number, count: number): bigint[] {
    const memory = this.#memory;
    if (!memory.contains(address, 8 * count)) return new Array<bigint>(count).fill(0n);
    return Array.from({ length: count }, (_, i) => memory.read64(address + 8 * i));
  }
}

/** Whether the change took the PASID entry away. */
export function isDetach(entry: TableEntry, now: readonly bigint[]): boolean {
  const { P } = pasidEntry.masks;
  return entry.kind === 'PASID' && (entry.words[0]! & P) !== 0n && (now[0]! & P) === 0n;
}
