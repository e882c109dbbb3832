import type { EventRecord } from '../../trace/event.ts';
import { functionName, hex, num, text } from '../../trace/state/fields.ts';
import { reducer, setNewest } from '../../trace/state/reducer.ts';

export type SlotState = 'waiting' | 'running' | 'done' | 'failed';

/** What stands, or stood, in a queue. */
export interface Slot {
  /** Where in the queue; -1 where no event tells. */
  readonly index: number;
  /** Decoded. */
  readonly descriptor: string;
  /** The first two words, hexadecimal; empty where no event tells. */
  readonly words: readonly string[];
  readonly state: SlotState;
  /** What came of it. */
  readonly outcome: string;
  readonly seq: number;
  readonly ns: number;
}

export type QueueKind = 'invalidation' | 'page request' | 'work';

export interface Queue {
  readonly kind: QueueKind;
  /** `host`, a VM, or a function with the number of its work queue. */
  readonly owner: string;
  /** Oldest first; done ones stay until newer ones need the room. */
  readonly slots: readonly Slot[];
  /** What went through it in all. */
  readonly count: number;
}

export interface QueuesState {
  /** By kind and owner. */
  readonly queues: ReadonlyMap<string, Queue>;
}

interface Draft extends QueuesState {
  queues: Map<string, Queue>;
}

export const EMPTY_QUEUES: QueuesState = { queues: new Map() };

const MOST_QUEUES = 128;
const MOST_SLOTS = 64;

function change(
  draft: Draft,
  kind: QueueKind,
  owner: string,
  next: (slots: readonly Slot[]) => readonly Slot[],
  more: 0 | 1,
): void {
  const key = `${kind}/${owner}`;
  const queue = draft.queues.get(key) ?? { kind, owner, slots: [], count: 0 };
  const slots = next(queue.slots).slice(-MOST_SLOTS);
  const changed = { ...queue, slots, count: queue.count + more };
  if (draft.queues.has(key)) draft.queues.set(key, changed);
  else setNewest(draft.queues, key, changed, MOST_QUEUES);
}

const slotOf = ({ seq, ns }: EventRecord, descriptor: string, rest: Partial<Slot> = {}): Slot => ({
  index: -1,
  descriptor,
  words: [],
  state: 'waiting',
  outcome: '',
  seq,
  ns,
  ...rest,
});

/** The first slot that matches, changed; the slots as they were where none does. */
function changed(
  slots: readonly Slot[],
  matches: (slot: Slot) => boolean,
  to: Partial<Slot>,
): readonly Slot[] | undefined {
  const at = slots.findIndex(matches);
  return at < 0 ? undefined : slots.with(at, { ...slots[at]!, ...to });
}

const wordsOf = (r: EventRecord): readonly string[] => [hex(r, 'qw0'), hex(r, 'qw1')];

const submit = (draft: Draft, r: EventRecord, owner: string): void => {
  const slot = slotOf(r, text(r, 'descriptor'), { index: num(r, 'index'), words: wordsOf(r) });
  change(draft, 'invalidation', owner, (slots) => [...slots, slot], 1);
};

/** Descriptors whose submission no event tells (waits) appear when the unit carries them out. */
function carryOut(draft: Draft, r: EventRecord): void {
  const words = wordsOf(r);
  const dropped = num(r, 'dropped');
  const done = {
    state: 'done',
    outcome: dropped === 0 ? '' : `${dropped} cached entries dropped`,
  } as const;
  const owner = text(r, 'unit');
  const same = (slot: Slot): boolean =>
    slot.state === 'waiting' && slot.words[0] === words[0] && slot.words[1] === words[1];
  const queue = draft.queues.get(`invalidation/${owner}`);
  const after = changed(queue?.slots ?? [], same, done);
  const fresh = (): Slot => slotOf(r, text(r, 'descriptor'), { words, ...done });
  if (after !== undefined) change(draft, 'invalidation', owner, () => after, 0);
  else change(draft, 'invalidation', owner, (slots) => [...slots, fresh()], 1);
}

function requested(draft: Draft, r: EventRecord): void {
  const outcome = text(r, 'outcome');
  const told =
    `page_req ${functionName(text(r, 'sid'))} pasid=${num(r, 'pasid')} ${hex(r, 'address')}` +
    ` ${text(r, 'perm')} prgi=${num(r, 'prgi')}${num(r, 'last') === 1 ? ' last' : ''}`;
  const state = outcome === 'queued' ? 'waiting' : 'failed';
  const slot = slotOf(r, told, { state, outcome: state === 'failed' ? outcome : '' });
  change(draft, 'page request', text(r, 'unit'), (slots) => [...slots, slot], 1);
}

function taken(draft: Draft, r: EventRecord, owner: string, by: string): void {
  const wanted = `pasid=${num(r, 'pasid')} ${hex(r, 'address')} `;
  const group = ` prgi=${num(r, 'prgi')}`;
  const queue = draft.queues.get(`page request/${owner}`);
  const after = changed(
    queue?.slots ?? [],
    ({ state, descriptor }) =>
      state === 'waiting' &&
      descriptor.includes(wanted) &&
      (descriptor.endsWith(group) || descriptor.includes(`${group} `)),
    { state: 'done', outcome: `taken by ${by}` },
  );
  if (after !== undefined) change(draft, 'page request', owner, () => after, 0);
}

const workQueue = (r: EventRecord): string =>
  `${functionName(text(r, 'device'))} wq${num(r, 'wq')}`;

/** The first descriptor of a work queue in such a state, of this PASID, moves on. */
function work(
  draft: Draft,
  r: EventRecord,
  from: SlotState,
  to: Partial<Slot>,
  operation: string,
): void {
  const owner = workQueue(r);
  const queue = draft.queues.get(`work/${owner}`);
  const after = changed(
    queue?.slots ?? [],
    ({ state, descriptor }) =>
      state === from &&
      descriptor.startsWith(`${operation} `) &&
      descriptor.includes(`pasid ${num(r, 'pasid')} `),
    to,
  );
  if (after !== undefined) change(draft, 'work', owner, () => after, 0);
}

export const reduceQueues = reducer<QueuesState, Draft>(
  {
    'intel_iommu:qi_submit': (draft, r) => submit(draft, r, 'host'),
    'guest:qi_submit': (draft, r) => submit(draft, r, text(r, 'vm')),
    'vtd:inv_desc': carryOut,
    'vtd:page_request': requested,
    'intel_iommu:prq_report': (draft, r) => taken(draft, r, 'host', 'the host'),
    'guest:prq_report': (draft, r) => taken(draft, r, text(r, 'vm'), 'the guest'),
    'dsa:desc_accept': (draft, r) =>
      change(
        draft,
        'work',
        workQueue(r),
        (slots) => [...slots, slotOf(r, text(r, 'descriptor'))],
        1,
      ),
    'dsa:desc_start': (draft, r) =>
      work(
        draft,
        r,
        'waiting',
        { state: 'running', outcome: `engine ${num(r, 'engine')}` },
        text(r, 'operation'),
      ),
    'dsa:desc_complete': (draft, r) => {
      const status = text(r, 'status');
      const state = status === 'SUCCESS' ? 'done' : 'failed';
      work(draft, r, 'running', { state, outcome: status.toLowerCase() }, text(r, 'operation'));
    },
  },
  ({ queues }) => ({ queues: new Map(queues) }),
);

export const waitingIn = ({ slots }: Queue): number =>
  slots.filter(({ state }) => state === 'waiting' || state === 'running').length;
