import type { EventRecord, Layer } from '../event.ts';
import { num, text } from './fields.ts';

/** The storeys as they are drawn, from the program's side to the silicon's. */
export const STOREYS = ['guest', 'vmm', 'host', 'vtd', 'device'] as const;
export type Storey = (typeof STOREYS)[number];

/** What an event adds to a count: 1 unless `by` says otherwise. */
interface Counted {
  readonly event: string;
  readonly by?: (record: EventRecord) => number;
}

/** What crosses between two neighbours, or, from the guest, goes straight to the device. */
export interface Link {
  readonly from: Storey;
  readonly to: Storey;
  readonly label: string;
  readonly event: string;
  readonly by?: (record: EventRecord) => number;
}

const ofHost = (record: EventRecord): number => (text(record, 'unit') === 'host' ? 1 : 0);

export const LINKS: readonly Link[] = [
  { from: 'guest', to: 'vmm', label: 'VM exits', event: 'kvm:kvm_exit' },
  { from: 'vmm', to: 'guest', label: 'interrupts', event: 'kvm:kvm_msi_set_irq' },
  { from: 'vmm', to: 'host', label: 'ioctls', event: 'syscalls:sys_enter_ioctl' },
  { from: 'host', to: 'vmm', label: 'page requests', event: 'vmm:fault_read' },
  { from: 'host', to: 'vtd', label: 'invalidations', event: 'vtd:inv_desc', by: ofHost },
  { from: 'vtd', to: 'host', label: 'page requests', event: 'intel_iommu:prq_report' },
  { from: 'vtd', to: 'device', label: 'ATS invalidations', event: 'vtd:dev_tlb_inv', by: ofHost },
  { from: 'device', to: 'vtd', label: 'translations', event: 'dsa:ats_request' },
  { from: 'device', to: 'vtd', label: 'page requests', event: 'dsa:page_request' },
  { from: 'guest', to: 'device', label: 'descriptors', event: 'dsa:desc_accept' },
];

/** A number shown in a storey; it may go down again (`now` counts). */
export interface Gauge {
  readonly storey: Storey;
  readonly label: string;
  /** Bytes are shown in units. */
  readonly bytes?: boolean;
  readonly counts: readonly Counted[];
}

const once = (event: string): Counted => ({ event });
const less = (event: string): Counted => ({ event, by: () => -1 });

export const GAUGES: readonly Gauge[] = [
  {
    storey: 'guest',
    label: 'bound',
    counts: [once('guest:iommu_sva_bind_device'), less('guest:iommu_sva_unbind_device')],
  },
  { storey: 'guest', label: 'page faults', counts: [once('guest:handle_mm_fault')] },
  { storey: 'guest', label: 'completions', counts: [once('guest:completion')] },
  { storey: 'vmm', label: 'attaches', counts: [once('vmm:vtd_device_attach_hwpt')] },
  { storey: 'vmm', label: 'flushes', counts: [once('vmm:iommufd_backend_invalidate_cache')] },
  { storey: 'vmm', label: 'refused', counts: [once('vmm:error_report')] },
  {
    storey: 'host',
    label: 'objects',
    counts: [once('iommufd:object_new'), less('iommufd:object_destroy')],
  },
  { storey: 'host', label: 'attaches', counts: [once('iommu:attach_device_pasid')] },
  { storey: 'host', label: 'replaces', counts: [once('iommu:replace_device_pasid')] },
  { storey: 'host', label: 'detaches', counts: [once('iommu:detach_device_pasid')] },
  { storey: 'vtd', label: 'walks', counts: [{ event: 'vtd:walk', by: ofHost }] },
  {
    storey: 'vtd',
    label: 'faults',
    counts: [{ event: 'vtd:fault', by: (record) => ofHost(record) * num(record, 'recorded') }],
  },
  {
    storey: 'vtd',
    label: 'responses',
    counts: [{ event: 'vtd:page_group_response', by: ofHost }],
  },
  {
    storey: 'device',
    label: 'queued',
    counts: [once('dsa:desc_accept'), less('dsa:desc_complete')],
  },
  { storey: 'device', label: 'done', counts: [once('dsa:desc_complete')] },
  {
    storey: 'device',
    label: 'moved',
    bytes: true,
    counts: [{ event: 'dsa:dma', by: (record) => num(record, 'bytes') }],
  },
];

