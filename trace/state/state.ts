import type { EventRecord } from '../event.ts';
import type { FrameView } from '../wire/decoder.ts';
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
  view.scan((id, at) => {
    const layout = layouts[id];
    if (layout === undefined) return;
    const at0 = view.placeAt(at);
    if (at0.seq > upTo || at0.seq <= state.seq) return;
    ({ seq, ns } = at0);
    if (layout.hot !== true) {
      cold.push(view.recordAt(at));
      return;
    }
    const unit = view.hotUnitAt(at);
    hits.set(unit, (hits.get(unit) ?? 0) + 1);
    events[layout.layer]++;
    counted++;
  });
  const counts = { ...state, chain: { ...state.chain, events } };
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

/** A state in JSON: a Map is `{"$map": [[key, value], ...]}`. */
export type StateJson = Readonly<Record<string, unknown>>;

export const stateToJson = (state: State): StateJson => toJson(state) as StateJson;

function toJson(value: unknown): unknown {
  if (value instanceof Map) return { $map: [...value].map(([key, one]) => [key, toJson(one)]) };
  if (Array.isArray(value)) return value.map(toJson);
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
  if (Array.isArray(value)) return value.map(fromJson);
  if (typeof value !== 'object' || value === null) return value;
  if ('$map' in value && Array.isArray(value.$map)) {
    return new Map(value.$map.map((pair: [unknown, unknown]) => [pair[0], fromJson(pair[1])]));
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, fromJson(one)]));
}
