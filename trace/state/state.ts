import type { EventRecord } from '../event.ts';
import type { FrameView, Stretch } from '../wire/decoder.ts';
import type { Layout } from '../wire/layout.ts';
import { type ChainState, EMPTY_CHAIN, reduceChain } from './chain.ts';
import { addHits, EMPTY_HARDWARE, type HardwareState, reduceHardware } from './hardware.ts';
import { EMPTY_MACHINES, type MachinesState, reduceMachines } from './machines.ts';
import { EMPTY_OBJECTS, type ObjectsState, reduceObjects } from './objects.ts';
import { EMPTY_PASIDS, type PasidsState, reducePasids } from './pasids.ts';
import { EMPTY_RUN, type RunState, reduceRun } from './run.ts';
import { EMPTY_TABLES, reduceTables, type TablesState } from './tables.ts';

/**
 * What a viewer can know of a run, rebuilt from its events and from nothing else. Every part has a
 * bound. States are values: an old one stays as it was, so going back in time is keeping some.
 */
export interface State {
  /** The last event in it. */
  readonly seq: number;
  readonly run: RunState;
  readonly chain: ChainState;
  readonly pasids: PasidsState;
  readonly machines: MachinesState;
  readonly objects: ObjectsState;
  readonly tables: TablesState;
  readonly hardware: HardwareState;
}

export const EMPTY_STATE: State = {
  seq: 0,
  run: EMPTY_RUN,
  chain: EMPTY_CHAIN,
  pasids: EMPTY_PASIDS,
  machines: EMPTY_MACHINES,
  objects: EMPTY_OBJECTS,
  tables: EMPTY_TABLES,
  hardware: EMPTY_HARDWARE,
};

/** The state after a batch of events, in order. How events are cut into batches changes nothing. */
export function reduceState(state: State, batch: readonly EventRecord[]): State {
  const last = batch.at(-1);
  if (last === undefined) return state;
  return {
    seq: last.seq,
    run: reduceRun(state.run, batch),
    chain: reduceChain(state.chain, batch),
    pasids: reducePasids(state.pasids, batch),
    machines: reduceMachines(state.machines, batch),
    objects: reduceObjects(state.objects, batch),
    tables: reduceTables(state.tables, batch),
    hardware: reduceHardware(state.hardware, batch),
  };
}

/**
 * The state after the events of a frame, up to event `upTo`. Events of the data path are only
 * counted, without decoding each.
 */
export function reduceFrame(
  state: State,
  view: FrameView,
  layouts: readonly Layout[],
  upTo = Infinity,
): State {
  const hits = new Map<string, number>();
  const events = { ...state.chain.events };
  const cold: EventRecord[] = [];
  let counted = 0;
  let { seq } = state;
  let { ns } = state.run;
  for (const stretch of view.stretches) {
    const layout = layouts[stretch.id];
    const within = layout && between(view, stretch, state.seq, upTo);
    if (within === undefined) continue;
    const { from, to, size } = within;
    ({ seq, ns } = view.placeAt(to - size));
    if (layout?.hot === true) {
      view.hotUnits(within, hits);
      events[layout.layer] += (to - from) / size;
      counted += (to - from) / size;
    } else for (let at = from; at < to; at += size) cold.push(view.recordAt(at));
  }
  const counts = counted === 0 ? state : { ...state, chain: { ...state.chain, events } };
  const next = reduceState(counts, cold);
  let { hardware } = next;
  for (const [unit, count] of hits) hardware = addHits(hardware, unit, count);
  return {
    ...next,
    seq,
    run: { ...next.run, ns, events: next.run.events + counted },
    hardware,
  };
}

/** The part of a stretch with the events from after `seq` to `upTo`; undefined: there are none. */
function between(
  view: FrameView,
  { id, from, to, size }: Stretch,
  seq: number,
  upTo: number,
): Stretch | undefined {
  let [first, end] = [from, to];
  while (first < end && view.placeAt(first).seq <= seq) first += size;
  while (first < end && view.placeAt(end - size).seq > upTo) end -= size;
  return first === end ? undefined : { id, from: first, to: end, size };
}

/** A state in JSON: a Map is `{"$map": [[key, value], ...]}`. */
export type StateJson = Readonly<Record<string, unknown>>;

export const stateToJson = (state: State): StateJson => toJson(state) as StateJson;

function toJson(value: unknown): unknown {
  if (value instanceof Map)
    return { $map: [...(value as Map<unknown, unknown>)].map(([key, one]) => [key, toJson(one)]) };
  if (Array.isArray(value)) return value.map((one: unknown) => toJson(one));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .map(([key, one]) => [key, toJson(one)]),
  );
}

/**
 * The state of a snapshot. It comes from a server or a recording that this program trusts as much as
 * the events: what is missing is as in the empty state.
 */
export function stateFromJson(json: StateJson): State {
  const parts = fromJson(json) as Partial<State>;
  return Object.fromEntries(
    Object.entries(EMPTY_STATE).map(([part, empty]) => [
      part,
      merged(empty, parts[part as keyof State]),
    ]),
  ) as unknown as State;
}

function merged(empty: unknown, given: unknown): unknown {
  if (typeof empty !== 'object' || empty === null) return given ?? empty;
  if (typeof given !== 'object' || given === null) return empty;
  return { ...empty, ...given };
}

function fromJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one: unknown) => fromJson(one));
  if (typeof value !== 'object' || value === null) return value;
  if ('$map' in value && Array.isArray(value.$map)) {
    return new Map(value.$map.map((pair: [unknown, unknown]) => [pair[0], fromJson(pair[1])]));
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, fromJson(one)]));
}
