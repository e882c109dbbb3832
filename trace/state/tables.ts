import type { EventRecord } from '../event.ts';
import { functionName, num, text } from './fields.ts';
import { reducer, setNewest } from './reducer.ts';

/** A PASID table entry as software last wrote it. */
export interface PasidEntry {
  /** `host` for the host's table, else the VM whose guest wrote its own. */
  readonly space: string;
  readonly device: string;
  readonly pasid: number;
  /** Physical address in that space, hexadecimal. */
  readonly address: string;
  readonly change: string;
  /** Decoded; for a clear, the entry that went. */
  readonly entry: string;
  /** The 512 bits as eight words, lowest first, hexadecimal. */
  readonly words: readonly string[];
  /** The words before the write, as far as it told them. */
  readonly before: readonly string[];
  readonly seq: number;
  readonly ns: number;
}

/** One table entry that a walk read. */
export interface WalkLevel {
  readonly table: string;
  /** 0: no page table. */
  readonly level: number;
  readonly address: string;
  readonly entry: string;
  readonly decoded: string;
}

/** The last walk for a page. */
export interface Walk {
  readonly unit: string;
  readonly device: string;
  readonly pasid: number;
  readonly address: string;
  readonly request: string;
  readonly result: string;
  readonly shift: number;
  readonly perm: string;
  readonly levels: readonly WalkLevel[];
  readonly seq: number;
  readonly ns: number;
}

export interface TablesState {
  /** By `space/device/pasid`. */
  readonly entries: ReadonlyMap<string, PasidEntry>;
  /** By `unit/device/pasid/page`, oldest first. */
  readonly walks: ReadonlyMap<string, Walk>;
  /** Key of the walk that event `seq` told, for the levels beneath it. */
  readonly walking: { readonly seq: number; readonly key: string };
}

interface Draft extends TablesState {
  entries: Map<string, PasidEntry>;
  walks: Map<string, Walk>;
  walking: { seq: number; key: string };
}

export const EMPTY_TABLES: TablesState = {
  entries: new Map(),
  walks: new Map(),
  walking: { seq: 0, key: '' },
};

const MOST_ENTRIES = 4096;
const MOST_WALKS = 512;
const MOST_LEVELS = 64;
const ENTRY_WORDS = 8;

const hexOf = (record: EventRecord, field: string): string =>
  `0x${BigInt(record.values[field] ?? 0).toString(16)}`;

function entry(draft: Draft, r: EventRecord, space: string, device: string): void {
  const pasid = num(r, 'pasid');
  const words = Array.from({ length: ENTRY_WORDS }, (_, i) => hexOf(r, `qw${i}`));
  const told = {
    space,
    device,
    pasid,
    address: hexOf(r, 'address'),
    change: text(r, 'change'),
    entry: text(r, 'entry'),
    words,
    before: Array.from({ length: ENTRY_WORDS }, (_, i) => hexOf(r, `old${i}`)),
    seq: r.seq,
    ns: r.ns,
  };
  setNewest(draft.entries, `${space}/${device}/${pasid}`, told, MOST_ENTRIES);
}

export const reduceTables = reducer<TablesState, Draft>(
  {
    'intel_iommu:pasid_entry': (draft, r) =>
      entry(draft, r, 'host', functionName(text(r, 'device'))),
    'guest:pasid_entry': (draft, r) => entry(draft, r, text(r, 'vm'), ''),
    'vtd:walk': (draft, r) => {
      const [unit, device] = [text(r, 'unit'), functionName(text(r, 'sid'))];
      const walk = {
        unit,
        device,
        pasid: num(r, 'pasid'),
        address: hexOf(r, 'address'),
        request: text(r, 'request'),
        result: hexOf(r, 'result'),
        shift: num(r, 'shift'),
        perm: text(r, 'perm'),
        levels: [],
        seq: r.seq,
        ns: r.ns,
      };
      const key = `${unit}/${device}/${walk.pasid}/${walk.address}`;
      draft.walking = { seq: r.seq, key };
      setNewest(draft.walks, key, walk, MOST_WALKS);
    },
    'vtd:walk_level': (draft, r) => {
      if (r.cause !== draft.walking.seq) return;
      const walk = draft.walks.get(draft.walking.key);
      if (walk === undefined || walk.levels.length >= MOST_LEVELS) return;
      const level = {
        table: text(r, 'table'),
        level: num(r, 'level'),
        address: hexOf(r, 'address'),
        entry: hexOf(r, 'entry'),
        decoded: text(r, 'decoded'),
      };
      draft.walks.set(draft.walking.key, { ...walk, levels: [...walk.levels, level] });
    },
  },
  ({ entries, walks, walking }) => ({
    entries: new Map(entries),
    walks: new Map(walks),
    walking,
  }),
);
