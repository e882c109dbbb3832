import type { EventRecord, Layer } from '../../trace/event.ts';
import { functionName, hex, keepLast, num, text } from '../../trace/state/fields.ts';

/** Something that went wrong, or was refused, and why. */
export interface Problem {
  readonly seq: number;
  readonly ns: number;
  readonly layer: Layer;
  readonly what: string;
  readonly why: string;
  /** Part of the course: a device asks, is told no, and asks for the page. */
  readonly expected: boolean;
}

export interface ErrorsState {
  /** Oldest first. */
  readonly problems: readonly Problem[];
  /** How many there were in all; of these, expected ones. */
  readonly count: number;
  readonly expected: number;
}

export const EMPTY_ERRORS: ErrorsState = { problems: [], count: 0, expected: 0 };

const MOST_PROBLEMS = 512;

type Teller = (record: EventRecord) => readonly [what: string, why: string, expected?: true] | null;

const device = (r: EventRecord): string =>
  functionName(text(r, 'sid') || text(r, 'device') || text(r, 'rid'));

const place = (r: EventRecord): string => {
  const pasid = num(r, 'pasid');
  return `${device(r)}${pasid < 0 ? '' : ` PASID ${pasid}`} at ${hex(r, 'address')}`;
};

const TELLERS: Readonly<Record<string, Teller>> = {
  'vtd:fault': (r) =>
    num(r, 'recorded') === 1
      ? [`fault: ${text(r, 'request')} of ${place(r)}`, text(r, 'reason')]
      : [`not translated: ${place(r)}`, text(r, 'reason'), true],
  'vtd:inv_queue_error': (r) => [
    `invalidation queue of ${text(r, 'unit')} stopped`,
    text(r, 'error'),
  ],
  'vtd:page_request': (r) =>
    text(r, 'outcome') === 'queued'
      ? null
      : [`page request of ${place(r)} not queued`, text(r, 'outcome')],
  'syscalls:sys_exit_ioctl': (r) =>
    text(r, 'result').startsWith('-')
      ? [`${text(r, 'name')}: ${text(r, 'result')}`, text(r, 'reason')]
      : null,
  'syscall:refused': (r) => [`${text(r, 'call')}: ${text(r, 'result')}`, text(r, 'reason')],
  'vmm:error_report': (r) => [`${text(r, 'vm')}: ${text(r, 'what')}`, text(r, 'error')],
  'iommufd:auto_response': (r) => [
    `open page request of ${device(r)} PASID ${num(r, 'pasid')} answered INVALID`,
    'its attachment went',
  ],
  'dsa:swerr': (r) => [`software error of ${place(r)}`, text(r, 'error')],
  'dsa:desc_complete': (r) =>
    text(r, 'status') === 'SUCCESS'
      ? null
      : [`${text(r, 'operation')} of ${device(r)} PASID ${num(r, 'pasid')}`, text(r, 'status')],
  'guest:handle_mm_fault': (r) =>
    ['mapped', 'present', ''].includes(text(r, 'result'))
      ? null
      : [`page fault of process ${num(r, 'pid')} at ${hex(r, 'address')}`, text(r, 'result')],
  'iommu_san:report': (r) => [text(r, 'meaning'), text(r, 'missing') || text(r, 'kind')],
};

export function reduceErrors(state: ErrorsState, batch: readonly EventRecord[]): ErrorsState {
  let { expected } = state;
  const more: Problem[] = [];
  for (const record of batch) {
    const told = TELLERS[record.def.name]?.(record);
    if (told === undefined || told === null) continue;
    const { seq, ns, def } = record;
    const [what, why, isExpected = false] = told;
    more.push({ seq, ns, layer: def.layer, what, why, expected: isExpected });
    if (isExpected) expected++;
  }
  if (more.length === 0) return state;
  return {
    problems: keepLast(state.problems, more, MOST_PROBLEMS),
    count: state.count + more.length,
    expected,
  };
}
