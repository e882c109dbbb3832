import { Command } from 'commander';
import type { EventRecord } from '../../trace/event.ts';
import { Recording, RecordingError } from '../../trace/record/reader.ts';
import { Walkthrough } from '../../trace/story/walkthrough.ts';
import type { Palette, Subject, Tour } from '../../tui/dashboard.ts';
import { HistoryPast, HistorySource } from '../../tui/source/history-past.ts';
import { SCENARIOS } from '../scenario/scenarios.ts';
import { World } from '../scenario/world.ts';
import { Refusal, whyNot } from './fail.ts';
import { readInput } from './files.ts';
import { checkMemory, type MachineOptions, machineOptions, SAMPLE } from './machine.ts';
import { columns, printed } from './print.ts';
import { makeReport, summaryLines } from './report.ts';
import {
  bugsOn,
  countText,
  listed,
  printFindings,
  type SanitizeOptions,
  sanitizeOptions,
  scenarioOf,
} from './sanitize.ts';
import { type OpenTour, openTour, TOURS, type TourOptions } from './tours.ts';
import { WorldSource } from './tui-world.ts';

/** `vsva tui [FILE | PATH.vsva | ws://...]`: a run on a dashboard. */
export function tuiCommand(): Command {
  const command = new Command('tui')
    .description(
      'Watch a run on a dashboard: the chain from guest to device, every PASID and its entry, the' +
        ' objects, page requests, queues, every event with its causes, and guided tours. It stops,' +
        ' steps, runs on and goes back by keys; ? shows them. Without a terminal the plain' +
        ' walkthrough is printed.',
    )
    .summary('watch a run on a dashboard, at your own pace')
    .argument(
      '[WHAT]',
      'a file for the guest to copy (default: a sample), a recording (PATH.vsva), or a server' +
        ' (ws://HOST:PORT/)',
    );
  return sanitizeOptions(machineOptions(command))
    .option('--screen-reader', 'sentences instead of a picture (or INK_SCREEN_READER=true)')
    .addHelpText(
      'after',
      '\nExit code: 0 when the run was left or all went well, 1 when a copy was not verified or' +
        '\nsomething is left over, 2 when the command line cannot be followed. NO_COLOR is honoured.',
    )
    .action(tui);
}

interface TuiOptions extends MachineOptions, SanitizeOptions {
  readonly screenReader?: boolean;
}

