import { Tally } from '../../trace/story/counts.ts';
import type { Listener } from '../../trace/tracer.ts';
import type { WorldOptions, WorldResult } from '../scenario/world.ts';
import { makeReport, summaryLines } from './report.ts';

/** Judges a run by its events and its result, in one line. */
export interface Verdict {
  readonly listener: Listener;
  text(result: WorldResult): string;
}

export function verdict(path: string, options: Omit<WorldOptions, 'listeners'>): Verdict {
  const tally = new Tally();
  return {
    listener: (record) => tally.add(record),
    text(result) {
      const report = makeReport({ path, input: options.input, options, tally, result });
      return summaryLines(report, Infinity).find((line) => line !== '') ?? '';
    },
  };
}
