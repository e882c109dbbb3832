import type { PhysicalMemory } from '../../memory.ts';
import { ridBus, ridDevfn } from '../../spec/pci.ts';
import {
  contextEntry,
  contextEntryAddress,
  contextTableOf,
  pasidCount,
  rootEntry,
  rootEntryAddress,
} from '../../spec/vtd/context.ts';
import {
  PASID_TABLE_ENTRIES,
  pasidDirEntry,
  pasidDirEntryAddress,
  pasidEntry,
  pasidEntryAddress,
} from '../../spec/vtd/pasid.ts';
import type { TableKind } from './tables.ts';

const PAGE_BYTES = 4096;
const PAGE_WORDS = PAGE_BYTES / 8;
const PASIDS_PER_DIRECTORY_PAGE = PAGE_WORDS * PASID_TABLE_ENTRIES;
/** Pages watched for one unit; a guest's tables could name any number. */
const MOST_PAGES = 4096;

/** A structure entry on the way to a PASID's translation; the address as the unit uses it. */
export interface Step {
  readonly kind: TableKind;
  readonly address: number;
}

/** An entry of a PASID table was written. */
export type PasidStored = (
  sid: number,
  pasid: number,
  before: readonly bigint[],
  after: readonly bigint[],
) => void;

interface Watched {
  readonly kind: 'root' | 'context' | 'directory' | 'table';
  /** Requester id of the page's first entry, or the function whose page it is. */
  readonly sid: number;
  /** First PASID of the page. */
  readonly pasid: number;
  /** Address as the unit uses it. */
  readonly base: number;
  readonly copy: BigUint64Array;
}

/**
 * The scalable-mode structures of one unit in memory, from its root pointer on: finds the entries
 * for a request, and tells of writes to PASID-table entries, present or not.
 */
export class StructureWatch {
  /** Address of the root table; -1: none, or not scalable mode. */
  root = -1;
  readonly #memory: PhysicalMemory;
  readonly #toHost: (address: number) => number;
  readonly #stored: PasidStored;
  readonly #pages = new Map<number, Watched>();
  /** Frame of the PASID table of a function and first PASID. */
  readonly #tables = new Map<number, number>();

  /** @param toHost host physical address of an address of the unit; -1: none */
  constructor(memory: PhysicalMemory, toHost: (address: number) => number, stored: PasidStored) {
    this.#memory = memory;
    this.#toHost = toHost;
    this.#stored = stored;
  }

  /** The entries to a PASID of a function, as far as they are present. */
  steps(sid: number, pasid: number): Step[] {
    if (this.root < 0) return [];
    const at = rootEntryAddress(this.root, ridBus(sid));
    const steps: Step[] = [{ kind: 'root', address: at }];
    const root = rootEntry.decode(this.words(at, rootEntry.words));
    const { present, ctp } = contextTableOf(root, ridDevfn(sid));
    if (!present) return steps;
    const context = contextEntryAddress(ctp, ridDevfn(sid));
    steps.push({ kind: 'context', address: context });
    const { P, PASIDDIRPTR, PDTS } = contextEntry.decode(this.words(context, contextEntry.words));
    if (P === 0 || pasid >= pasidCount(PDTS)) return steps;
    const slot = pasidDirEntryAddress(PASIDDIRPTR, pasid);
    steps.push({ kind: 'PASID directory', address: slot });
    const directory = pasidDirEntry.decode(this.words(slot, 1));
    if (directory.P === 0) return steps;
    steps.push({ kind: 'PASID', address: pasidEntryAddress(directory.SMPTBLPTR, pasid) });
    return steps;
  }

  /** The context entry of a function, or null. */
  context(sid: number): ReturnType<typeof contextEntry.decode> | null {
    const step = this.steps(sid, 0).find(({ kind }) => kind === 'context');
    if (step === undefined) return null;
    return contextEntry.decode(this.words(step.address, contextEntry.words));
  }

  /** The 512 bits of a PASID's entry; zeros where there is none. */
  entry(sid: number, pasid: number): readonly bigint[] {
    const step = this.steps(sid, pasid)[3];
    if (step === undefined) return new Array<bigint>(pasidEntry.words).fill(0n);
    return this.words(step.address, pasidEntry.words);
  }

