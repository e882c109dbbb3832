import type { EventRecord } from '../event.ts';
import { functionName, hex, num, text } from './fields.ts';

/** How a sentence is meant: its sign and colour. */
export type Weight = 'plain' | 'good' | 'bad';

export interface Sentence {
  readonly weight: Weight;
  readonly text: string;
}

type Teller = (record: EventRecord) => Sentence | undefined;

const plain = (words: string): Sentence => ({ weight: 'plain', text: words });
const good = (words: string): Sentence => ({ weight: 'good', text: words });
const bad = (words: string): Sentence => ({ weight: 'bad', text: words });

const who = (record: EventRecord): string => `${text(record, 'vm')} process ${num(record, 'pid')}`;
const where = (record: EventRecord): string => functionName(text(record, 'device'));

const TELLERS: Readonly<Record<string, Teller>> = {
  'engine:power_on': (r) =>
    plain(`The machine is switched on with ${num(r, 'functions')} accelerator(s).`),
  'host:boot': () => plain('The host kernel is up.'),
  'vmm:start': (r) =>
    plain(`The VMM of ${text(r, 'vm')} builds a machine around ${text(r, 'device')}.`),
  'guest:boot': (r) => plain(`The guest kernel of ${text(r, 'vm')} starts.`),
  'guest:intel_iommu_init': (r) => plain(`${text(r, 'vm')} switched its virtual VT-d unit on.`),
  'guest:program': (r) => plain(`${who(r)}: ${text(r, 'step')}.`),
  'guest:iommu_sva_bind_device': (r) =>
    good(`${who(r)} bound its address space to ${text(r, 'rid')} as PASID ${num(r, 'pasid')}.`),
  'guest:iommu_sva_unbind_device': (r) => plain(`${who(r)} unbound PASID ${num(r, 'pasid')}.`),
  'guest:mm_move_root': (r) =>
    plain(`${who(r)} moved to another top-level page table, at ${hex(r, 'to')}.`),
  'iommu:attach_device_pasid': (r) =>
    good(`The host attached PASID ${num(r, 'pasid')} of ${where(r)} to ${text(r, 'domain')}.`),
  'iommu:replace_device_pasid': (r) =>
    good(
      `The host replaced ${text(r, 'from')} by ${text(r, 'to')} under PASID ${num(r, 'pasid')}` +
        ` of ${where(r)}.`,
    ),
  'iommu:detach_device_pasid': (r) =>
    plain(`The host detached PASID ${num(r, 'pasid')} of ${where(r)} from ${text(r, 'domain')}.`),
  'dsa:page_request': (r) =>
    plain(`${where(r)} asks for page ${hex(r, 'address')} under PASID ${num(r, 'pasid')}.`),
  'guest:completion': (r) =>
    text(r, 'status') === 'SUCCESS'
      ? undefined
      : bad(`${who(r)}: ${text(r, 'operation')} ended with ${text(r, 'status')}.`),
  'syscalls:sys_exit_ioctl': (r) =>
    text(r, 'result').startsWith('-')
      ? bad(`${text(r, 'name')} was refused with ${text(r, 'result')}: ${text(r, 'reason')}`)
      : undefined,
  'vmm:error_report': (r) =>
    bad(`The VMM of ${text(r, 'vm')} could not ${text(r, 'what')}: ${text(r, 'error')}.`),
  'iommufd:auto_response': (r) =>
    bad(`The host answered an open page request of PASID ${num(r, 'pasid')} itself: INVALID.`),
  'vtd:fault': (r) =>
    num(r, 'recorded') === 0
      ? undefined
      : bad(`${text(r, 'sid')} faulted at ${hex(r, 'address')}: ${text(r, 'reason')}.`),
  'vtd:inv_queue_error': (r) => bad(`An invalidation queue stopped: ${text(r, 'error')}.`),
  'dsa:swerr': (r) => bad(`${where(r)} reported a software error: ${text(r, 'error')}.`),
  'guest:sched_process_exit': (r) =>
    num(r, 'code') === 0
      ? plain(`${who(r)} ended.`)
      : bad(`${who(r)} ended with code ${num(r, 'code')}.`),
  'guest:power_off': (r) => plain(`The guest ${text(r, 'vm')} powers off.`),
  'engine:settled': () => good('Every program has ended and nothing is left to happen.'),
  'host:leftovers': (r) => {
    const held = Object.entries(r.values).filter(([, value]) => Number(value) !== 0);
    if (held.length === 0) return good('The run ended and the host holds nothing any more.');
    return bad(`The host still holds ${held.map(([kind, n]) => `${n} ${kind}`).join(', ')}.`);
  },
};

/** The event in a sentence, if it is one that somebody who looks on would want to hear of. */
export const sentenceOf = (record: EventRecord): Sentence | undefined =>
  TELLERS[record.def.name]?.(record);
