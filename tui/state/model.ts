import type { EventRecord } from '../../trace/event.ts';
import { EMPTY_STATE, reduceState, type State } from '../../trace/state/state.ts';
import { EMPTY_ENTRIES, type EntriesState, reduceEntries } from './entries.ts';
import { EMPTY_ERRORS, type ErrorsState, reduceErrors } from './errors.ts';
import { EMPTY_KNOWN, type KnownState, reduceKnown } from './known.ts';
import { EMPTY_QUEUES, type QueuesState, reduceQueues } from './queues.ts';
import { EMPTY_TRACE, reduceTrace, type TraceState } from './trace.ts';
import { EMPTY_TRIPS, reduceTrips, type TripsState } from './trips.ts';

/** What the views show beside the state that all viewers share. */
export interface Extras {
  readonly trips: TripsState;
  readonly errors: ErrorsState;
  readonly queues: QueuesState;
  readonly entries: EntriesState;
  readonly known: KnownState;
}

/** A moment of the run without the list of events that led to it. */
export interface Moment extends State, Extras {}

/** All that is shown, rebuilt from events and from nothing else. Every part has a bound. */
export interface Model extends Moment {
  readonly trace: TraceState;
}

export const EMPTY_MOMENT: Moment = {
  ...EMPTY_STATE,
  trips: EMPTY_TRIPS,
  errors: EMPTY_ERRORS,
  queues: EMPTY_QUEUES,
  entries: EMPTY_ENTRIES,
  known: EMPTY_KNOWN,
};

export const EMPTY_MODEL: Model = { ...EMPTY_MOMENT, trace: EMPTY_TRACE };

const reduceExtras = (extras: Extras, batch: readonly EventRecord[], state: State): Extras => ({
  trips: reduceTrips(extras.trips, batch, state.pasids),
  errors: reduceErrors(extras.errors, batch),
  queues: reduceQueues(extras.queues, batch),
  entries: reduceEntries(extras.entries, batch),
  known: reduceKnown(extras.known, batch),
});

/** The moment after a batch of events, in order. How events are cut into batches changes nothing. */
export function reduceMoment(moment: Moment, batch: readonly EventRecord[]): Moment {
  if (batch.length === 0) return moment;
  const state = reduceState(moment, batch);
  return { ...state, ...reduceExtras(moment, batch, state) };
}

/** The same where the shared state was reduced already, and of the events some were only counted. */
export const withState = (moment: Extras, state: State, batch: readonly EventRecord[]): Moment => ({
  ...state,
  ...reduceExtras(moment, batch, state),
});

/** A moment that was jumped to: the state there, and as much as the events before it tell. */
export const momentOf = (state: State, events: readonly EventRecord[]): Moment =>
  withState(EMPTY_MOMENT, state, events);

export function reduceModel(model: Model, batch: readonly EventRecord[]): Model {
  if (batch.length === 0) return model;
  return { ...reduceMoment(model, batch), trace: reduceTrace(model.trace, batch) };
}
