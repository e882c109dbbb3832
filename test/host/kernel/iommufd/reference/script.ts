/**
 * Random programs for /dev/iommu, run on the kernel and on the model side by side. A program is a
 * list of steps with small numbers; what they mean is decided as it runs, mostly something that
 * exists. The log of the run is the program as a human reads it.
 */
import fc from 'fast-check';
import { Refusal } from './areas.ts';
import type { Model } from './model.ts';

/** One step: what to do, and numbers to choose with. */
export interface Step {
  readonly do: string;
  readonly n: readonly number[];
  /** The n-th failure point from here on fails; 0: none. */
  readonly fail: number;
}

/** What a step is in the end: a line of the program, and how both sides do it. */
export interface Call {
  readonly text: string;
  readonly expect: () => unknown;
  /** The result, or the error's name. */
  readonly run: () => unknown;
  /** It is done when the kernel cannot copy the answer out: then there is an error, and a change. */
  readonly stays?: boolean;
  /** What else a lost answer leaves changed in the model. */
  readonly lost?: () => void;
}

/** Makes a call of a step, or null where it would mean nothing. */
export type Meaning = (n: readonly number[]) => Call | null;

export interface Stage {
  readonly model: Model;
  readonly meanings: Readonly<Record<string, Meaning>>;
  /** Throws when what can be seen of the kernel is not what the model says. */
  readonly compare: () => void;
  /** Ends the program; throws when something is left. */
  readonly end: () => void;
  readonly failpoints: {
    failNth(n: number): void;
    disarm(): void;
    readonly armed: boolean;
    readonly passed: readonly string[];
  };
}

/** What programs are made of. */
export interface Language {
  /** Steps, each as often as its weight says. */
  readonly weights: Readonly<Record<string, number>>;
  /** What most programs begin with, so that there is something to work on. */
  readonly preamble: readonly (readonly [name: string, ...n: number[]])[];
}

export function programs({ weights, preamble }: Language, failures: boolean): fc.Arbitrary<Step[]> {
  const fail = failures
    ? fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 12 }))
    : fc.constant(0);
  const numbers = fc.array(fc.nat(19), { minLength: 6, maxLength: 6 });
  const step = fc.oneof(
    ...Object.entries(weights).map(([name, weight]) => ({
      weight,
      arbitrary: fc.record({ do: fc.constant(name), n: numbers, fail }),
    })),
  );
  const first = preamble.map(([name, ...n]) => {
    const there: fc.Arbitrary<Step | null> = fc.constant({ do: name, n, fail: 0 });
    const withCrossShrink = { withCrossShrink: true };
    return fc.oneof(withCrossShrink, fc.constant(null), { weight: 15, arbitrary: there });
  });
  const rest = fc.array(step, { maxLength: 40, size: 'max' });
  return fc
    .tuple(fc.tuple(...first), rest)
    .map(([begin, then]) => [...begin.filter((one) => one !== null), ...then]);
}

/**
 * Tries programs until one goes wrong, makes that as short as possible, and throws it.
 *
 * @param stage a new process for a program, in a new world if the last program spoilt the old one
 */
export function tryPrograms(
  language: Language,
  stage: (spoilt: boolean) => Stage,
  options: { readonly failures: boolean; readonly runs: number; readonly seed: number },
): void {
  const { failures, runs: numRuns, seed } = options;
  let spoilt = true;
  const property = fc.property(programs(language, failures), (program) => {
    const here = stage(spoilt);
    spoilt = true;
    perform(program, here);
    spoilt = false;
  });
  const { failed, errorInstance, counterexamplePath } = fc.check(property, { numRuns, seed });
  if (!failed) return;
  const why = errorInstance instanceof Error ? errorInstance.message : String(errorInstance);
  throw new Error(`${why}\n(seed ${seed}, path ${counterexamplePath ?? ''})`, {
    cause: errorInstance,
  });
}

/** Runs a program; what goes wrong is thrown with the program that led there. */
export function perform(program: readonly Step[], stage: Stage): void {
  const log: string[] = [];
  try {
    for (const step of program) {
      const call = stage.meanings[step.do]!(step.n);
      if (call === null) continue;
      log.push(call.text);
      both(call, step.fail, stage, log);
      stage.compare();
    }
    log.push('exit()');
    stage.end();
  } catch (error) {
    throw new Error(`${(error as Error).message}\nafter\n  ${log.join('\n  ')}`, { cause: error });
  }
}

function both(call: Call, fail: number, stage: Stage, log: string[]): void {
  const { model, failpoints } = stage;
  const before = structuredClone(model.state);
  const expected = model.attempt(call.expect);
  const wanted = expected instanceof Refusal ? expected.message : expected;
  if (fail > 0) failpoints.failNth(fail);
  const result = call.run();
  const at = fail > 0 && !failpoints.armed ? failpoints.passed.at(-1) : undefined;
  failpoints.disarm();
  const failure = at === undefined ? '' : ` with ${at} failing`;
  log.push(`${log.pop()!} = ${show(result)}${failure}`);
  if (at !== undefined && typeof result === 'string' && result !== 'OK') {
    // What was made to fail has failed: all is as before, unless only the answer was lost.
    const lost = at.endsWith('copy_to_user');
    if (!lost || call.stays !== true) model.state = before;
    if (lost) call.lost?.();
    return;
  }
  if (show(result) !== show(wanted)) {
    throw new Error(`the result is ${show(result)}, not ${show(wanted)}`);
  }
}

export function show(value: unknown): string {
  if (value === undefined) return 'OK';
  if (typeof value === 'string') return value;
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'bigint' ? part.toString() : part,
  );
}

/** The n-th of a list, over and over. */
export function pick<T>(list: readonly T[], n: number): T | undefined {
  return list.length === 0 ? undefined : list[n % list.length];
}

export const hex = (value: number): string => `0x${value.toString(16)}`;
