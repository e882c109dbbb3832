import { Command } from 'commander';
import type { EventRecord } from '../../trace/event.ts';
import { Tally } from '../../trace/story/counts.ts';
import { Findings } from '../../trace/story/sanitizer.ts';
import type { Source } from '../../tui/dashboard.ts';
import { World } from '../scenario/world.ts';
import { Refusal } from './fail.ts';
import { readInput } from './files.ts';
import { checkMemory, type MachineOptions, machineOptions, SAMPLE } from './machine.ts';
import { columns } from './print.ts';
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

/** Clock events at most for one look at the world: some tell nothing, and the keyboard waits. */
const SLICE = 1024;

/** `vsva tui [FILE]`: the world of `vsva run`, on a dashboard. */
export function tuiCommand(): Command {
  const command = new Command('tui')
    .description(
      'Take FILE through the whole vSVA path as `vsva run` does, on a dashboard: the chain from' +
        ' guest to device, every PASID, every event with its causes. The world stops, steps and' +
        ' runs on by keys; ? shows them.',
    )
    .summary('the same on a dashboard, at your own pace')
    .argument('[FILE]', 'any file; default: a sample');
  return sanitizeOptions(machineOptions(command))
    .addHelpText(
      'after',
      '\nExit code: 0 when the run was left or all went well, 1 when a copy was not verified or' +
        '\nsomething is left over, 2 when there is no terminal. NO_COLOR is honoured.',
    )
    .action(tui);
}

type TuiOptions = MachineOptions & SanitizeOptions;

async function tui(file: string | undefined, options: TuiOptions): Promise<void> {
  if (listed(options)) return;
  refuseWithoutTerminal();
  const path = file ?? SAMPLE;
  if (path === '-') {
    throw new Refusal(2, 'the dashboard reads keys from standard input: name a file');
  }
  const input = readInput(path, options.mem, (bytes) => checkMemory(bytes, options));
  const source = new WorldSource(input, options);
  await show(source);
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
  const report = makeReport({ path, input, options: shape, tally, result, ...found });
  process.stdout.write(`${summaryLines(report, columns()).join('\n')}\n`);
  printFindings(report.findings);
  if (!report.verified || !report.clean) throw new Refusal(1, 'the run did not end well');
  if (report.findings.length > 0) throw new Refusal(1, countText(report.findings));
  process.exitCode = 0;
}

/** Without a terminal there is nobody to press keys. CI may well have one, but nobody at it. */
function refuseWithoutTerminal(): void {
  const { CI, TERM } = process.env;
  const inCi = CI !== undefined && !['', '0', 'false'].includes(CI);
  if (process.stdin.isTTY && process.stdout.isTTY && TERM !== 'dumb' && !inCi) return;
  throw new Refusal(2, 'the dashboard needs a terminal; `vsva run` prints the walkthrough instead');
}

/** Signals end the dashboard in order, so that the terminal is given back as it was. */
async function show(source: Source): Promise<void> {
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
  const colours = (process.env['NO_COLOR'] ?? '') === '';
  try {
    await showDashboard(source, { stdin, stdout, colours, signal: ended.signal });
  } finally {
    for (const signal of signals) process.off(signal, abort);
  }
}

/** A world that goes on as events are asked for, and stands still otherwise. */
class WorldSource implements Source {
  readonly world: World;
  readonly tally = new Tally();
  readonly findings = new Findings();
  #kept: EventRecord[] = [];
  /** Events of `#kept` that were handed out. */
  #given = 0;
  #over = false;

  constructor(input: Uint8Array, options: TuiOptions) {
    const { mem, vms, procs, seed, la57 } = options;
    const bugs = bugsOn(options);
    this.world = new World({
      seed,
      vms,
      procs,
      guestBytes: mem,
      input,
      fiveLevel: la57 === true,
      ...scenarioOf(options)?.twist,
      bugs,
      sanitize: options.sanitize ?? bugs.size > 0,
      listeners: [
        (record) => {
          this.tally.add(record);
          this.findings.add(record);
          this.#kept.push(record);
        },
      ],
    });
  }

  get ended(): boolean {
    return this.#over && this.#given === this.#kept.length;
  }

  next(most: number): readonly EventRecord[] {
    if (this.#given === this.#kept.length) {
      this.#kept = [];
      this.#given = 0;
    }
    for (let i = 0; i < SLICE && this.#kept.length - this.#given < most && !this.#over; i++) {
      this.#over = !this.world.step();
    }
    const batch = this.#kept.slice(this.#given, this.#given + most);
    this.#given += batch.length;
    return batch;
  }
}
