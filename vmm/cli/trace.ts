import { Command, InvalidArgumentError } from 'commander';
import { type EventRecord, LAYERS } from '../../trace/event.ts';
import { type Divergence, firstDivergence } from '../../trace/record/diff.ts';
import { PerfettoExport } from '../../trace/record/perfetto.ts';
import { Recording, RecordingError } from '../../trace/record/reader.ts';
import { jsonLine } from '../../trace/story/json-line.ts';
import { kernelLine } from '../../trace/story/kernel-line.ts';
import { timeText } from '../../trace/story/text.ts';
import { type CompiledFilter, compileFilter, type Filter } from '../../trace/wire/filter.ts';
import { Refusal, whyNot } from './fail.ts';
import { OutputFile, sameFile } from './files.ts';
import { sizeText, wholeNumber } from './options.ts';
import { checkCollector, sendSpans } from './otlp.ts';

/** Which events, on the command line. */
interface FilterOptions {
  readonly layer?: string[];
  readonly name?: string[];
  readonly pasid?: number[];
  readonly device?: string[];
  readonly vm?: string[];
  readonly from?: number;
  readonly to?: number;
  readonly seq?: SeqRange;
  readonly json?: boolean;
  readonly count?: boolean;
}

interface SeqRange {
  readonly fromSeq: number;
  readonly toSeq: number;
}

const MOST_SEQ = Number.MAX_SAFE_INTEGER;

/** `vsva trace info|cat|grep|diff|export`: what a recording tells. */
export function traceCommand(): Command {
  const command = new Command('trace')
    .description(
      'Read recordings, which `vsva run --trace PATH.vsva` and other commands make: as text, as JSON' +
        ' lines, in the Perfetto viewer, or compared with one another.',
    )
    .summary('read, search, compare and export recordings')
    .helpCommand(false);
  for (const sub of [infoCommand(), catCommand(), grepCommand(), diffCommand(), exportCommand()]) {
    command.addCommand(sub);
  }
  return command;
}

const RECORDING = 'a recording (.vsva)';

const infoCommand = (): Command =>
  new Command('info')
    .description('Say what a recording holds: who made it, how long it is, what happened in it.')
    .argument('<PATH>', RECORDING)
    .option('--events', 'list the events that it may tell, with their fields')
    .action((path: string, options: { events?: boolean }) => {
      using recording = opened(path);
      print(options.events === true ? eventLines(recording) : infoLines(recording));
    });

const rangeOptions = (command: Command): Command =>
  command
    .option('--from <TIME>', 'virtual time from which on: 1500, 12us, 101.8ms, 1s', timeNs)
    .option('--to <TIME>', 'virtual time up to which, included', timeNs)
    .option('--seq <A..B>', 'events by number: 5, 5..90, 5.., ..90', seqRange)
    .option('--json', 'one JSON object a line');

const catCommand = (): Command =>
  rangeOptions(new Command('cat'))
    .description("Print events, a line each, in the manner of the kernel's trace output.")
    .argument('<PATH>', RECORDING)
    .action(async (path: string, options: FilterOptions) => {
      await printEvents(path, {}, options);
    });

const grepCommand = (): Command =>
  rangeOptions(new Command('grep'))
    .description(
      'Print the events that match all that is asked for. WORDS must all be in the event as it is' +
        ' told, in any case.',
    )
    .argument('<PATH>', RECORDING)
    .argument('[WORDS...]', 'what the text of the event must contain')
    .option('--layer <LAYER>', 'guest, vmm, host, vtd, device or engine', listedLayer)
    .option('--name <NAME>', "an event's name, whole or after the colon; * is any text", listed)
    .option('--pasid <N>', 'events of this PASID', listedNumber)
    .option('--device <BDF>', 'events of this function: 00:01.0', listed)
    .option('--vm <NAME>', 'events of this VM, its virtual unit included: vm0', listed)
    .option('--count', 'print how many match')
    .addHelpText('after', '\nExit code: 0 when an event matched, 1 when none did. Options repeat.')
    .action(grep);

const diffCommand = (): Command =>
  new Command('diff')
    .description(
      'Compare two recordings event by event: where they first differ, and what led there.',
    )
    .argument('<A>', RECORDING)
    .argument('<B>', 'another')
    .option('--ignore-time', 'compare what happened and not when')
    .addHelpText('after', '\nExit code: 0 when they tell the same, 1 when not.')
    .action(diff);

