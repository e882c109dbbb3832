import type { PhysicalMemory } from '../../../devices/memory.ts';
import {
  PASID_TABLE_ENTRIES,
  PGTT,
  pasidDirEntry,
  pasidDirEntryAddress,
  pasidEntry,
  pasidEntryAddress,
} from '../../../devices/spec/vtd/pasid.ts';
import type { EntryWords } from './pasid-entry.ts';
import type { Platform } from './platform.ts';
import { allocTable, allocTables, freeTable, freeTables, hasBug } from './platform.ts';

const PAGE_BYTES = 4096;
const DIR_ENTRIES_PER_PAGE = PAGE_BYTES / pasidDirEntry.bytes;
/** A directory of one page has 2^(2 + 7) entries. */
const MIN_PDTS = 2;
const ENTRY_WORDS = pasidEntry.words;

/** How an entry can go from old to new without an inconsistent state in between. */
type Path = 'low' | 'high' | 'low, high' | 'high, low' | 'table';

/**
 * A device's PASID directory and tables in memory, read by the unit. Table pages are allocated when
 * their first PASID is used and stay until the device goes.
 */
export class PasidTable {
  /** Physical address of the directory. */
  readonly directory: number;
  /** The directory has 2^(pdts + 7) entries. */
  readonly pdts: number;
  readonly #platform: Platform;
  readonly #ram: PhysicalMemory;
  readonly #pages: number;

