import { num, text } from './fields.ts';
import { reducer } from './reducer.ts';

/** A process of a guest. */
export interface GuestProcess {
  readonly pid: number;
  readonly name: string;
  /** Guest physical address of its top-level page table, in hexadecimal. */
  readonly pgd: string;
  /** -1: not bound. */
  readonly pasid: number;
  /** What it does, in its own words. */
  readonly step: string;
  /** undefined while it runs. */
  readonly code: number | undefined;
}

export interface Vm {
  readonly name: string;
  /** Of the VMM, on the host. */
  readonly pid: number;
  readonly ramBytes: number;
  /** Device file of the function that was assigned. */
  readonly device: string;
  readonly status: 'built' | 'booted' | 'off' | 'gone';
  /** What the guest powered off with. */
  readonly code: number | undefined;
  readonly processes: ReadonlyMap<number, GuestProcess>;
}

/** The virtual machines by name. */
export interface MachinesState {
  readonly vms: ReadonlyMap<string, Vm>;
}

interface Draft extends MachinesState {
  vms: Map<string, Vm>;
}

export const EMPTY_MACHINES: MachinesState = { vms: new Map() };

const MOST_VMS = 256;
const MOST_PROCESSES = 4096;

function change(draft: Draft, name: string, next: (vm: Vm) => Vm): void {
  const vm = draft.vms.get(name) ?? newVm(name);
  if (!draft.vms.has(name) && draft.vms.size >= MOST_VMS) return;
  draft.vms.set(name, next(vm));
}

const newVm = (name: string): Vm => ({
  name,
  pid: 0,
  ramBytes: 0,
  device: '',
  status: 'built',
  code: undefined,
  processes: new Map(),
});

function changeProcess(
  draft: Draft,
  vm: string,
  pid: number,
  next: Partial<Omit<GuestProcess, 'pid'>>,
): void {
  change(draft, vm, (old) => {
    const process = old.processes.get(pid) ?? {
      pid,
      name: '',
      pgd: '0x0',
      pasid: -1,
      step: '',
      code: undefined,
    };
    if (!old.processes.has(pid) && old.processes.size >= MOST_PROCESSES) return old;
    return { ...old, processes: new Map(old.processes).set(pid, { ...process, ...next }) };
  });
}

const hexOf = (value: unknown): string =>
  typeof value === 'number' || typeof value === 'bigint' ? `0x${value.toString(16)}` : '0x0';

export const reduceMachines = reducer<MachinesState, Draft>(
  {
    'vmm:start': (draft, r) =>
      change(draft, text(r, 'vm'), (vm) => ({
        ...vm,
        pid: num(r, 'pid'),
        ramBytes: num(r, 'ramBytes'),
        device: text(r, 'device'),
      })),
    'guest:boot': (draft, r) =>
      change(draft, text(r, 'vm'), (vm) => ({ ...vm, status: 'booted' as const })),
    'guest:power_off': (draft, r) =>
      change(draft, text(r, 'vm'), (vm) => ({
        ...vm,
        status: 'off' as const,
        code: num(r, 'code'),
      })),
    'vmm:stop': (draft, r) =>
      change(draft, text(r, 'vm'), (vm) => ({ ...vm, status: 'gone' as const })),
    'guest:sched_process_exec': (draft, r) =>
      changeProcess(draft, text(r, 'vm'), num(r, 'pid'), {
        name: text(r, 'name'),
        pgd: hexOf(r.values['pgd']),
      }),
    'guest:program': (draft, r) =>
      changeProcess(draft, text(r, 'vm'), num(r, 'pid'), { step: text(r, 'step') }),
    'guest:mm_move_root': (draft, r) =>
      changeProcess(draft, text(r, 'vm'), num(r, 'pid'), { pgd: hexOf(r.values['to']) }),
    'guest:iommu_sva_bind_device': (draft, r) =>
      changeProcess(draft, text(r, 'vm'), num(r, 'pid'), { pasid: num(r, 'pasid') }),
    'guest:iommu_sva_unbind_device': (draft, r) =>
      changeProcess(draft, text(r, 'vm'), num(r, 'pid'), { pasid: -1 }),
    'guest:sched_process_exit': (draft, r) =>
      changeProcess(draft, text(r, 'vm'), num(r, 'pid'), { code: num(r, 'code') }),
  },
  ({ vms }) => ({ vms: new Map(vms) }),
);
