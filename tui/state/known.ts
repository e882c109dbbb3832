import type { EventRecord } from '../../trace/event.ts';
import { num, text } from '../../trace/state/fields.ts';
import { reducer, setNewest } from '../../trace/state/reducer.ts';

/** A table entry as some walk read it. */
export interface ReadEntry {
  readonly entry: bigint;
  readonly seq: number;
}

/** What became of a page of a guest process: its leaf entry, or that it was unmapped. */
export interface PageFact {
  readonly pte: bigint;
  readonly seq: number;
}

/** What events told of page tables: enough to walk them again without their memory. */
export interface KnownState {
  /** By physical address of the host. */
  readonly entries: ReadonlyMap<bigint, ReadEntry>;
  /** By `vm/pid`, then by page number. */
  readonly pages: ReadonlyMap<string, ReadonlyMap<bigint, PageFact>>;
}

interface Draft extends KnownState {
  entries: Map<bigint, ReadEntry>;
  pages: Map<string, ReadonlyMap<bigint, PageFact>>;
}

export const EMPTY_KNOWN: KnownState = { entries: new Map(), pages: new Map() };

const MOST_ENTRIES = 8192;
const MOST_PROCESSES = 256;
const MOST_PAGES = 4096;
const PAGE_BITS = 12n;

const word = ({ values }: EventRecord, field: string): bigint => {
  const value = values[field] ?? 0;
  return typeof value === 'string' && !/^(0x[0-9a-f]+|\d+)$/i.test(value) ? 0n : BigInt(value);
};

const keyOf = (r: EventRecord): string => `${text(r, 'vm')}/${num(r, 'pid')}`;

export const reduceKnown = reducer<KnownState, Draft>(
  {
    'vtd:walk_level': (draft, r) => {
      if (text(r, 'unit') !== 'host' || num(r, 'level') === 0) return;
      const read = { entry: word(r, 'entry'), seq: r.seq };
      const address = word(r, 'address');
      if (draft.entries.has(address)) draft.entries.set(address, read);
      else setNewest(draft.entries, address, read, MOST_ENTRIES);
    },
    'guest:handle_mm_fault': (draft, r) => {
      const pte = word(r, 'pte');
      if (pte === 0n) return;
      const pages = new Map(draft.pages.get(keyOf(r)));
      setNewest(pages, word(r, 'address') >> PAGE_BITS, { pte, seq: r.seq }, MOST_PAGES);
      setNewest(draft.pages, keyOf(r), pages, MOST_PROCESSES);
    },
    'guest:munmap': (draft, r) => {
      const first = word(r, 'address') >> PAGE_BITS;
      const end = (word(r, 'address') + word(r, 'bytes') + 0xfffn) >> PAGE_BITS;
      const pages = new Map(draft.pages.get(keyOf(r)));
      for (const page of pages.keys()) {
        if (page >= first && page < end) pages.set(page, { pte: 0n, seq: r.seq });
      }
      setNewest(draft.pages, keyOf(r), pages, MOST_PROCESSES);
    },
  },
  ({ entries, pages }) => ({ entries: new Map(entries), pages: new Map(pages) }),
);
