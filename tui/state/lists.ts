import type { ObjectsState } from '../../trace/state/objects.ts';
import type { PasidRow, PasidsState } from '../../trace/state/pasids.ts';
import type { View } from '../keymap.ts';
import type { ErrorsState, Problem } from './errors.ts';
import type { Model } from './model.ts';
import { type ObjectRow, objectRows } from './object-tree.ts';
import { type Page, pageOf } from './page.ts';
import type { Queue, QueuesState, Slot } from './queues.ts';
import type { Trip, TripsState } from './trips.ts';

/** A line of the faults view. */
export type FaultRow =
  | { readonly kind: 'trip'; readonly seq: number; readonly trip: Trip }
  | { readonly kind: 'problem'; readonly seq: number; readonly problem: Problem };

/** A line of the queues view. */
export interface QueueRow {
  readonly queue: Queue;
  /** undefined: the queue's own line. */
  readonly slot: Slot | undefined;
}

/** What was made of some part of the model last: most pictures show the same one again. */
function remembered<K extends object, V>(make: (key: K) => V): (key: K) => V {
  const made = new WeakMap<K, V>();
  return (key) => {
    const old = made.get(key);
    if (old !== undefined) return old;
    const fresh = make(key);
    made.set(key, fresh);
    return fresh;
  };
}

const problemRows = remembered(({ problems }: ErrorsState): readonly FaultRow[] =>
  problems
    .filter(({ expected }) => !expected)
    .map((problem) => ({ kind: 'problem', seq: problem.seq, problem })),
);

const tripRows = remembered(({ trips }: TripsState): readonly FaultRow[] =>
  trips.map((trip) => ({ kind: 'trip', seq: trip.reached[0]?.seq ?? 0, trip })),
);

/** Round trips and errors as they came. */
export const faultRows = remembered((model: Model): readonly FaultRow[] =>
  [...tripRows(model.trips), ...problemRows(model.errors)].sort((a, b) => a.seq - b.seq),
);

export const queueRows = remembered(({ queues }: QueuesState): readonly QueueRow[] =>
  [...queues.values()].flatMap((queue) => [
    { queue, slot: undefined },
    ...queue.slots.toReversed().map((slot) => ({ queue, slot })),
  ]),
);

export const pasidRows = remembered(({ rows }: PasidsState): readonly PasidRow[] => [
  ...rows.values(),
]);

const trees = new WeakMap<ObjectsState, { pasids: PasidsState; rows: readonly ObjectRow[] }>();

export function objectsOf({ objects, pasids }: Model): readonly ObjectRow[] {
  const old = trees.get(objects);
  if (old?.pasids.vmOfPid === pasids.vmOfPid) return old.rows;
  const rows = objectRows(objects, pasids);
  trees.set(objects, { pasids, rows });
  return rows;
}

/** The phase that the moment is in, as a page to read. */
export const phasePage = remembered((model: Model): Page => pageOf(model));

/** Lines that a view's list has. */
export function rowCount(view: View, model: Model): number {
  switch (view) {
    case 'overview':
      return 0;
    case 'pasids':
      return model.pasids.rows.size;
    case 'objects':
      return objectsOf(model).length;
    case 'faults':
      return faultRows(model).length;
    case 'queues':
      return queueRows(model.queues).length;
    case 'trace':
      return model.trace.matches.length;
    case 'walkthrough':
      return phasePage(model).lines.length;
  }
}

/** The event that a line of a list is about, 0 for none. */
export function seqOfRow(view: View, model: Model, row: number): number {
  switch (view) {
    case 'objects':
      return objectsOf(model)[row]?.seq ?? 0;
    case 'faults': {
      const fault = faultRows(model)[row];
      if (fault?.kind === 'trip') return fault.trip.reached.at(-1)?.seq ?? 0;
      return fault?.seq ?? 0;
    }
    case 'queues':
      return queueRows(model.queues)[row]?.slot?.seq ?? 0;
    case 'walkthrough':
      return phasePage(model).lines[row]?.seq ?? 0;
    case 'pasids':
      return pasidRows(model.pasids)[row]?.steps.at(-1)?.seq ?? 0;
    case 'trace':
      return model.trace.matches[row]?.seq ?? 0;
    case 'overview':
      return model.run.lately.at(-1)?.seq ?? 0;
  }
}