const exportCommand = (): Command =>
  new Command('export')
    .description('Write a recording for another viewer.')
    .argument('<PATH>', RECORDING)
    .option('--perfetto <OUT>', 'a trace that https://ui.perfetto.dev opens')
    .option('--otlp <URL>', 'to an OpenTelemetry collector: http://HOST:4318/v1/traces')
    .action(exportTo);

/** @throws Refusal when it cannot be read */
function opened(path: string): Recording & Disposable {
  try {
    const recording = Recording.open(path);
    return Object.assign(recording, { [Symbol.dispose]: () => recording.close() });
  } catch (error) {
    if (error instanceof RecordingError) throw new Refusal(1, error.message);
    throw new Refusal(1, `cannot read ${path}: ${whyNot(error)}`);
  }
}

const print = (lines: readonly string[]): void => {
  process.stdout.write(lines.map((line) => `${line}\n`).join(''));
};

function infoLines(recording: Recording): string[] {
  const { about } = recording;
  const { bytes, events, frames, snapshots, whole, lostBytes, meta } = about;
  const state = recording.stateAt(about.lastSeq);
  const each = events === 0 ? '' : `, ${(bytes / events).toFixed(1)} bytes each`;
  const layers = Object.entries(state.chain.events)
    .filter(([, count]) => count > 0)
    .map(([layer, count]) => `${count} ${layer}`);
  const told = Object.entries(meta.options).map(([key, value]) => `${key} ${String(value)}`);
  return [
    about.path,
    `  made by   ${meta.program}: ${meta.command} (${told.join(', ')})`,
    `  events    ${events}: #${about.firstSeq} to #${about.lastSeq}${each}`,
    `            ${layers.join(', ')}`,
    `  time      ${timeText(about.firstNs)} to ${timeText(about.lastNs)} of virtual time`,
    `  file      ${sizeText(bytes)}, ${frames} frames, ${snapshots} snapshots`,
    whole
      ? '            whole'
      : `            cut off: the run did not end well; ${lostBytes} bytes at the end are lost`,
    `  machines  ${[...state.machines.vms.keys()].join(', ') || 'none'}; ${state.pasids.rows.size} PASIDs`,
  ];
}

const eventLines = ({ layouts }: Recording): string[] =>
  layouts.flatMap(({ name, meaning, fields }) => [
    `${name}: ${meaning}`,
    `    ${fields.map((field) => `${field.name} (${field.kind})`).join(', ')}`,
  ]);

async function grep(path: string, words: string[], options: FilterOptions): Promise<void> {
  const { layer, name, pasid, device, vm } = options;
  const filter: Filter = {
    layers: layer,
    names: name,
    pasids: pasid,
    devices: device,
    vms: vm,
    text: words.join(' '),
  };
  const count = await printEvents(path, filter, options);
  if (options.count === true) print([`${count}`]);
  process.exitCode = count === 0 ? 1 : 0;
}

/** Prints what passes and returns how many that were. Memory does not grow with the recording. */
async function printEvents(path: string, filter: Filter, options: FilterOptions): Promise<number> {
  using recording = opened(path);
  const passes = compileFilter(recording.layouts, filter);
  refuseUnknown(passes);
  const range = { ...options.seq, fromNs: options.from, toNs: options.to };
  const lineOf = options.json === true ? jsonLine : kernelLine;
  let count = 0;
  let text = '';
  try {
    for (const record of recording.records(range, passes.mayPass)) {
      if (!passes.matches(record)) continue;
      count++;
      if (options.count === true) continue;
      text += `${lineOf(record)}\n`;
      if (text.length < CHUNK) continue;
      await written(text);
      text = '';
    }
  } catch (error) {
    await written(text);
    if (error instanceof RecordingError) throw new Refusal(1, error.message);
    throw error;
  }
  await written(text);
  return count;
}

/** Characters printed at once. */
const CHUNK = 1 << 16;

const written = (text: string): Promise<void> =>
  new Promise((resolve) => {
    if (process.stdout.write(text)) resolve();
    else process.stdout.once('drain', resolve);
  });

function refuseUnknown({ unknown }: CompiledFilter): void {
  const [name] = unknown;
  if (name === undefined) return;
  throw new Refusal(2, `no event is named ${name}: \`vsva trace info --events\` lists them`);
}

