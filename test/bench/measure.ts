/** What a group of benchmarks is, and how its figures are taken. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Bench } from 'tinybench';

export interface BenchOptions {
  /** Small sizes and short times: whether it runs, not what it costs. */
  readonly quick: boolean;
  /** Tells the user what is under way. */
  readonly progress: (text: string) => void;
}

export interface Figure {
  readonly name: string;
  /** As a multiple of the figure named `of`. */
  readonly ratio: number;
  readonly of: string;
  readonly value: number;
  readonly unit: 'ns' | 'bytes' | 'events' | 'per second';
  /** What the baseline calls this ratio, of which more is better. */
  readonly key?: string;
}

/** One file of test/bench has one group. */
export interface Group {
  readonly name: string;
  readonly about: string;
  readonly run: (options: BenchOptions) => Promise<readonly Figure[]>;
}

/** Something to time. */
export interface Case {
  readonly name: string;
  /** Operations in one call of `run`, so that the measuring weighs nothing. */
  readonly calls: number;
  readonly run: () => void;
  /** Not timed, around every call of `run`. */
  readonly before?: () => void;
  readonly after?: () => void;
}

/** The median time of one operation of each case, ns. */
export async function measure(
  cases: readonly Case[],
  { quick }: Pick<BenchOptions, 'quick'>,
): Promise<Map<string, number>> {
  const times = quick ? { time: 20, warmupTime: 5 } : { time: 400, warmupTime: 100 };
  const bench = new Bench({ ...times, iterations: 5, warmupIterations: 2, throws: true });
  for (const { name, run, before, after } of cases) {
    bench.add(name, () => run(), {
      beforeEach: () => before?.(),
      afterEach: () => after?.(),
    });
  }
  await bench.run();
  return new Map(
    bench.tasks.map(({ name, result }, n) => {
      if (result.state !== 'completed') throw new Error(`${name}: ${result.state}`);
      return [name, (result.latency.p50 * 1e6) / cases[n]!.calls];
    }),
  );
}

/** A case that is timed elsewhere, such as in another process. */
export interface Outside {
  readonly name: string;
  /** The time of one operation, ns. */
  readonly time: () => number | Promise<number>;
}

/**
 * The shortest time of one operation of each case, ns, of many short turns that all cases take one
 * after the other: what disturbs the machine disturbs them alike, and the shortest turn is the one
 * that was not disturbed.
 */
export async function interleaved(
  cases: readonly (Case | Outside)[],
  { quick }: Pick<BenchOptions, 'quick'>,
): Promise<Map<string, number>> {
  const [warmUp, turns] = quick ? [2, 3] : [12, 60];
  const times = new Map<string, number>(cases.map(({ name }) => [name, Infinity]));
  for (let turn = 0; turn < warmUp + turns; turn++) {
    for (const one of cases) {
      const time = 'time' in one ? await one.time() : timed(one);
      if (turn >= warmUp) times.set(one.name, Math.min(time, times.get(one.name)!));
    }
  }
  return times;
}

function timed({ calls, run, before, after }: Case): number {
  before?.();
  const start = process.hrtime.bigint();
  run();
  const ns = Number(process.hrtime.bigint() - start);
  after?.();
  return ns / calls;
}

/**
 * Speeds as parts of that of the case `of`: its time through theirs. `keys` name the ratios that the
 * committed baseline knows.
 */
export function against(
  times: ReadonlyMap<string, number>,
  of: string,
  keys: Readonly<Record<string, string>> = {},
): Figure[] {
  const unit = times.get(of);
  if (unit === undefined) throw new Error(`no case is called ${of}`);
  return [...times].map(([name, value]) => {
    const figure: Figure = { name, ratio: unit / value, of, value, unit: 'ns' };
    const key = keys[name];
    return key === undefined ? figure : { ...figure, key };
  });
}

/** Times as multiples of that of the case `of`. */
export function figures(times: ReadonlyMap<string, number>, of: string): Figure[] {
  const unit = times.get(of);
  if (unit === undefined) throw new Error(`no case is called ${of}`);
  return [...times].map(([name, value]) => ({ name, ratio: value / unit, of, value, unit: 'ns' }));
}

/** Bytes of the heap in use after a garbage collection. */
export function heapInUse(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  return process.memoryUsage().heapUsed;
}
