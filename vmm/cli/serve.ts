import { MessageChannel, Worker } from 'node:worker_threads';
import { Command, Option } from 'commander';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { RecordingWriter } from '../../trace/record/writer.ts';
import { LiveHistory } from '../../trace/stream/live-history.ts';
import type { StreamServer } from '../../trace/stream/server.ts';
import { LiveEngine, type Report, type Thread } from '../../trace/stream/thread.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { type Schema, schemaOf } from '../../trace/wire/layout.ts';
import { createRing, RingReader } from '../../trace/wire/ring.ts';
import type { EngineData } from './engine-thread.ts';
import { Refusal, whyNot } from './fail.ts';
import { readInput, sameFile } from './files.ts';
import { checkMemory, type MachineOptions, machineOptions, SAMPLE } from './machine.ts';
import { memorySize } from './options.ts';
import { bugsOn, listed, type SanitizeOptions, sanitizeOptions, scenarioOf } from './sanitize.ts';
import { serveProgram } from './serve-exec.ts';
import {
  announce,
  interrupted,
  listen,
  newServer,
  type ServeOptions,
  serveOptions,
} from './server.ts';
import { PROGRAM } from './version.ts';

const DEFAULT_HISTORY = 2 ** 30;

interface ServeRunOptions extends MachineOptions, SanitizeOptions, ServeOptions {
  readonly history: number;
  readonly paused?: boolean;
  readonly trace?: string;
}

/** `vsva serve [FILE]`: a run with its trace as a stream, and a page that shows it. */
export function serveCommand(): Command {
  const command = new Command('serve')
    .description(
      'Take FILE through the whole vSVA path as `vsva run` does, and stream its trace over a' +
        ' websocket (docs/protocol.md) to any number of viewers. One of them is a page that this' +
        ' command serves: open the address that it prints. Runs until it is interrupted.',
    )
    .summary('stream the trace to viewers, and serve a page that shows it')
    .argument('[FILE]', 'any file; default: a sample')
    .argument('[ARGS...]', 'after -- exec: options of `vsva exec`, PROGRAM and its arguments');
  return serveOptions(sanitizeOptions(machineOptions(command)))
    .option('--paused', 'wait for a viewer to resume before the first event')
    .option('--trace <PATH.vsva>', 'keep every event in a recording too')
    .addOption(
      new Option('--history <SIZE>', 'bytes of trace on disk that viewers can go back in')
        .argParser(memorySize)
        .default(DEFAULT_HISTORY, '1G'),
    )
    .addHelpText(
      'after',
      '\n`vsva serve -- exec PROGRAM ARGS...` streams the run of a real program (see `vsva exec`).' +
        '\n\nExit code: that of the program, else 0 when it was interrupted and the run had not failed, 1 when the run failed or' +
        '\nthe port cannot be had, 2 when the command line cannot be followed.',
    )
    .action(serve);
}

async function serve(
  file: string | undefined,
  args: readonly string[],
  options: ServeRunOptions,
  command: Command,
): Promise<void> {
  if (listed(options)) return;
  if (file === 'exec' && args.length > 0) return serveProgram(args, options, command);
  if (args.length > 0) {
    throw new Refusal(2, `one FILE, or: vsva serve -- exec PROGRAM ARGS...; not ${args.join(' ')}`);
  }
  const path = file ?? SAMPLE;
  checkTrace(path, options);
  const input = readInput(path, options.mem, (bytes) => checkMemory(bytes, options));
  const schema = schemaOf(CATALOGUE);
  const decoder = new FrameDecoder(schema, CATALOGUE);
  const history = new LiveHistory({ decoder, limit: options.history });
  const ring = createRing();
  const bell = new SharedArrayBuffer(4);
  const { port1, port2 } = new MessageChannel();
  const thread: Thread = {
    tell(command) {
      port1.postMessage(command);
      Atomics.add(new Int32Array(bell), 0, 1);
      Atomics.notify(new Int32Array(bell), 0);
    },
  };
  const engine = new LiveEngine('live', history, thread, options.speed ?? null);
  const server = newServer(engine, decoder, schema, options);
  const recording = await listenThen(server, options, () => openRecording(path, schema, options));
  const world = new Worker(new URL('./engine-thread.ts', import.meta.url), {
    workerData: engineData(path, input, options, { ring, bell, commands: port2 }),
    transferList: [port2],
  });
  world.on('message', (report: Report) => engine.report(report));
  world.on('error', (error: unknown) => {
    engine.fail(whyNot(error));
  });
  announce(server, engine);
  const keep = recording && ((frame: Uint8Array): void => recording.write(frame));
  void engine.collect(new RingReader(ring), keep);
  await interrupted();
  await world.terminate();
  await server.close();
  engine.close();
  recording?.close();
  port1.close();
  if (engine.state === 'failed') throw new Refusal(1, engine.reason ?? 'the run failed');
}

function engineData(
  path: string,
  input: Uint8Array,
  options: ServeRunOptions,
  links: Pick<EngineData, 'ring' | 'bell' | 'commands'>,
): EngineData {
  const { mem, seed, la57, paused } = options;
  const twist = scenarioOf(options)?.twist;
  const { vms = options.vms, procs = options.procs } = twist ?? {};
  const bugs = bugsOn(options);
  const scenario = options.scenario === 'list' ? undefined : options.scenario;
  return {
    ...links,
    world: {
      seed,
      vms,
      procs,
      guestBytes: mem,
      input,
      fiveLevel: la57 === true,
      ...twist,
      bugs,
      sanitize: options.sanitize ?? bugs.size > 0,
    },
    judged: { path, input, vms, procs, seed, scenario },
    paused: paused === true,
    speed: options.speed ?? null,
  };
}

/** What is made when the port is there; without it the port is let go again. */
async function listenThen<T>(
  server: StreamServer,
  options: ServeOptions,
  make: () => T,
): Promise<T> {
  await listen(server, options);
  try {
    return make();
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** @throws Refusal when it is no recording, or the file itself */
function checkTrace(path: string, { trace }: ServeRunOptions): void {
  if (trace === undefined) return;
  if (!trace.endsWith('.vsva')) {
    throw new Refusal(2, `--trace needs a recording here, PATH.vsva: ${trace}`);
  }
  if (path !== '-' && sameFile(path, trace)) {
    throw new Refusal(2, `--trace would overwrite the file itself: ${path}`);
  }
}

/** @throws Refusal when it cannot be written */
function openRecording(
  path: string,
  schema: Schema,
  options: ServeRunOptions,
): RecordingWriter | undefined {
  const { trace, seed, vms, procs, mem, la57 = false } = options;
  if (trace === undefined) return undefined;
  try {
    const told = { seed, vms, procs, mem, la57 };
    return new RecordingWriter(trace, {
      schema,
      program: PROGRAM,
      command: `serve ${path}`,
      options: told,
    });
  } catch (error) {
    throw new Refusal(1, `cannot write ${trace}: ${whyNot(error)}`);
  }
}
