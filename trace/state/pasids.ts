import type { EventRecord } from '../event.ts';
import { functionName, keepLast, num, text } from './fields.ts';

export type PasidPhase = 'bound' | 'attached' | 'replaced' | 'detached';

/** A change of a PASID, and the virtual time at which it was seen. */
export interface PasidStep {
  readonly phase: PasidPhase;
  readonly ns: number;
  /** The nested HWPT from then on, 0 for none. */
  readonly hwpt: number;
  /** The event that said so. */
  readonly seq: number;
}

export interface PasidRow {
  /** Empty while only the host has spoken of it and its VM is not known. */
  readonly vm: string;
  readonly pasid: number;
  /** Guest process, 0 for none: PASID 0 is the function itself. */
  readonly pid: number;
  /** The host's function, which the guest may know by another requester id. */
  readonly device: string;
  readonly hwpt: number;
  /** Oldest first, the last few only. */
  readonly steps: readonly PasidStep[];
  readonly stepCount: number;
  readonly pageRequests: number;
  /** Page request groups that the device still waits for. */
  readonly open: number;
  /** Faults that the unit recorded. */
  readonly faults: number;
  readonly bytes: number;
}

/** Every PASID the events spoke of, in the order of appearance. */
export interface PasidsState {
  readonly rows: ReadonlyMap<string, PasidRow>;
  /** VM by the pid of its VMM, and VM by the function it was given. */
  readonly vmOfPid: ReadonlyMap<number, string>;
  readonly vmOfDevice: ReadonlyMap<string, string>;
  /** Rows let go to make room. */
  readonly dropped: number;
}

export const EMPTY_PASIDS: PasidsState = {
  rows: new Map(),
  vmOfPid: new Map(),
  vmOfDevice: new Map(),
  dropped: 0,
};

const MOST_ROWS = 4096;
const MOST_STEPS = 16;

interface Draft {
  rows: Map<string, PasidRow>;
  vmOfPid: Map<number, string>;
  vmOfDevice: Map<string, string>;
  dropped: number;
}

type Change = (row: PasidRow, record: EventRecord) => PasidRow;

const HANDLERS: Readonly<Record<string, (draft: Draft, record: EventRecord) => void>> = {
  'vmm:start': (draft, record) => {
    draft.vmOfPid.set(num(record, 'pid'), text(record, 'vm'));
  },
  'iommufd:object_new': (draft, record) => {
    const vm = draft.vmOfPid.get(num(record, 'pid'));
    if (vm === undefined || text(record, 'type') !== 'DEVICE') return;
    draft.vmOfDevice.set(functionName(text(record, 'detail')), vm);
  },
  'guest:iommu_sva_bind_device': byVm((row, record) =>
    stepped({ ...row, pid: num(record, 'pid') }, record, 'bound', row.hwpt),
  ),
  'vmm:vtd_device_attach_hwpt': byVm((row, record) =>
    stepped(row, record, num(record, 'old') === 0 ? 'attached' : 'replaced', num(record, 'hwpt')),
  ),
  'vmm:vtd_device_detach_hwpt': byVm((row, record) => stepped(row, record, 'detached', 0)),
  'vtd:page_request': byUnit((row, record) => ({
    ...row,
    pageRequests: row.pageRequests + 1,
    open: row.open + num(record, 'last'),
  })),
  'vtd:page_group_response': byUnit((row) => ({ ...row, open: Math.max(0, row.open - 1) })),
  'vtd:fault': byUnit((row, record) => ({ ...row, faults: row.faults + num(record, 'recorded') })),
  'dsa:dma': (draft, record) => {
    change(draft, record, vmOf(draft, text(record, 'device')), (row) => ({
      ...row,
      bytes: row.bytes + num(record, 'bytes'),
    }));
  },
};

export function reducePasids(state: PasidsState, batch: readonly EventRecord[]): PasidsState {
  let draft: Draft | undefined;
  for (const record of batch) {
    const handler = HANDLERS[record.def.name];
    if (handler === undefined) continue;
    draft ??= {
      rows: new Map(state.rows),
      vmOfPid: new Map(state.vmOfPid),
      vmOfDevice: new Map(state.vmOfDevice),
      dropped: state.dropped,
    };
    handler(draft, record);
  }
  return draft ?? state;
}

/** The state a PASID is in now; undefined before its first change was seen. */
export const phaseNow = (row: PasidRow): PasidPhase | undefined => row.steps.at(-1)?.phase;

/** Events that name the VM. */
function byVm(next: Change): (draft: Draft, record: EventRecord) => void {
  return (draft, record) => {
    change(draft, record, text(record, 'vm'), next);
  };
}

/** Events of the host's unit, which knows functions only; a virtual unit repeats what it is told. */
function byUnit(next: Change): (draft: Draft, record: EventRecord) => void {
  return (draft, record) => {
    if (text(record, 'unit') !== 'host') return;
    change(draft, record, vmOf(draft, text(record, 'sid')), next);
  };
}

const vmOf = (draft: Draft, device: string): string =>
  draft.vmOfDevice.get(functionName(device)) ?? '';

function change(draft: Draft, record: EventRecord, vm: string, next: Change): void {
  const pasid = num(record, 'pasid');
  if (pasid < 0) return;
  const key = `${vm}/${pasid}`;
  const old = draft.rows.get(key);
  if (old === undefined) makeRoom(draft);
  draft.rows.set(key, next(old ?? newRow(draft, vm, pasid), record));
}

function newRow(draft: Draft, vm: string, pasid: number): PasidRow {
  let device = '';
  for (const [name, owner] of draft.vmOfDevice) if (owner === vm) device = name;
  return {
    vm,
    pasid,
    pid: 0,
    device,
    hwpt: 0,
    steps: [],
    stepCount: 0,
    pageRequests: 0,
    open: 0,
    faults: 0,
    bytes: 0,
  };
}

/** The oldest row that is over goes first, else the oldest. */
function makeRoom(draft: Draft): void {
  if (draft.rows.size < MOST_ROWS) return;
  let victim: string | undefined;
  for (const [key, row] of draft.rows) {
    victim ??= key;
    if (phaseNow(row) === 'detached') {
      victim = key;
      break;
    }
  }
  if (victim === undefined) return;
  draft.rows.delete(victim);
  draft.dropped++;
}

function stepped(
  row: PasidRow,
  { ns, seq }: EventRecord,
  phase: PasidPhase,
  hwpt: number,
): PasidRow {
  return {
    ...row,
    hwpt,
    steps: keepLast(row.steps, [{ phase, ns, hwpt, seq }], MOST_STEPS),
    stepCount: row.stepCount + 1,
  };
}
