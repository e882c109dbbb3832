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
  readonly unit: 'ns' | 'bytes' | 'per second';
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
