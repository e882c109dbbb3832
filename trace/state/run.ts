import type { EventRecord } from '../event.ts';
import { phaseOf } from '../story/walkthrough.ts';
import { num } from './fields.ts';
import { type Sentence, sentenceOf } from './notable.ts';

/** A sentence about an event. */
export interface Notable extends Sentence {
  readonly seq: number;
  readonly ns: number;
  /** The event's name. */
  readonly name: string;
  /** Events of this name in a row, of which this is the last. */
  readonly times: number;
}

/** Where the run is. */
export interface RunState {
  /** Virtual time of the last event in nanoseconds. */
  readonly ns: number;
  /** undefined until power-on told it. */
  readonly seed: number | undefined;
  readonly events: number;
  /** Phases begun, and what the last one is. */
  readonly phases: number;
  readonly phase: string;
  /** The last notable things, oldest first. */
  readonly lately: readonly Notable[];
}

const MOST_NOTABLE = 128;

export const EMPTY_RUN: RunState = {
  ns: 0,
  seed: undefined,
  events: 0,
  phases: 0,
  phase: '',
  lately: [],
};

export function reduceRun(state: RunState, batch: readonly EventRecord[]): RunState {
  if (batch.length === 0) return state;
  let { seed, phases, phase } = state;
  const lately = [...state.lately];
  for (const record of batch) {
    const begun = phaseOf(record);
    if (begun !== undefined) {
      phases++;
      phase = begun.who === '' ? begun.title : `${begun.title} (${begun.who})`;
    }
    if (record.def.name === 'engine:power_on') seed = num(record, 'seed');
    const sentence = sentenceOf(record);
    if (sentence !== undefined) note(lately, sentence, record);
  }
  return {
    ns: batch.at(-1)?.ns ?? state.ns,
    seed,
    events: state.events + batch.length,
    phases,
    phase,
    lately: lately.slice(-MOST_NOTABLE),
  };
}

/** Adds a sentence. Page requests come in hundreds: a row of them is one sentence, the last. */
function note(
  lately: Notable[],
  sentence: Sentence,
  { seq, ns, def: { name } }: EventRecord,
): void {
  const last = lately.at(-1);
  const again = name === 'dsa:page_request' && last?.name === name;
  if (again) lately.pop();
  lately.push({ ...sentence, seq, ns, name, times: again ? last.times + 1 : 1 });
  if (lately.length > 2 * MOST_NOTABLE) lately.splice(0, lately.length - MOST_NOTABLE);
}
