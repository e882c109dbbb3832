import type { KnownState, PageFact } from './known.ts';
import { fieldValue, PASID_FIELDS } from './pasid-entry.ts';

/** One entry on the way of an address. */
export interface WalkStep {
  readonly stage: 'first' | 'second';
  readonly level: number;
  /** Physical address of the host where the entry is; undefined where it could not be found. */
  readonly at: bigint | undefined;
  /** undefined: no walk that was told has read it. */
  readonly entry: bigint | undefined;
  readonly decoded: string;
}

export interface AddressWalk {
  readonly steps: readonly WalkStep[];
  /** Where the page is on the host, if the walk ends there. */
  readonly result: bigint | undefined;
  readonly write: boolean;
  /** The fault that a read or a write would give; undefined: none. */
  readonly readFault: string | undefined;
  readonly writeFault: string | undefined;
  /** Why the walk cannot be followed to its end; empty: it could. */
  readonly unknown: string;
}

const ADDRESS = 0x000f_ffff_ffff_f000n;
const LEVEL_BITS = 9n;
const PAGE_BITS = 12n;
const P = 1n;
const W = 2n;
const US = 4n;
const PS = 1n << 7n;

const SECOND_STAGE_LEVELS: Readonly<Record<string, number>> = { '1': 3, '2': 4, '3': 5 };
const TYPE = { FIRST: 1n, SECOND: 2n, NESTED: 3n, PASS: 4n } as const;

const fieldOf = (words: readonly bigint[], name: string): bigint =>
  fieldValue(words, PASID_FIELDS.find((field) => field.name === name)!);

const FAULTS = {
  ENTRY: 'PASID_ENTRY_NOT_PRESENT (59h): PASID entry not present',
  FS: 'FS_NOT_PRESENT (71h): first-stage entry not present',
  SS: 'SS_NOT_PRESENT (79h): second-stage entry without read and write',
  CANONICAL: 'NOT_CANONICAL (80h): address not canonical',
  BEYOND: 'ADDRESS_BEYOND_SS (84h): address beyond the second-stage width',
  USER: 'USER_TO_SUPERVISOR (81h): user request to supervisor page',
  WRITE: 'NO_WRITE (85h): no write permission',
  READ: 'NO_READ (86h): no read permission',
} as const;

/** A walk that ends before its time. */
class Stop extends Error {
  readonly fault: string | undefined;

  constructor(fault: string | undefined, unknown = '') {
    super(unknown);
    this.fault = fault;
  }
}

/**
 * Walks an address of a PASID as the host's unit would, with what events told of the tables: entries
 * that walks read, and the leaves that the guest wrote since.
 * @param words of the host's PASID entry, lowest first
 * @param pages of the guest process, by page number
 */
export function walkAddress(
  words: readonly bigint[],
  address: bigint,
  known: KnownState,
  pages: ReadonlyMap<bigint, PageFact> | undefined,
): AddressWalk {
  const walker = new Walker(words, known, pages);
  try {
    const { result, write } = walker.translate(address);
    const writeFault = write ? undefined : FAULTS.WRITE;
    return { steps: walker.steps, result, write, readFault: undefined, writeFault, unknown: '' };
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    const { fault, message } = error;
    return {
      steps: walker.steps,
      result: undefined,
      write: false,
      readFault: fault,
      writeFault: fault,
      unknown: message,
    };
  }
}

class Walker {
  readonly steps: WalkStep[] = [];
  readonly #words: readonly bigint[];
  readonly #known: KnownState;
  readonly #pages: ReadonlyMap<bigint, PageFact> | undefined;

  constructor(
    words: readonly bigint[],
    known: KnownState,
    pages: ReadonlyMap<bigint, PageFact> | undefined,
  ) {
    this.#words = words;
    this.#known = known;
    this.#pages = pages;
  }

  translate(address: bigint): { result: bigint; write: boolean } {
    const words = this.#words;
    if (fieldOf(words, 'P') === 0n) throw new Stop(FAULTS.ENTRY);
    const type = fieldOf(words, 'PGTT');
    if (type === TYPE.PASS) return { result: address, write: true };
    if (type === TYPE.SECOND) return this.#second(address);
    const nested = type === TYPE.NESTED;
    const levels = fieldOf(words, 'FSPM') === 1n ? 5 : 4;
    const bits = BigInt(levels) * LEVEL_BITS + PAGE_BITS;
    const sign = address >> (bits - 1n);
    if (sign !== 0n && sign !== (1n << (65n - bits)) - 1n) throw new Stop(FAULTS.CANONICAL);
    const first = this.#first(address, levels, nested);
    if (!nested) return first;
    const { result, write } = this.#second(first.result);
    return { result, write: write && first.write };
  }

