import type { EventRecord } from '../../trace/event.ts';
import { functionName, hex, num, text } from '../../trace/state/fields.ts';
import type { PasidsState } from '../../trace/state/pasids.ts';

/** Where a page request goes, from the device's question to its going on. */
export const STAGES = [
  { event: 'dsa:page_request', told: 'device asks' },
  { event: 'vtd:page_request', told: 'unit queues it' },
  { event: 'intel_iommu:prq_report', told: 'host takes it' },
  { event: 'iommufd:fault_deliver', told: 'on the fault queue' },
  { event: 'vmm:fault_read', told: 'VMM reads it' },
  { event: 'guest:prq_report', told: 'guest takes it' },
  { event: 'guest:handle_mm_fault', told: 'guest brings the page' },
  { event: 'guest:page_group_response', told: 'guest answers' },
  { event: 'vmm:fault_response', told: 'VMM passes it on' },
  { event: 'iommufd:fault_response', told: 'host answers' },
  { event: 'vtd:page_group_response', told: 'unit sends it' },
  { event: 'dsa:page_response', told: 'device goes on' },
] as const;

const LAST = STAGES.length - 1;
const HOST_ANSWERS = 9;

/** Whoever has to act next, by the stage that was reached. */
export const WAITS_FOR: readonly string[] = [
  'the unit',
  'the host’s page-request interrupt',
  'iommufd',
  'the VMM',
  'the guest’s interrupt',
  'the guest’s fault handler',
  'the guest’s answer',
  'the VMM',
  'the host',
  'the unit',
  'the device',
  '',
];

/** A stage that was reached. */
export interface Reached {
  readonly stage: number;
  readonly seq: number;
  readonly ns: number;
}

/** A page request with its answer: one round trip. */
export interface Trip {
  readonly device: string;
  readonly vm: string;
  readonly pasid: number;
  readonly address: string;
  readonly prgi: number;
  readonly write: boolean;
  /** In order; stages that were passed over are missing. */
  readonly reached: readonly Reached[];
  /** What the answer was; empty while it waits. */
  readonly answer: string;
}

export interface TripsState {
  /** Oldest first. */
  readonly trips: readonly Trip[];
}

export const EMPTY_TRIPS: TripsState = { trips: [] };

const MOST_TRIPS = 512;

export const lastStage = ({ reached }: Trip): number => reached.at(-1)?.stage ?? 0;
export const isOpen = (trip: Trip): boolean => lastStage(trip) < LAST;

/** Nanoseconds from the question to the last stage. */
export const tripNs = ({ reached }: Trip): number =>
  (reached.at(-1)?.ns ?? 0) - (reached[0]?.ns ?? 0);

const STAGE_OF: ReadonlyMap<string, number> = new Map([
  ...STAGES.map(({ event }, stage) => [event, stage] as const),
  ['iommufd:auto_response', HOST_ANSWERS],
]);

/** What is said of a request by a virtual unit is said by the VMM too. */
const isOfGuestUnit = (record: EventRecord): boolean =>
  'unit' in record.values && text(record, 'unit') !== 'host';

/** @param pasids which VM has which function */
export function reduceTrips(
  state: TripsState,
  batch: readonly EventRecord[],
  { vmOfDevice }: PasidsState,
): TripsState {
  let trips: Trip[] | undefined;
  for (const record of batch) {
    const stage = STAGE_OF.get(record.def.name);
    if (stage === undefined || isOfGuestUnit(record)) continue;
    trips ??= [...state.trips];
    if (stage === 0) {
      trips.push(begun(record, vmOfDevice));
      if (trips.length > MOST_TRIPS) trips.shift();
      continue;
    }
    const at = trips.findLastIndex((trip) => isOpen(trip) && speaksOf(record, trip));
    const trip = trips[at];
    if (trip !== undefined) trips[at] = advanced(trip, record, stage);
  }
  return trips === undefined ? state : { trips };
}

function begun(record: EventRecord, vmOfDevice: ReadonlyMap<string, string>): Trip {
  const device = functionName(text(record, 'device'));
  return {
    device,
    vm: vmOfDevice.get(device) ?? '',
    pasid: num(record, 'pasid'),
    address: hex(record, 'address'),
    prgi: num(record, 'prgi'),
    write: num(record, 'write') === 1,
    reached: [{ stage: 0, seq: record.seq, ns: record.ns }],
    answer: '',
  };
}

/** Host and device name the function, VMM and guest the VM; a fault is known by its address. */
function speaksOf(record: EventRecord, trip: Trip): boolean {
  const { values } = record;
  const vm = values['vm'];
  if (vm !== undefined && trip.vm !== '' && vm !== trip.vm) return false;
  const device = values['device'] ?? values['sid'];
  if (device !== undefined && functionName(String(device)) !== trip.device) return false;
  if (record.def.name === 'guest:handle_mm_fault') {
    return text(record, 'by') === 'device' && hex(record, 'address') === trip.address;
  }
  const group = num(record, 'prgi' in values ? 'prgi' : 'grpid');
  return num(record, 'pasid') === trip.pasid && group === trip.prgi;
}

function advanced(trip: Trip, record: EventRecord, stage: number): Trip {
  const { seq, ns } = record;
  const reached = [...trip.reached.slice(0, LAST), { stage, seq, ns }];
  return { ...trip, reached, answer: answerOf(record) ?? trip.answer };
}

const CODES: Readonly<Record<string, string>> = { '0': 'success', '1': 'invalid', '15': 'failure' };

function answerOf(record: EventRecord): string | undefined {
  if (record.def.name === 'iommufd:auto_response') return 'invalid (by the host itself)';
  if (record.def.name === 'guest:handle_mm_fault') return undefined;
  const code = record.values['code'];
  if (code === undefined) return undefined;
  return CODES[String(code)] ?? String(code).toLowerCase();
}
