import { Command, Option } from 'commander';
import { Tally } from '../../trace/story/counts.ts';
import { Findings } from '../../trace/story/sanitizer.ts';
import { type Line, Walkthrough } from '../../trace/story/walkthrough.ts';
import { World } from '../scenario/world.ts';
import { Refusal } from './fail.ts';
import { OutputFile, readInput, sameFile } from './files.ts';
import { Keys } from './keys.ts';
import { checkMemory, type MachineOptions, machineOptions, SAMPLE } from './machine.ts';
import { Collected, checkCollector } from './otlp.ts';
import { columns, printed } from './print.ts';
import { Progress } from './progress.ts';
import { makeReport, type Report, summaryLines } from './report.ts';
import {
  bugsOn,
  countText,
  listed,
  printFindings,
  type SanitizeOptions,
  sanitizeOptions,
  scenarioOf,
} from './sanitize.ts';
import { openTraceFile, type TraceFile } from './trace-file.ts';

/** Clock events between two looks at the world outside (signals, the progress line). */
const SLICE = 4096;
/** Virtual time after which a world with a mistake in it is given up. */
const LONGEST_NS = 10_000_000_000;

interface RunOptions extends MachineOptions, SanitizeOptions {
  readonly out?: string;
  readonly trace?: string;
  readonly otlp?: string;
  readonly hits?: boolean;
  readonly restless?: boolean;
  readonly step?: boolean;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

/** `vsva run [FILE]`: the main job on any file. */
export function runCommand(): Command {
  const command = new Command('run')
    .description(
      'Take FILE through the whole vSVA path: a guest process has the accelerator copy and check it' +
        ' under its own PASID. Prints the walkthrough: what the machine did, and what caused what.',
    )
    .summary('take a file through the whole vSVA path')
    .argument('[FILE]', 'any file; - reads standard input; default: a sample')
    .option(
      '--out <OUT>',
      'write the copy, as the guest process sees it (several: OUT.vm0.p0, ...)',
    );
  return sanitizeOptions(machineOptions(command))
    .option('--trace <PATH>', 'keep every event: a recording (PATH.vsva), or JSON lines')
    .option('--restless', "the unit's caches evict and prefetch at random, as hardware may")
    .option('--hits', 'record translations that the IOTLB answered too: many')
    .option('--otlp <URL>', 'send the spans to an OpenTelemetry collector when the run has ended')
    .addOption(new Option('--step', 'wait for a key between phases').conflicts(['quiet', 'json']))
    .addOption(new Option('--quiet', 'print the summary only').conflicts('json'))
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExit code: 0 when every copy was verified, nothing is left over and the sanitizer, if it' +
        '\nwatched, reported nothing (it does so on standard error); 1 when not; 2 when the' +
        '\ncommand line cannot be followed. NO_COLOR is honoured.',
    )
    .action(run);
}

async function run(file: string | undefined, options: RunOptions): Promise<void> {
  if (listed(options)) return;
  const path = file ?? SAMPLE;
  const input = readInput(path, options.mem, (bytes) => checkMemory(bytes, options));
  if (options.step === true && !Keys.available()) {
    throw new Refusal(2, '--step waits for keys, and standard input is not a terminal');
  }
  refuseOverwriting(path, options);
  if (options.otlp !== undefined) checkCollector(options.otlp);
  using interruption = new Interruption();
  const outputs = openOutputs(options);
  using collected = options.otlp === undefined ? undefined : new Collected(options.otlp);
  try {
    const recordings = openRecordings(path, options, collected);
    const report = await walk(path, input, options, outputs, recordings, interruption);
    process.stdout.write(
      options.json === true
        ? `${JSON.stringify(report.json, undefined, 2)}\n`
        : `${summaryLines(report, columns()).join('\n')}\n`,
    );
    printFindings(report.findings);
    await collected?.send();
    if (!report.verified || !report.clean) throw new Refusal(1, failedText(report, options.out));
    if (report.findings.length > 0) throw new Refusal(1, countText(report.findings));
    process.exitCode = 0;
  } finally {
    for (const output of outputs) output.abandon();
  }
}

/** A recording grows as the run goes: what it would destroy cannot be had back. */
function refuseOverwriting(path: string, options: RunOptions): void {
  const { out, trace, hits } = options;
  if (hits === true && trace === undefined) {
    throw new Refusal(2, '--hits needs a recording: --trace PATH.vsva');
  }
  if (out === '-' || trace === '-') {
    const option = out === '-' ? '--out' : '--trace';
    throw new Refusal(2, `${option} needs a file: standard output has the walkthrough`);
  }
  if (trace === undefined) return;
  if (path !== '-' && sameFile(path, trace)) {
    throw new Refusal(2, `--trace would overwrite the file itself: ${path}`);
  }
  for (const name of outputNames(options)) {
    if (sameFile(name, trace)) {
      throw new Refusal(2, `--trace and --out would write the same file: ${name}`);
    }
  }
}

/** One file for each guest process, in the order of `vm`, then process. */
function outputNames({ out, vms, procs }: RunOptions): string[] {
  if (out === undefined) return [];
  if (vms * procs === 1) return [out];
  return Array.from(
    { length: vms * procs },
    (_, i) => `${out}.vm${Math.floor(i / procs)}.p${i % procs}`,
  );
}

