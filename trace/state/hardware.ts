import type { EventRecord } from '../event.ts';
import { functionName, num, text } from './fields.ts';
import { reducer, setNewest } from './reducer.ts';

/** What a VT-d unit did: the host's (`host`) or a VM's virtual one. */
export interface Unit {
  readonly unit: string;
  /** Translations from the IOTLB, where the events of the data path are told; else 0 until the end. */
  readonly hits: number;
  readonly walks: number;
  readonly loads: number;
  readonly faults: number;
  readonly descriptors: number;
  readonly pageRequests: number;
  /** Cache entries that invalidations dropped. */
  readonly dropped: number;
  /** Registers by name, as last written; hexadecimal. */
  readonly registers: ReadonlyMap<string, string>;
  /** Why its invalidation queue stands still, else empty. */
  readonly queueError: string;
}

/** An accelerator. */
export interface Device {
  readonly device: string;
  /** Descriptors in its work queues, and done. */
  readonly queued: number;
  readonly done: number;
  readonly retries: number;
  readonly bytes: number;
  readonly atsRequests: number;
}

/** A page request that the device still waits for. */
export interface PageRequest {
  readonly device: string;
  readonly pasid: number;
  readonly address: string;
  readonly prgi: number;
  readonly write: boolean;
  /** How far it came: the name of the last event that spoke of it. */
  readonly stage: string;
  readonly seq: number;
  readonly ns: number;
}

export interface HardwareState {
  readonly units: ReadonlyMap<string, Unit>;
  readonly devices: ReadonlyMap<string, Device>;
  /** By `device/prgi`. */
  readonly requests: ReadonlyMap<string, PageRequest>;
}

interface Draft extends HardwareState {
  units: Map<string, Unit>;
  devices: Map<string, Device>;
  requests: Map<string, PageRequest>;
}

export const EMPTY_HARDWARE: HardwareState = {
  units: new Map(),
  devices: new Map(),
  requests: new Map(),
};

const MOST = 1024;

const hexOf = (record: EventRecord, field: string): string =>
  `0x${BigInt(record.values[field] ?? 0).toString(16)}`;

const newUnit = (unit: string): Unit => ({
  unit,
  hits: 0,
  walks: 0,
  loads: 0,
  faults: 0,
  descriptors: 0,
  pageRequests: 0,
  dropped: 0,
  registers: new Map(),
  queueError: '',
});

function changeUnit(draft: Draft, unit: string, next: (unit: Unit) => Partial<Unit>): void {
  const old = draft.units.get(unit) ?? newUnit(unit);
  if (draft.units.size >= MOST && !draft.units.has(unit)) return;
  draft.units.set(unit, { ...old, ...next(old) });
}

function changeDevice(draft: Draft, r: EventRecord, next: (device: Device) => Partial<Device>) {
  const device = functionName(text(r, 'device'));
  const old = draft.devices.get(device) ?? {
    device,
    queued: 0,
    done: 0,
    retries: 0,
    bytes: 0,
    atsRequests: 0,
  };
  if (draft.devices.size >= MOST && !draft.devices.has(device)) return;
  draft.devices.set(device, { ...old, ...next(old) });
}

/** The requests of a function with a PASID at a page move on to another stage. */
function advance(draft: Draft, r: EventRecord, device: string): void {
  const key = `${functionName(device)}/${num(r, 'prgi')}`;
  const request = draft.requests.get(key);
  if (request !== undefined) draft.requests.set(key, { ...request, stage: r.def.name });
}

export const reduceHardware = reducer<HardwareState, Draft>(
  {
    'vtd:walk': (draft, r) =>
      changeUnit(draft, text(r, 'unit'), ({ walks, loads }) => ({
        walks: walks + 1,
        loads: loads + num(r, 'loads'),
      })),
    'vtd:iotlb_hit': (draft, r) =>
      changeUnit(draft, text(r, 'unit'), ({ hits }) => ({ hits: hits + 1 })),
    'vtd:fault': (draft, r) =>
      changeUnit(draft, text(r, 'unit'), ({ faults }) => ({ faults: faults + num(r, 'recorded') })),
    'vtd:inv_desc': (draft, r) =>
      changeUnit(draft, text(r, 'unit'), ({ descriptors, dropped }) => ({
        descriptors: descriptors + 1,
        dropped: dropped + num(r, 'dropped'),
        queueError: '',
      })),
    'vtd:inv_queue_error': (draft, r) =>
      changeUnit(draft, text(r, 'unit'), () => ({ queueError: text(r, 'error') })),
    'vtd:reg_write': (draft, r) =>
      changeUnit(draft, text(r, 'unit'), ({ registers }) => ({
        registers: new Map(registers).set(text(r, 'register').slice(0, 16), hexOf(r, 'value')),
      })),
    'vtd:page_request': (draft, r) => {
      changeUnit(draft, text(r, 'unit'), ({ pageRequests }) => ({
        pageRequests: pageRequests + 1,
      }));
      if (text(r, 'unit') === 'host') advance(draft, r, text(r, 'sid'));
    },
    'vtd:stats': (draft, r) =>
      changeUnit(draft, text(r, 'unit'), () => ({
        hits: num(r, 'iotlbHits'),
        walks: num(r, 'walks'),
        loads: num(r, 'loads'),
      })),
    'dsa:desc_accept': (draft, r) =>
      changeDevice(draft, r, ({ queued }) => ({ queued: queued + 1 })),
    'dsa:desc_retry': (draft, r) =>
      changeDevice(draft, r, ({ retries }) => ({ retries: retries + 1 })),
    'dsa:desc_complete': (draft, r) =>
      changeDevice(draft, r, ({ queued, done }) => ({
        queued: Math.max(0, queued - 1),
        done: done + 1,
      })),
    'dsa:dma': (draft, r) =>
      changeDevice(draft, r, ({ bytes }) => ({ bytes: bytes + num(r, 'bytes') })),
    'dsa:ats_request': (draft, r) =>
      changeDevice(draft, r, ({ atsRequests }) => ({ atsRequests: atsRequests + 1 })),
    'dsa:page_request': (draft, r) => {
      const request = {
        device: functionName(text(r, 'device')),
        pasid: num(r, 'pasid'),
        address: hexOf(r, 'address'),
        prgi: num(r, 'prgi'),
        write: num(r, 'write') === 1,
        stage: r.def.name,
        seq: r.seq,
        ns: r.ns,
      };
      setNewest(draft.requests, `${request.device}/${request.prgi}`, request, MOST);
    },
    'intel_iommu:prq_report': (draft, r) => advance(draft, r, text(r, 'device')),
    'dsa:page_response': (draft, r) => {
      draft.requests.delete(`${functionName(text(r, 'device'))}/${num(r, 'prgi')}`);
    },
  },
  ({ units, devices, requests }) => ({
    units: new Map(units),
    devices: new Map(devices),
    requests: new Map(requests),
  }),
);

/** The state after so many hits more of a unit, which were only counted. */
export function addHits(state: HardwareState, unit: string, hits: number): HardwareState {
  const old = state.units.get(unit) ?? newUnit(unit);
  return { ...state, units: new Map(state.units).set(unit, { ...old, hits: old.hits + hits }) };
}