  /** @param maxPasids PASIDs to make room for. Errno ENOMEM. */
  constructor(platform: Platform, maxPasids: number) {
    this.#platform = platform;
    this.#ram = platform.machine.ram;
    const entries = Math.max(1, Math.ceil(maxPasids / PASID_TABLE_ENTRIES));
    this.pdts = Math.max(MIN_PDTS, Math.ceil(Math.log2(entries)) - 7);
    this.#pages = 2 ** (this.pdts + 7) / DIR_ENTRIES_PER_PAGE;
    this.directory = allocTables(platform, this.#pages, 'intel:pasid-directory');
  }

  /** The directory and all tables are given back; the unit must not read them any more. */
  free(): void {
    for (const table of this.#tables()) freeTable(this.#platform, table);
    freeTables(this.#platform, this.directory, this.#pages);
  }

  /** Physical address of the entry of `pasid`, or -1 where there is no table page. */
  addressOf(pasid: number): number {
    const table = this.#tableOf(pasid);
    return table < 0 ? -1 : pasidEntryAddress(table, pasid);
  }

  /** As `addressOf`, with a table page allocated and published if there is none. Errno ENOMEM. */
  ensure(pasid: number): number {
    if (this.#tableOf(pasid) < 0) {
      this.#publish(pasid, allocTable(this.#platform, 'intel:pasid-table'));
    }
    return this.addressOf(pasid);
  }

  /** The entry as it stands in memory; all zero where there is no table page. */
  read(pasid: number): EntryWords {
    const words = new BigUint64Array(ENTRY_WORDS);
    const address = this.addressOf(pasid);
    if (address < 0) return words;
    for (let i = 0; i < ENTRY_WORDS; i++) words[i] = this.#ram.read64(address + 8 * i);
    return words;
  }

  /** Writes an entry that is not present: P comes with the last 16 bytes. */
  write(pasid: number, entry: EntryWords): void {
    const address = this.ensure(pasid);
    const halves = hasBug(this.#platform, 'host-present-first') ? [0, 2, 4, 6] : [6, 4, 2, 0];
    for (const first of halves) this.#write128(address, entry, first);
  }

  /** Clears P, and only that. */
  clearPresent(pasid: number): void {
    const address = this.addressOf(pasid);
    if (address < 0) return;
    this.#ram.write64(address, this.#ram.read64(address) & ~pasidEntry.masks.P);
  }

  /** Clears an entry that is not present, except FPD if `keepFpd`. */
  clear(pasid: number, keepFpd: boolean): void {
    const address = this.addressOf(pasid);
    if (address < 0) return;
    const entry = new BigUint64Array(ENTRY_WORDS);
    if (keepFpd) entry[0] = pasidEntry.masks.FPD;
    for (let i = 0; i < ENTRY_WORDS; i += 2) this.#write128(address, entry, i);
  }

  /**
   * What changing the present entry of `pasid` to `entry` in one go needs, acquired: the change
   * itself cannot fail. Errno ENOMEM.
   *
   * The unit reads entries in pieces of 16 bytes, and both halves of a nested translation matter. So
   * the change is two aligned 16-byte writes in the order in which the state between is either the
   * old or the new translation; where there is no such order (both tables change at once), a copy
   * of the table page with the new entry takes the place of the page, by one write to the directory.
   */
  prepareReplace(pasid: number, entry: EntryWords): Replacement {
    const path = pathBetween(this.read(pasid), entry);
    if (hasBug(this.#platform, 'host-replace-torn')) return this.#tornReplace(pasid, entry);
    if (path !== 'table') {
      const address = this.addressOf(pasid);
      return {
        address,
        apply: () => {
          for (const half of path.split(', '))
            this.#write128(address, entry, half === 'low' ? 0 : 2);
        },
        finish: () => undefined,
      };
    }
    const old = this.#tableOf(pasid);
    const copy = allocTable(this.#platform, 'intel:pasid-table-copy');
    return {
      address: pasidEntryAddress(copy, pasid),
      apply: () => {
        for (let at = 0; at < PAGE_BYTES; at += 8) {
          this.#ram.write64(copy + at, this.#ram.read64(old + at));
        }
        for (let i = 0; i < ENTRY_WORDS; i += 2) {
          this.#write128(pasidEntryAddress(copy, pasid), entry, i);
        }
        this.#publish(pasid, copy);
      },
      finish: () => {
        freeTable(this.#platform, old);
      },
    };
  }

  /** The mistake `host-replace-torn`: what hardware reads in between is neither entry. */
  #tornReplace(pasid: number, entry: EntryWords): Replacement {
    const address = this.addressOf(pasid);
    return {
      address,
      apply: () => {
        for (const [i, word] of entry.entries()) this.#ram.write64(address + 8 * i, word);
      },
      finish: () => undefined,
    };
  }

  /** Present entries of PASIDs other than 0, counted in memory. */
  live(): number {
    let count = 0;
    for (let index = 0; index < this.#pages * DIR_ENTRIES_PER_PAGE; index++) {
      const table = this.#tableOf(index * PASID_TABLE_ENTRIES);
      if (table < 0) continue;
      for (let i = index === 0 ? 1 : 0; i < PASID_TABLE_ENTRIES; i++) {
        const qw0 = this.#ram.read64(pasidEntryAddress(table, i));
        if ((qw0 & pasidEntry.masks.P) !== 0n) count++;
      }
    }
    return count;
  }

  *#tables(): Generator<number> {
    for (let index = 0; index < this.#pages * DIR_ENTRIES_PER_PAGE; index++) {
      const table = this.#tableOf(index * PASID_TABLE_ENTRIES);
      if (table >= 0) yield table;
    }
  }

  #tableOf(pasid: number): number {
    const word = this.#ram.read64(pasidDirEntryAddress(this.directory, pasid));
    const entry = pasidDirEntry.decode([word]);
    return entry.P === 1 ? entry.SMPTBLPTR : -1;
  }

  #publish(pasid: number, table: number): void {
    const entry = pasidDirEntry.encode({ P: 1, SMPTBLPTR: table });
    this.#ram.write64(pasidDirEntryAddress(this.directory, pasid), entry[0]!);
  }

  /** One 16-byte write: what the unit sees of words `first` and `first + 1` is old or new. */
  #write128(address: number, entry: EntryWords, first: number): void {
    this.#ram.write(
      address + 8 * first,
      new Uint8Array(entry.buffer, entry.byteOffset + 8 * first, 16),
    );
  }
}

/** A change of a present entry, ready to happen. */
export interface Replacement {
  /** Physical address where the new entry will be. */
  readonly address: number;
  /** Makes the change. */
  apply(): void;
  /** After the flush: gives back what the unit may have read until then. */
  finish(): void;
}

const DID_MASK = pasidEntry.masks.DID;

function usesFirstStage(entry: EntryWords): boolean {
  const { PGTT: kind } = pasidEntry.decode(entry);
  return kind === PGTT.FIRST_STAGE || kind === PGTT.NESTED;
}

/** Words 0 and 1 have PGTT, DID and the second stage, words 2 and 3 the first stage. */
function pathBetween(old: EntryWords, entry: EntryWords): Path {
  const sameLow = old[0] === entry[0] && old[1] === entry[1];
  const sameHigh = old[2] === entry[2] && old[3] === entry[3];
  if (sameHigh) return 'low';
  if (sameLow) return 'high';
  // Words the old translation does not look at may change first, those the new one does not, last.
  if (!usesFirstStage(old)) return 'high, low';
  if (!usesFirstStage(entry)) return 'low, high';
  // Only the tag changes besides the first stage: the new tables under the old tag, which is flushed.
  const sameButDid = old[0] === entry[0] && (old[1]! & ~DID_MASK) === (entry[1]! & ~DID_MASK);
  return sameButDid ? 'high, low' : 'table';
}