/** Width of one bar of a sparkline in virtual nanoseconds. */
export const BUCKET_NS = 10_000;

/** Bars kept. */
const BUCKETS = 64;

/** A rate is the mean over this many of the last bars. */
const RATE_BUCKETS = 10;

/** What crossed each link in one stretch of virtual time. */
interface Bucket {
  /** Its place on the virtual time line. */
  readonly slot: number;
  readonly counts: readonly number[];
}

/**
 * Counts and rates of the chain. Rates are by virtual time in which anything happened at all: where
 * nothing happens the clock jumps, and no one could watch it.
 */
export interface ChainState {
  readonly links: readonly number[];
  readonly gauges: readonly number[];
  readonly events: Readonly<Record<Layer, number>>;
  readonly buckets: readonly Bucket[];
}

export const EMPTY_CHAIN: ChainState = {
  links: LINKS.map(() => 0),
  gauges: GAUGES.map(() => 0),
  events: { guest: 0, vmm: 0, host: 0, vtd: 0, device: 0, engine: 0 },
  buckets: [],
};

interface Effect {
  readonly kind: 'link' | 'gauge';
  readonly index: number;
  readonly by: (record: EventRecord) => number;
}

const one = (): number => 1;

/** Which counts an event changes, by its name. */
const EFFECTS: ReadonlyMap<string, readonly Effect[]> = effects();

function effects(): Map<string, Effect[]> {
  const map = new Map<string, Effect[]>();
  const add = (kind: Effect['kind'], index: number, { event, by = one }: Counted): void => {
    const list = map.get(event) ?? [];
    list.push({ kind, index, by });
    map.set(event, list);
  };
  LINKS.forEach((link, index) => {
    add('link', index, link);
  });
  GAUGES.forEach((gauge, index) => {
    for (const counted of gauge.counts) add('gauge', index, counted);
  });
  return map;
}

export function reduceChain(state: ChainState, batch: readonly EventRecord[]): ChainState {
  if (batch.length === 0) return state;
  const links = [...state.links];
  const gauges = [...state.gauges];
  const events = { ...state.events };
  let buckets: { slot: number; counts: number[] }[] = state.buckets.map(({ slot, counts }) => ({
    slot,
    counts: [...counts],
  }));
  for (const record of batch) {
    events[record.def.layer]++;
    const slot = Math.floor(record.ns / BUCKET_NS);
    let bucket = buckets.at(-1);
    if (bucket?.slot !== slot) {
      bucket = { slot, counts: LINKS.map(() => 0) };
      buckets.push(bucket);
      if (buckets.length > 2 * BUCKETS) buckets = buckets.slice(-BUCKETS);
    }
    for (const { kind, index, by } of EFFECTS.get(record.def.name) ?? []) {
      const more = by(record);
      if (kind === 'gauge') gauges[index]! += more;
      else {
        links[index]! += more;
        bucket.counts[index]! += more;
      }
    }
  }
  return { links, gauges, events, buckets: buckets.slice(-BUCKETS) };
}

/** What crosses a link per millisecond of virtual time, lately. */
export function ratePerMs({ buckets }: ChainState, link: number): number {
  const last = buckets.slice(-RATE_BUCKETS);
  if (last.length === 0) return 0;
  const sum = last.reduce((total, { counts }) => total + (counts[link] ?? 0), 0);
  return (sum * 1_000_000) / (last.length * BUCKET_NS);
}

/** The last `bars` counts of a link, oldest first; fewer while the run is young. */
export const history = ({ buckets }: ChainState, link: number, bars: number): number[] =>
  bars <= 0 ? [] : buckets.slice(-bars).map(({ counts }) => counts[link] ?? 0);
