import type { PhysicalMemory } from '../../devices/memory.ts';
import { ridBus, ridDevfn } from '../../devices/spec/pci.ts';
import type { ContextEntry } from '../../devices/spec/vtd/context.ts';
import {
  contextEntry,
  contextEntryAddress,
  contextEntryReserved,
  contextTableOf,
  pasidCount,
  rootEntry,
  rootEntryAddress,
} from '../../devices/spec/vtd/context.ts';
import type { PasidEntry } from '../../devices/spec/vtd/pasid.ts';
import {
  FSPM,
  PASID_TABLE_ENTRIES,
  PGTT,
  pasidDirEntry,
  pasidDirEntryAddress,
  pasidEntry,
  pasidEntryAddress,
  pasidEntryReserved,
} from '../../devices/spec/vtd/pasid.ts';
import type { Ecap } from '../../devices/spec/vtd/registers.ts';

/** A guest PASID entry that a unit would translate with. */
export interface GuestEntry {
  readonly pasid: number;
  /** The 512 bits. */
  readonly words: BigUint64Array;
  readonly fields: PasidEntry;
  /** Context entry PRE: page requests of the function are allowed. */
  readonly pageRequests: boolean;
}

const TABLE_BYTES = PASID_TABLE_ENTRIES * pasidEntry.bytes;
const DIRECTORY_PAGE_ENTRIES = 512;

/**
 * The scalable-mode tables of the guest for one function, read from guest memory. Entries that are not
 * present, that a unit would refuse (reserved bits, a translation type the virtual unit lacks) or that
 * are not in RAM count as absent: the host then has nothing for the PASID and its requests fault.
 */
export class GuestTables {
  readonly #memory: PhysicalMemory;
  readonly #rid: number;
  readonly #ecap: Ecap;
  readonly #levels5: boolean;
  readonly #contextReserved: readonly bigint[];
  readonly #pasidReserved: readonly bigint[];
  /** Guest physical address of the latched root table; -1: none, or not scalable mode. */
  root = -1;

  constructor(memory: PhysicalMemory, rid: number, ecap: Ecap, levels5: boolean) {
    this.#memory = memory;
    this.#rid = rid;
    this.#ecap = ecap;
    this.#levels5 = levels5;
    this.#contextReserved = contextEntryReserved(ecap);
    this.#pasidReserved = pasidEntryReserved(ecap);
  }

  /** The entry of a PASID (0: requests without PASID), or null. */
  entry(pasid: number): GuestEntry | null {
    const context = this.#context();
    if (context === null || !this.#covers(context, pasid)) return null;
    const slot = pasidDirEntryAddress(context.PASIDDIRPTR, pasid);
    const table = this.#table(this.#words(slot, 1));
    if (table < 0) return null;
    const words = this.#words(pasidEntryAddress(table, pasid), pasidEntry.words);
    return this.#valid(pasid, words, context);
  }

  /** Visits the valid entries with 1 <= PASID < limit, ascending, until `visit` returns false. */
  forEach(limit: number, visit: (entry: GuestEntry) => boolean): void {
    const context = this.#context();
    if (context?.PASIDE !== 1) return;
    const end = Math.min(limit, pasidCount(context.PDTS));
    const pageOf = DIRECTORY_PAGE_ENTRIES * PASID_TABLE_ENTRIES;
    for (let first = 0; first < end; first += pageOf) {
      const slot = pasidDirEntryAddress(context.PASIDDIRPTR, first);
      const directory = this.#words(slot, DIRECTORY_PAGE_ENTRIES);
      for (const [i, word] of directory.entries()) {
        const base = first + i * PASID_TABLE_ENTRIES;
        if ((word & 1n) === 0n || base >= end) continue;
        if (!this.#forEachInTable(base, this.#table([word]), context, end, visit)) return;
      }
    }
  }

  #forEachInTable(
    base: number,
    table: number,
    context: ContextEntry,
    end: number,
    visit: (entry: GuestEntry) => boolean,
  ): boolean {
    if (table < 0) return true;
    const all = this.#words(table, TABLE_BYTES / 8);
    for (let i = base === 0 ? 1 : 0; i < PASID_TABLE_ENTRIES && base + i < end; i++) {
      if ((all[i * pasidEntry.words]! & 1n) === 0n) continue;
      const words = all.slice(i * pasidEntry.words, (i + 1) * pasidEntry.words);
      const entry = this.#valid(base + i, words, context);
      if (entry !== null && !visit(entry)) return false;
    }
    return true;
  }

  #context(): ContextEntry | null {
    if (this.root < 0) return null;
    const bus = rootEntryAddress(this.root, ridBus(this.#rid));
    const devfn = ridDevfn(this.#rid);
    const half = contextTableOf(rootEntry.decode(this.#words(bus, rootEntry.words)), devfn);
    if (!half.present) return null;
    const words = this.#words(contextEntryAddress(half.ctp, devfn), contextEntry.words);
    const fields = contextEntry.decode(words);
    return fields.P === 1 && !hasAny(words, this.#contextReserved) ? fields : null;
  }

  #covers(context: ContextEntry, pasid: number): boolean {
    return (pasid === 0 || context.PASIDE === 1) && pasid < pasidCount(context.PDTS);
  }

  /** Address of the PASID table of a directory entry, or -1. */
  #table(words: BigUint64Array | readonly bigint[]): number {
    const { P, SMPTBLPTR } = pasidDirEntry.decode(words);
    return P === 1 && !pasidDirEntry.hasReserved(words) ? SMPTBLPTR : -1;
  }

  #valid(pasid: number, words: BigUint64Array, context: ContextEntry): GuestEntry | null {
    const fields = pasidEntry.decode(words);
    if (fields.P !== 1 || hasAny(words, this.#pasidReserved)) return null;
    const isFirstStage = fields.PGTT === PGTT.FIRST_STAGE && this.#ecap.FSTS === 1;
    const isPassThrough = fields.PGTT === PGTT.PASS_THROUGH && this.#ecap.PT === 1;
    if (!isFirstStage && !isPassThrough) return null;
    const mostLevels = this.#levels5 ? FSPM.LEVELS_5 : FSPM.LEVELS_4;
    if (isFirstStage && fields.FSPM > mostLevels) return null;
    return { pasid, words, fields, pageRequests: context.PRE === 1 };
  }

  /** `count` 64-bit words at a guest physical address; zeros where it is not all RAM. */
  #words(address: number, count: number): BigUint64Array {
    const words = new BigUint64Array(count);
    const bytes = new Uint8Array(words.buffer);
    if (this.#memory.contains(address, bytes.length)) this.#memory.read(address, bytes);
    return words;
  }
}

function hasAny(words: BigUint64Array, masks: readonly bigint[]): boolean {
  return masks.some((mask, i) => (words[i]! & mask) !== 0n);
}