  #first(address: bigint, levels: number, nested: boolean): { result: bigint; write: boolean } {
    let table = fieldOf(this.#words, 'FSPTPTR') << PAGE_BITS;
    let write = true;
    for (let level = levels; ; level--) {
      const at = table + 8n * index(address, level);
      const place = nested ? this.#second(at).result : at;
      const entry = this.#read('first', level, place, level === 1 ? address : undefined);
      if ((entry & P) === 0n) throw new Stop(FAULTS.FS);
      if ((entry & US) === 0n) throw new Stop(FAULTS.USER);
      write &&= (entry & W) !== 0n;
      if (level === 1 || (entry & PS) !== 0n) return { result: leaf(entry, address, level), write };
      table = entry & ADDRESS;
    }
  }

  #second(address: bigint): { result: bigint; write: boolean } {
    const levels = SECOND_STAGE_LEVELS[String(fieldOf(this.#words, 'AW'))] ?? 4;
    if (address >> (BigInt(levels) * LEVEL_BITS + PAGE_BITS) !== 0n) throw new Stop(FAULTS.BEYOND);
    let table = fieldOf(this.#words, 'SSPTPTR') << PAGE_BITS;
    let write = true;
    for (let level = levels; ; level--) {
      const entry = this.#read('second', level, table + 8n * index(address, level), undefined);
      if ((entry & (P | W)) === 0n) throw new Stop(FAULTS.SS);
      if ((entry & P) === 0n) throw new Stop(FAULTS.READ);
      write &&= (entry & W) !== 0n;
      if (level === 1 || (entry & PS) !== 0n) return { result: leaf(entry, address, level), write };
      table = entry & ADDRESS;
    }
  }

  /** @param page an address whose leaf the guest may have written since it was read */
  #read(stage: WalkStep['stage'], level: number, at: bigint, page: bigint | undefined): bigint {
    const read = this.#known.entries.get(at);
    const fact = page === undefined ? undefined : this.#pages?.get(page >> PAGE_BITS);
    const newer = fact !== undefined && fact.seq > (read?.seq ?? 0);
    const entry = newer ? fact.pte : read?.entry;
    const since = newer ? ` (event ${fact.seq})` : '';
    const decoded = entry === undefined ? 'never read by a walk' : decode(stage, entry) + since;
    this.steps.push({ stage, level, at, entry, decoded });
    if (entry !== undefined) return entry;
    throw new Stop(
      undefined,
      `no walk that was told has read this ${stage}-stage entry: its memory is not in the trace`,
    );
  }
}

const index = (address: bigint, level: number): bigint =>
  (address >> (PAGE_BITS + LEVEL_BITS * BigInt(level - 1))) & 0x1ffn;

function leaf(entry: bigint, address: bigint, level: number): bigint {
  const mask = (1n << (PAGE_BITS + LEVEL_BITS * BigInt(level - 1))) - 1n;
  return (entry & ADDRESS & ~mask) | (address & mask);
}

const FLAGS: Readonly<Record<WalkStep['stage'], readonly (readonly [bigint, string])[]>> = {
  first: [
    [P, 'P'],
    [W, 'RW'],
    [US, 'US'],
    [1n << 5n, 'A'],
    [1n << 6n, 'D'],
    [PS, 'PS'],
  ],
  second: [
    [P, 'R'],
    [W, 'W'],
    [PS, 'PS'],
    [1n << 8n, 'A'],
    [1n << 9n, 'D'],
    [1n << 11n, 'SNP'],
  ],
};

function decode(stage: WalkStep['stage'], entry: bigint): string {
  const flags = FLAGS[stage].filter(([bit]) => (entry & bit) !== 0n).map(([, name]) => name);
  if (flags.length === 0) return 'not present';
  return `→ 0x${(entry & ADDRESS).toString(16)} ${flags.join('|')}`;
}

/** An address as people type it, undefined when it is none. */
export function parseAddress(typed: string): bigint | undefined {
  const digits = typed.trim().replace(/^0x/i, '').replaceAll('_', '');
  return /^[0-9a-f]{1,16}$/i.test(digits) ? BigInt(`0x${digits}`) : undefined;
}
