import type { EventRecord } from '../../trace/event.ts';
import { type ChainState, EMPTY_CHAIN, reduceChain } from '../../trace/state/chain.ts';
import { EMPTY_PASIDS, type PasidsState, reducePasids } from '../../trace/state/pasids.ts';
import { EMPTY_RUN, type RunState, reduceRun } from '../../trace/state/run.ts';
import { EMPTY_TRACE, reduceTrace, type TraceState } from './trace.ts';

/** All that is shown, rebuilt from events and from nothing else. Every part has a bound. */
export interface Model {
  readonly run: RunState;
  readonly chain: ChainState;
  readonly pasids: PasidsState;
  readonly trace: TraceState;
}

export const EMPTY_MODEL: Model = {
  run: EMPTY_RUN,
  chain: EMPTY_CHAIN,
  pasids: EMPTY_PASIDS,
  trace: EMPTY_TRACE,
};

/** The model after a batch of events, in order. How events are cut into batches changes nothing. */
export const reduceModel = (model: Model, batch: readonly EventRecord[]): Model => ({
  run: reduceRun(model.run, batch),
  chain: reduceChain(model.chain, batch),
  pasids: reducePasids(model.pasids, batch),
  trace: reduceTrace(model.trace, batch),
});
