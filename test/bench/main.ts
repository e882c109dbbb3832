/**
 * `npm run bench`: what things cost, measured side by side in one run. Read the ratios: absolute
 * times are the machine's, not the model's.
 */
import { parseArgs } from 'node:util';
import {
  baselineOf,
  better,
  type Fall,
  fallen,
  type Ratios,
  readBaseline,
  TOLERANCE,
  writeBaseline,
} from './baseline.ts';
import { bridge } from './bridge.ts';
import { dma } from './dma.ts';
import { ioas } from './ioas.ts';
import { lifeCycle } from './life-cycle.ts';
import type { Figure, Group } from './measure.ts';
import { pasid } from './pasid.ts';
import { roundTrips } from './round-trips.ts';
import { scaling } from './scaling.ts';
import { stream } from './stream.ts';
import { trace } from './trace.ts';
import { translation } from './translation.ts';

const GROUPS: readonly Group[] = [
  translation,
  dma,
  roundTrips,
  scaling,
  lifeCycle,
  ioas,
  pasid,
  bridge,
  trace,
  stream,
];

/** The groups whose figures the baseline knows. */
const RATIO_GROUPS: readonly Group[] = [translation, dma, trace];

/** Runs of a group at most until its ratios are as good as the baseline. */
const CHECK_RUNS = 4;

const HELP = `Usage: npm run bench -- [--only NAME]... [--quick] [--json] [--check | --update]

  --only NAME  run this group only; may be given several times
  --quick      small sizes and short times
  --json       print {ratios: {KEY: number}, groups: [{name, about, figures: [{name, ratio, of,
               value, unit, key?}]}]}; ratios has the figures with a key
  --check      compare the ratios with the committed baseline (test/bench/baseline.json): run the
               groups that have ratios; what is more than ${TOLERANCE * 100}% below is run again, up to
               ${CHECK_RUNS} times, and its best run counts; exit 1, naming them, when any stays below
  --update     write the ratios into the baseline, the better one of two runs of each
  --help       this text

Groups:
${GROUPS.map(({ name, about }) => `  ${name.padEnd(12)} ${about}`).join('\n')}
`;

const OPTIONS = {
  only: { type: 'string', multiple: true, default: [] as string[] },
  quick: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  check: { type: 'boolean', default: false },
  update: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

class Usage extends Error {}

interface Choice {
  readonly groups: readonly Group[];
  readonly quick: boolean;
  readonly json: boolean;
  readonly check: boolean;
  readonly update: boolean;
  readonly help: boolean;
}

function read(): Choice {
  const parse = () => {
    try {
      return parseArgs({ options: OPTIONS }).values;
    } catch (error) {
      throw new Usage((error as Error).message);
    }
  };
  const { only, quick, json, check, update, help } = parse();
  const unknown = only.find((name) => !GROUPS.some((group) => group.name === name));
  if (unknown !== undefined) throw new Usage(`there is no group '${unknown}'`);
  const all = check || update ? RATIO_GROUPS : GROUPS;
  const groups = only.length === 0 ? all : GROUPS.filter(({ name }) => only.includes(name));
  return { groups, quick, json, check, update, help };
}

/** A line of the terminal that the next one replaces; nothing where there is no terminal. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function show({ name, ratio, of, value, unit }: Figure): string {
  const amount = unit === 'ns' ? `${value.toFixed(0)} ns` : `${value.toFixed(0)} ${unit}`;
  const against = of === name ? '' : `  of ${of}`;
  return `${ratio.toFixed(2).padStart(10)} ${amount.padStart(16)}  ${name}${against}\n`;
}

/** Runs groups; their ratios. */
async function ratiosOf(groups: readonly Group[], quick: boolean): Promise<Ratios> {
  const all: Figure[] = [];
  for (const { name, run } of groups) {
    progress(name);
    all.push(...(await run({ quick, progress: (text) => progress(`${name}: ${text}`) })));
    progress('');
  }
  return baselineOf(all);
}

/** The ratios that stay below the baseline; what is there after a run is run again. */
async function check(groups: readonly Group[], quick: boolean): Promise<Fall[]> {
  const baseline = readBaseline();
  let ratios: Ratios = {};
  let falls: Fall[] = [];
  for (let run = 0; run < CHECK_RUNS; run++) {
    ratios = better(ratios, await ratiosOf(groups, quick));
    falls = fallen(ratios, baseline);
    if (falls.length === 0) break;
  }
  return falls;
}

async function main(): Promise<void> {
  const { groups, quick, json, check: checks, update, help } = read();
  if (help) {
    process.stdout.write(HELP);
    return;
  }
  if (checks) {
    const falls = await check(groups, quick);
    for (const { key, was, is } of falls) {
      process.stdout.write(`${key}: ${is.toFixed(3)}, was ${was.toFixed(3)}\n`);
    }
    if (falls.length === 0) process.stdout.write('no ratio has fallen\n');
    else process.exitCode = 1;
    return;
  }
  if (update) {
    writeBaseline(better(await ratiosOf(groups, quick), await ratiosOf(groups, quick)));
    return;
  }
  const all: { name: string; about: string; figures: readonly Figure[] }[] = [];
  for (const { name, about, run } of groups) {
    progress(name);
    const figures = await run({ quick, progress: (text) => progress(`${name}: ${text}`) });
    progress('');
    all.push({ name, about, figures });
    if (!json) process.stdout.write(`${name}: ${about}\n${figures.map(show).join('')}`);
  }
  if (!json) return;
  const ratios = baselineOf(all.flatMap(({ figures }) => figures));
  process.stdout.write(`${JSON.stringify({ ratios, groups: all })}\n`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Usage)) throw error;
  process.stderr.write(`${error.message}\n\n${HELP}`);
  process.exitCode = 2;
}