  /** Looks at everything from the root on; what was watched before is forgotten. */
  scan(): void {
    this.#pages.clear();
    this.#tables.clear();
    if (this.root >= 0) this.#watch('root', this.root, 0, 0);
  }

  /** Whether a host frame holds one of the structures. */
  watches(frame: number): boolean {
    return this.#pages.has(frame);
  }

  /** Host physical memory was written, within one page. */
  stored(address: number, bytes: number): void {
    const page = this.#pages.get(Math.floor(address / PAGE_BYTES));
    if (page === undefined) return;
    const offset = address % PAGE_BYTES;
    const first = Math.floor(offset / 8);
    const end = Math.min(PAGE_WORDS, Math.ceil((offset + bytes) / 8));
    if (page.kind === 'table') this.#tableStored(page, first, end);
    else this.#refresh(page);
  }

  /** A host frame is used for something else now. */
  forget(frame: number): void {
    this.#pages.delete(frame);
  }

  words(address: number, count: number): bigint[] {
    const memory = this.#memory;
    if (!memory.contains(address, 8 * count)) return new Array<bigint>(count).fill(0n);
    return Array.from({ length: count }, (_, i) => memory.read64(address + 8 * i));
  }

  #tableStored(page: Watched, first: number, end: number): void {
    const { words } = pasidEntry;
    for (let index = Math.floor(first / words); index * words < end; index++) {
      const at = index * words;
      const before = [...page.copy.subarray(at, at + words)];
      const after = this.words(page.base + 8 * at, words);
      if (after.every((word, i) => word === before[i])) continue;
      page.copy.set(after, at);
      this.#stored(page.sid, page.pasid + index, before, after);
    }
  }

  /** Follows pointers of a page that are there now; pages once watched stay so. */
  #refresh(page: Watched): void {
    page.copy.set(this.words(page.base, PAGE_WORDS));
    if (page.kind === 'root') this.#followRoot(page);
    else if (page.kind === 'context') this.#followContexts(page);
    else this.#followDirectory(page);
  }

  #watch(kind: Watched['kind'], base: number, sid: number, pasid: number): void {
    const host = this.#toHost(base);
    if (host < 0 || this.#pages.size >= MOST_PAGES) return;
    const frame = Math.floor(host / PAGE_BYTES);
    const known = this.#pages.get(frame);
    if (known?.kind === kind && known.sid === sid && known.pasid === pasid) return;
    if (kind === 'table') {
      // Another table takes the place of the one that was there.
      const key = sid * 2 ** 20 + pasid;
      const old = this.#tables.get(key);
      if (old !== undefined) this.#pages.delete(old);
      this.#tables.set(key, frame);
    }
    const copy = BigUint64Array.from(this.words(base, PAGE_WORDS));
    const page: Watched = { kind, sid, pasid, base, copy };
    this.#pages.set(frame, page);
    if (kind !== 'table') this.#refresh(page);
  }

  #followRoot({ copy }: Watched): void {
    for (let bus = 0; bus < 256; bus++) {
      const { LP, LCTP, UP, UCTP } = rootEntry.decode([...copy.subarray(2 * bus, 2 * bus + 2)]);
      if (LP === 1) this.#watch('context', LCTP, bus << 8, 0);
      if (UP === 1) this.#watch('context', UCTP, (bus << 8) | 0x80, 0);
    }
  }

  #followContexts({ copy, sid }: Watched): void {
    for (let i = 0; i < PAGE_WORDS / contextEntry.words; i++) {
      const at = i * contextEntry.words;
      if ((copy[at]! & 1n) === 0n) continue;
      const fields = contextEntry.decode([...copy.subarray(at, at + contextEntry.words)]);
      const pasids = pasidCount(fields.PDTS);
      for (let pasid = 0; pasid < pasids; pasid += PASIDS_PER_DIRECTORY_PAGE) {
        const page = fields.PASIDDIRPTR + (pasid / PASIDS_PER_DIRECTORY_PAGE) * PAGE_BYTES;
        this.#watch('directory', page, sid + i, pasid);
      }
    }
  }

  #followDirectory({ copy, sid, pasid }: Watched): void {
    for (const [i, word] of copy.entries()) {
      if ((word & 1n) === 0n) continue;
      const { SMPTBLPTR } = pasidDirEntry.decode([word]);
      this.#watch('table', SMPTBLPTR, sid, pasid + i * PASID_TABLE_ENTRIES);
    }
  }
}
