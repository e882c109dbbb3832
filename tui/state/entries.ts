import type { EventRecord } from '../../trace/event.ts';
import { functionName, num, text } from '../../trace/state/fields.ts';
import { reducer, setNewest } from '../../trace/state/reducer.ts';

/** One write of a table entry of 512 bits: its words before and after, lowest first. */
export interface EntryWrite {
  readonly seq: number;
  readonly ns: number;
  readonly change: string;
  readonly before: readonly bigint[];
  readonly after: readonly bigint[];
}

/** The last writes of the PASID table entries, and how many there were. */
export interface EntriesState {
  /** By `space/device/pasid`, as `tables.entries`; oldest first. */
  readonly writes: ReadonlyMap<string, readonly EntryWrite[]>;
  /** Per `device/pasid`: translations the device asked for, and the walks they took. */
  readonly rates: ReadonlyMap<string, Rate>;
}

export interface Rate {
  readonly asked: number;
  readonly walked: number;
}

interface Draft extends EntriesState {
  writes: Map<string, readonly EntryWrite[]>;
  rates: Map<string, Rate>;
}

export const EMPTY_ENTRIES: EntriesState = { writes: new Map(), rates: new Map() };

const MOST_ENTRIES = 4096;
const MOST_WRITES = 16;

const word = ({ values }: EventRecord, field: string): bigint => BigInt(values[field] ?? 0);

function written(draft: Draft, r: EventRecord, key: string): void {
  const write = {
    seq: r.seq,
    ns: r.ns,
    change: text(r, 'change'),
    before: [word(r, 'old0'), word(r, 'old1'), word(r, 'old2')],
    after: [word(r, 'qw0'), word(r, 'qw1'), word(r, 'qw2')],
  };
  const writes = [...(draft.writes.get(key) ?? []), write].slice(-MOST_WRITES);
  setNewest(draft.writes, key, writes, MOST_ENTRIES);
}

function counted(draft: Draft, device: string, pasid: number, more: Partial<Rate>): void {
  const key = `${functionName(device)}/${pasid}`;
  const { asked, walked } = draft.rates.get(key) ?? { asked: 0, walked: 0 };
  const rate = { asked: asked + (more.asked ?? 0), walked: walked + (more.walked ?? 0) };
  if (draft.rates.has(key)) draft.rates.set(key, rate);
  else setNewest(draft.rates, key, rate, MOST_ENTRIES);
}

export const reduceEntries = reducer<EntriesState, Draft>(
  {
    'intel_iommu:pasid_entry': (draft, r) =>
      written(draft, r, `host/${functionName(text(r, 'device'))}/${num(r, 'pasid')}`),
    'guest:pasid_entry': (draft, r) => written(draft, r, `${text(r, 'vm')}//${num(r, 'pasid')}`),
    'dsa:ats_request': (draft, r) =>
      counted(draft, text(r, 'device'), num(r, 'pasid'), { asked: 1 }),
    'vtd:walk': (draft, r) => {
      if (text(r, 'unit') === 'host')
        counted(draft, text(r, 'sid'), num(r, 'pasid'), { walked: 1 });
    },
  },
  ({ writes, rates }) => ({ writes: new Map(writes), rates: new Map(rates) }),
);

/** The part of what was asked for that a cache of the unit had; undefined before anything was. */
export const hitRate = ({ asked, walked }: Rate): number | undefined =>
  asked === 0 ? undefined : Math.max(0, asked - walked) / asked;
