import { Tally } from '../../trace/story/counts.ts';
import { Findings } from '../../trace/story/sanitizer.ts';
import type { Listener } from '../../trace/tracer.ts';
import { SCENARIOS, type ScenarioName } from '../scenario/scenarios.ts';
import type { WorldResult } from '../scenario/world.ts';
import { makeReport, summaryLines } from './report.ts';
import { countText } from './sanitize.ts';

/** What a run was made of, as far as its verdict says. */
export interface Judged {
  readonly path: string;
  readonly input: Uint8Array;
  readonly vms: number;
  readonly procs: number;
  readonly seed: number;
  readonly scenario?: ScenarioName | undefined;
}

/** Judges a run by its events and its result, in one line. */
export interface Verdict {
  readonly listener: Listener;
  text(result: WorldResult): string;
}

export function verdict({ path, input, scenario: name, ...shape }: Judged): Verdict {
  const tally = new Tally();
  const findings = new Findings();
  return {
    listener: (record) => {
      tally.add(record);
      findings.add(record);
    },
    text(result) {
      const options = { ...shape, scenario: name === undefined ? undefined : SCENARIOS[name] };
      const report = makeReport({ path, input, options, tally, result, findings: findings.list });
      const [line = ''] = summaryLines(report, Infinity).filter((text) => text !== '');
      return report.findings.length === 0 ? line : `${line}; ${countText(report.findings)}`;
    },
  };
}
