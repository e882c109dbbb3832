/**
 * What a kernel selftest prints: KTAP (Documentation/dev-tools/ktap.rst) as kselftest_harness.h
 * writes it, with a line when a case begins and diagnostics in comments.
 */

export type Outcome = 'pass' | 'fail' | 'skip';

export interface CaseResult {
  readonly name: string;
  readonly outcome: Outcome;
  /** Why it failed or was skipped; empty for a case that passed. */
  readonly reason: string;
  readonly ms: number;
}

const RESULT = /^(ok|not ok)\s+(\d+)(?:\s+-)?\s*(.*)$/;
const PLAN = /^1\.\.(\d+)(?:\s+#\s*SKIP\s*(.*))?$/i;
const RUNS = /^#\s+RUN\s+(\S+)/;
const DIRECTIVE = /^(.*?)\s*#\s*(SKIP|XFAIL|TODO)\b[\s:]*(.*)$/i;
/** What says only that a case has ended. */
const ENDED = /^(?:\S+: )?Test (?:failed|terminated by assertion)|^\s*(?:OK|FAIL|SKIP|XFAIL)\s/;
/** A diagnostic names its source by a path; its last part is enough. */
const SOURCE_PATH = /^(?:[^:\s]*\/)?([^:/\s]+:\d+:)/;
const MAX_REASON = 300;

/** Takes a program's lines as they come, with the time at which each came. */
export class KtapReader {
  /** Cases that the program announced; undefined before it did. */
  plan: number | undefined;
  /** Why the program runs no case at all; undefined if it does. */
  skippedAll: string | undefined;
  /** By number, as they came. */
  readonly results = new Map<number, CaseResult>();
  /** The case that has begun and not ended. */
  running: string | undefined;
  /** Results that no plan allows: a number twice, or outside the plan. */
  readonly strays: string[] = [];
  #since: number;
  #said: string[] = [];

  /** @param now milliseconds */
  constructor(now: number) {
    this.#since = now;
  }

  /** @returns the case that the line ends, if it ends one */
  line(text: string, now: number): CaseResult | undefined {
    const plan = PLAN.exec(text);
    if (plan !== null) {
      this.plan = Number(plan[1]);
      if (this.plan === 0) this.skippedAll = plan[2] ?? '';
      this.#since = now;
      return undefined;
    }
    const runs = RUNS.exec(text);
    if (runs !== null) {
      this.running = runs[1]!;
      this.#said = [];
      return undefined;
    }
    const result = RESULT.exec(text);
    if (result !== null) return this.#result(result[1] === 'ok', result[2]!, result[3]!, now);
    if (this.running !== undefined) this.#said.push(text.replace(/^#\s?/, ''));
    return undefined;
  }

  /** What the case that is running has said so far, in one line. */
  get said(): string {
    const lines = this.#said.filter((line) => line.trim() !== '' && !ENDED.test(line));
    return shorten(lines.map((line) => line.trim().replace(SOURCE_PATH, '$1')).join('; '));
  }

  #result(ok: boolean, number: string, rest: string, now: number): CaseResult {
    const directive = DIRECTIVE.exec(rest);
    const word = directive?.[2]?.toUpperCase();
    const name = directive?.[1] ?? rest;
    const skip = word === 'SKIP';
    const outcome = skip ? 'skip' : ok || word === 'XFAIL' ? 'pass' : 'fail';
    const reason = outcome === 'pass' ? '' : (directive?.[3] ?? '') || this.said;
    const result = { name, outcome, reason: shorten(reason), ms: now - this.#since } as const;
    this.#since = now;
    const index = Number(number);
    const outside = this.plan !== undefined && (index < 1 || index > this.plan);
    if (this.results.has(index) || outside) this.strays.push(`${number} ${name}`);
    if (!this.results.has(index)) this.results.set(index, result);
    this.running = undefined;
    this.#said = [];
    return result;
  }
}

function shorten(text: string): string {
  return text.length <= MAX_REASON ? text : `${text.slice(0, MAX_REASON - 1)}…`;
}