function openOutputs(options: RunOptions): OutputFile[] {
  const files: OutputFile[] = [];
  try {
    for (const name of outputNames(options)) files.push(new OutputFile(name));
  } catch (error) {
    for (const file of files) file.abandon();
    throw error;
  }
  return files;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Signals end a run in order: from before its first file is opened until the last is in place. */
class Interruption implements Disposable {
  asked = false;
  readonly now = (): void => {
    this.asked = true;
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.now);
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.now);
  }
}

/** Standard output; stepping, it holds back what a new phase has said until a key is pressed. */
class Screen {
  readonly #steps: boolean;
  #lines = 0;
  #held: string[] = [];

  constructor(steps: boolean) {
    this.#steps = steps;
  }

  /** A phase waits to be shown, and another was shown before it. */
  get holds(): boolean {
    return this.#held.length > 0;
  }

  show(line: Line): void {
    const text = `${printed(line)}\n`;
    const begins = this.#steps && line.kind === 'phase' && this.#lines > 0;
    if (begins || this.holds) this.#held.push(text);
    else process.stdout.write(text);
    this.#lines++;
  }

  release(): void {
    for (const text of this.#held) process.stdout.write(text);
    this.#held = [];
  }
}

/** @throws Refusal when one cannot be written */
function openRecordings(file: string, options: RunOptions, collected?: Collected): TraceFile[] {
  const { trace, hits = false, seed, vms, procs, mem, la57 = false } = options;
  const about = { command: `run ${file}`, options: { seed, vms, procs, mem, la57 } };
  const files: TraceFile[] = [];
  if (trace !== undefined) files.push(openTraceFile(trace, { ...about, hits }));
  if (collected !== undefined) files.push(openTraceFile(collected.path, about));
  return files;
}

/** Runs the world to its end, telling of it as it goes. */
async function walk(
  path: string,
  input: Uint8Array,
  options: RunOptions,
  outputs: readonly OutputFile[],
  recordings: readonly TraceFile[],
  interruption: Interruption,
): Promise<Report> {
  const { mem, seed } = options;
  const scenario = scenarioOf(options);
  const { vms = options.vms, procs = options.procs } = scenario?.twist ?? {};
  const bugs = bugsOn(options);
  const findings = new Findings();
  const tally = new Tally();
  const tells = options.quiet !== true && options.json !== true;
  const watched = options.sanitize ?? (tells || bugs.size > 0);
  const screen = new Screen(options.step === true);
  const story = new Walkthrough((line) => screen.show(line), {
    withVm: vms * procs > 1,
    width: columns(),
  });
  const progress = new Progress(2 * input.length * vms * procs);
  const world = new World({
    seed,
    vms,
    procs,
    guestBytes: mem,
    input,
    fiveLevel: options.la57 === true,
    restlessCaches: options.restless === true,
    ...scenario?.twist,
    bugs,
    sanitize: watched,
    listeners: [
      (record) => {
        tally.add(record);
        findings.add(record);
        progress.add(record);
        if (tells) story.add(record);
      },
      ...recordings.flatMap(({ listeners }) => listeners),
    ],
    sinks: recordings.flatMap(({ sinks }) => sinks),
  });
  const keys = options.step === true ? new Keys() : undefined;
  try {
    let phases = 0;
    for (let more = true; more; ) {
      for (let i = 0; i < SLICE && more && story.phases === phases; i++) more = world.step();
      // A mistake may make somebody wait for ever.
      if (bugs.size > 0 && world.ns > LONGEST_NS) break;
      if (story.phases !== phases) {
        phases = story.phases;
        const waits = keys !== undefined && more && screen.holds;
        if (waits && (await keys.next()) === 'quit') interruption.now();
        screen.release();
      }
      progress.show();
      for (const recording of recordings) recording.flush();
      await new Promise(setImmediate);
      if (interruption.asked) throw new Refusal(1, interruptedText(world.ns, options));
    }
    if (tells) story.end();
    screen.release();
    const result = bugs.size > 0 && !world.done ? world.unfinished() : world.result();
    const shape = { vms, procs, seed, scenario };
    const found = watched ? findings.list : undefined;
    const report = makeReport({ path, input, options: shape, tally, result, findings: found });
    if (report.verified && report.clean) {
      report.outputs.forEach((bytes, i) => {
        outputs[i]?.commit(bytes);
      });
    }
    return report;
  } finally {
    progress.clear();
    for (const recording of recordings) recording.close();
  }
}

function failedText({ verified }: Report, out: string | undefined): string {
  const what = verified ? 'the host still holds something' : 'a copy was not verified';
  return out === undefined ? what : `${what}; nothing was written to ${out}`;
}

function interruptedText(ns: number, { out, trace }: RunOptions): string {
  const missing = out === undefined ? '' : `; nothing was written to ${out}`;
  const kept = trace === undefined ? '' : `; the events so far are in ${trace}`;
  return `interrupted at ${ns} ns of virtual time${missing}${kept}`;
}