function diff(a: string, b: string, { ignoreTime }: { ignoreTime?: boolean }): void {
  using one = opened(a);
  using other = opened(b);
  let found: Divergence | undefined;
  try {
    found = firstDivergence(one, other, { ignoreTime: ignoreTime === true });
  } catch (error) {
    if (error instanceof RecordingError) throw new Refusal(1, error.message);
    throw error;
  }
  if (found === undefined) {
    print([`the same: ${one.about.events} events`]);
    return;
  }
  print(diffLines(found, one, other));
  process.exitCode = 1;
}

function diffLines(
  { common, same, a, b, fields, told }: Divergence,
  one: Recording,
  other: Recording,
) {
  const side = (sign: string, record: EventRecord | undefined, { about }: Recording): string =>
    record === undefined ? `${sign} (${about.path} ends here)` : `${sign} ${kernelLine(record)}`;
  const causes = (recording: Recording, record: EventRecord | undefined): EventRecord[] =>
    record === undefined || record.cause === 0 ? [] : recording.causes(record.cause);
  const [before, after] = [causes(one, a), causes(other, b)];
  // What differs there is told already.
  const compared = (records: readonly EventRecord[]): string =>
    records.flatMap((record) => (record.seq === 1 ? [] : kernelLine(record))).join('\n');
  const alike = compared(before) === compared(after);
  const chain = (title: string, records: readonly EventRecord[]): string[] =>
    records.length === 0 ? [] : [title, ...records.map((record) => `  ${kernelLine(record)}`)];
  const parameters = told.map(({ field, a: x, b: y }) => `told differently: ${field} ${x} | ${y}`);
  if (a === undefined && b === undefined) return [...parameters, 'otherwise the same'];
  return [
    ...parameters,
    same === 0
      ? 'they differ from the first event on'
      : `${same} events alike, up to #${common!.seq} ${common!.def.name}; then:`,
    side('-', a, one),
    side('+', b, other),
    ...fields.map((field) => `    ${field.field}: ${field.a} | ${field.b}`),
    ...(alike
      ? chain('what led there, in both:', before)
      : [
          ...chain(`what led there, in ${one.about.path}:`, before),
          ...chain(`in ${other.about.path}:`, after),
        ]),
  ];
}

async function exportTo(path: string, options: { perfetto?: string; otlp?: string }) {
  const { perfetto, otlp } = options;
  if (perfetto === undefined && otlp === undefined) {
    throw new Refusal(2, 'say where to: --perfetto OUT or --otlp URL');
  }
  if (perfetto !== undefined) exportPerfetto(path, perfetto);
  if (otlp !== undefined) await exportToCollector(path, otlp);
}

async function exportToCollector(path: string, url: string): Promise<void> {
  checkCollector(url);
  using recording = opened(path);
  print([`${await sendSpans(recording, url)} spans sent to ${url}`]);
}

function exportPerfetto(path: string, out: string): void {
  if (sameFile(path, out))
    throw new Refusal(2, `--perfetto would overwrite the recording: ${path}`);
  using recording = opened(path);
  const file = new OutputFile(out);
  try {
    file.commitAll(new PerfettoExport(recording).chunks());
  } catch (error) {
    if (error instanceof RecordingError) throw new Refusal(1, error.message);
    throw error;
  } finally {
    file.abandon();
  }
}

const listed = (text: string, before: string[] = []): string[] => [...before, text];

const listedLayer = (text: string, before?: string[]): string[] => {
  if (LAYERS.some((layer) => layer === text)) return listed(text, before);
  throw new InvalidArgumentError(`The layers are ${LAYERS.join(', ')}.`);
};

const listedNumber = (text: string, before: number[] = []): number[] => [
  ...before,
  wholeNumber(0, 2 ** 20 - 1)(text),
];

const UNITS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 };

/** A virtual time: a number with or without a unit; nanoseconds. */
function timeNs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ns|us|ms|s)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Write it like 1500, 12us, 101.8ms or 1s.');
  return Math.round(Number(match[1]) * UNITS[match[2] ?? 'ns']!);
}

function seqRange(text: string): SeqRange {
  const match = /^(\d*)(\.\.)?(\d*)$/.exec(text);
  if (match === null || (match[1] === '' && match[3] === '')) {
    throw new InvalidArgumentError('Write it like 5, 5..90, 5.. or ..90.');
  }
  const [, first = '', dots, last = ''] = match;
  const fromSeq = Number(first);
  if (dots === undefined) return { fromSeq, toSeq: fromSeq };
  return { fromSeq, toSeq: last === '' ? MOST_SEQ : Number(last) };
}
