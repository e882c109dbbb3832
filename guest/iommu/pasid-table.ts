/** The PASID directory and tables of one device in guest memory. */
import {
  PASID_TABLE_ENTRIES,
  pasidDirEntry,
  pasidDirEntryAddress,
  pasidDirIndex,
  pasidEntry,
  pasidEntryAddress,
} from '../../devices/spec/vtd/pasid.ts';
import { PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import type { Core } from '../core.ts';

/** A directory is at least a page: 512 entries. */
const MIN_DIRECTORY_ENTRIES = 512;

/** Words of a PASID entry that software uses; the others stay zero. */
const USED_WORDS = 4;

export class PasidTable {
  /** Guest physical address of the directory. */
  readonly directory: number;
  /** Size code of the context entry: 2^(PDTS+7) directory entries. */
  readonly pdts: number;
  readonly #core: Core;

  /** Room for `pasids` (a power of two). The directory never moves. GuestError ENOMEM. */
  constructor(core: Core, pasids: number) {
    this.#core = core;
    const entries = Math.max(MIN_DIRECTORY_ENTRIES, pasids / PASID_TABLE_ENTRIES);
    this.pdts = Math.log2(entries) - 7;
    this.directory = core.pages.allocRun((entries * pasidDirEntry.bytes) / PAGE_SIZE);
  }

  /**
   * Address of the entry of `pasid`. Tables come on demand and are published with a compare and
   * exchange of the directory entry. GuestError ENOMEM.
   */
  entryAddress(pasid: number): number {
    const { cpu, pages } = this.#core;
    const at = pasidDirEntryAddress(this.directory, pasid);
    let entry = cpu.read64(at);
    if (pasidDirEntry.decode([entry]).P === 0) {
      const table = pages.alloc();
      const fresh = pasidDirEntry.encode({ P: 1, SMPTBLPTR: table })[0]!;
      const seen = cpu.cmpxchg64(at, entry, fresh);
      if (seen === entry) {
        entry = fresh;
      } else {
        pages.free(table);
        entry = seen;
      }
    }
    return pasidEntryAddress(pasidDirEntry.decode([entry]).SMPTBLPTR, pasid);
  }

  /** The 512 bits of an entry; all zero if its table does not exist. */
  read(pasid: number): BigUint64Array {
    const { cpu } = this.#core;
    const words = new BigUint64Array(pasidEntry.words);
    const [entry] = [cpu.read64(this.directory + pasidDirEntry.bytes * pasidDirIndex(pasid))];
    const { P, SMPTBLPTR } = pasidDirEntry.decode([entry]);
    if (P === 0) return words;
    const at = pasidEntryAddress(SMPTBLPTR, pasid);
    for (let i = 0; i < words.length; i++) words[i] = cpu.read64(at + 8 * i);
    return words;
  }

  /** Writes an entry that is not present: the word with P last. Returns its address. */
  write(pasid: number, words: BigUint64Array): number {
    const { cpu } = this.#core;
    const at = this.entryAddress(pasid);
    const order = [...words.slice(0, USED_WORDS).keys()];
    if (this.#core.bugs?.has('guest-present-first') !== true) order.reverse();
    for (const i of order) cpu.write64(at + 8 * i, words[i]!);
    return at;
  }

  /** Changes words of a present entry in its 16-byte halves, each state consistent by itself. */
  update(pasid: number, word: number, value: bigint): number {
    const at = this.entryAddress(pasid);
    this.#core.cpu.write64(at + 8 * word, value);
    return at;
  }
}