async function tui(what: string | undefined, options: TuiOptions): Promise<void> {
  if (listed(options)) return;
  const path = what ?? SAMPLE;
  if (/^wss?:\/\//.test(path)) await watchServer(path, options);
  else if (path.endsWith('.vsva')) await watchRecording(path, options);
  else await watchWorld(path, options);
}

async function watchServer(url: string, options: TuiOptions): Promise<void> {
  if (!hasTerminal()) {
    throw new Refusal(2, 'a server is watched on a terminal; `vsva trace` prints recordings');
  }
  if (!URL.canParse(url)) throw new Refusal(2, `${url} is no address: write ws://127.0.0.1:8732/`);
  await show({ url }, options, []);
  process.exitCode = 0;
}

async function watchRecording(path: string, options: TuiOptions): Promise<void> {
  const recording = open(path);
  const past = new HistoryPast(recording, recording.decoder);
  const source = new HistorySource(past, () => recording.close());
  if (hasTerminal()) await show({ source }, options, []);
  else
    tellWalkthrough((story) => {
      for (const record of recording.records()) story.add(record);
    });
  process.exitCode = 0;
}

/** @throws Refusal when it cannot be read */
function open(path: string): Recording {
  try {
    return Recording.open(path);
  } catch (error) {
    if (error instanceof RecordingError) throw new Refusal(1, error.message);
    throw new Refusal(1, `cannot read ${path}: ${whyNot(error)}`);
  }
}

async function watchWorld(path: string, options: TuiOptions): Promise<void> {
  const terminal = hasTerminal();
  if (path === '-' && terminal) {
    throw new Refusal(2, 'the dashboard reads keys from standard input: name a file');
  }
  const input = readInput(path, options.mem, (bytes) => checkMemory(bytes, options));
  const world = worldOptions(input, options);
  if (!terminal) {
    const twisted = scenarioOf(options)?.twist;
    tellWalkthrough((story) => {
      const listeners = [(record: EventRecord): void => story.add(record)];
      const run = new World({ ...world, ...twisted, listeners });
      while (run.step());
    });
    return;
  }
  const { scenario } = options;
  const tour = scenario === undefined || scenario === 'list' ? undefined : scenario;
  const opened: OpenTour =
    tour === undefined ? { source: new WorldSource(world) } : openTour(world, tour);
  const index = tour === undefined ? -1 : TOURS.indexOf(tour);
  await show(opened, options, offered(world), index);
  report(path, input, options, opened.source);
}

/** Every scenario, to be chosen on the dashboard. */
const offered = (world: TourOptions): Tour[] =>
  TOURS.map((name) => ({
    name,
    what: SCENARIOS[name].what,
    open: () => openTour({ ...world, bugs: new Set(), sanitize: true }, name),
  }));

function worldOptions(input: Uint8Array, options: TuiOptions): TourOptions {
  const { mem, vms, procs, seed, la57 } = options;
  const bugs = bugsOn(options);
  return {
    seed,
    vms,
    procs,
    guestBytes: mem,
    input,
    fiveLevel: la57 === true,
    bugs,
    sanitize: options.sanitize ?? bugs.size > 0,
  };
}

/** What came of the run, on the screen that is there again. */
function report(path: string, input: Uint8Array, options: TuiOptions, source: WorldSource): void {
  if (!source.ended) {
    process.stdout.write(`left at ${source.world.ns} ns of virtual time; the run was not over\n`);
    process.exitCode = 0;
    return;
  }
  const { tally, world, findings } = source;
  const scenario = scenarioOf(options);
  const { vms = options.vms, procs = options.procs } = scenario?.twist ?? {};
  const shape = { vms, procs, seed: options.seed, scenario };
  const result = world.done ? world.result() : world.unfinished();
  const found = { findings: findings.list };
  const made = makeReport({ path, input, options: shape, tally, result, ...found });
  process.stdout.write(`${summaryLines(made, columns()).join('\n')}\n`);
  printFindings(made.findings);
  if (!made.verified || !made.clean) throw new Refusal(1, 'the run did not end well');
  if (made.findings.length > 0) throw new Refusal(1, countText(made.findings));
  process.exitCode = 0;
}

/** Without a terminal there is nobody to press keys. CI may well have one, but nobody at it. */
function hasTerminal(): boolean {
  const { CI, TERM } = process.env;
  const inCi = CI !== undefined && !['', '0', 'false'].includes(CI);
  return process.stdin.isTTY && process.stdout.isTTY && TERM !== 'dumb' && !inCi;
}

function tellWalkthrough(run: (story: Walkthrough) => void): void {
  const story = new Walkthrough((line) => process.stdout.write(`${printed(line)}\n`), {
    width: columns(),
  });
  run(story);
  story.end();
}

/** Colours as the terminal has them. */
function palette(): Palette {
  if ((process.env['NO_COLOR'] ?? '') !== '') return 'none';
  const depth = process.stdout.getColorDepth();
  return depth >= 24 ? 'true' : depth >= 4 ? 'sixteen' : 'none';
}

/** Signals end the dashboard in order, so that the terminal is given back as it was. */
async function show(
  subject: Subject,
  options: TuiOptions,
  offered: readonly Tour[],
  tour = -1,
): Promise<void> {
  const ended = new AbortController();
  const abort = (): void => {
    ended.abort();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, abort);
  // React is slower and keeps records for its developer tools unless this is said before it loads.
  process.env['NODE_ENV'] ??= 'production';
  const { showDashboard } = await import('../../tui/dashboard.ts');
  const { stdin, stdout } = process;
  const listens = options.screenReader ?? process.env['INK_SCREEN_READER'] === 'true';
  try {
    await showDashboard(subject, {
      stdin,
      stdout,
      palette: palette(),
      screenReader: listens,
      tours: offered,
      tour,
      signal: ended.signal,
    });
  } finally {
    for (const signal of signals) process.off(signal, abort);
  }
}
