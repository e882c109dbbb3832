import { MessageChannel, Worker } from 'node:worker_threads';
import { Command, Option } from 'commander';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { LiveHistory } from '../../trace/stream/live-history.ts';
import { LiveEngine, type Report } from '../../trace/stream/thread.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { createRing, RingReader } from '../../trace/wire/ring.ts';
import type { EngineData } from './engine-thread.ts';
import { Refusal, whyNot } from './fail.ts';
import { readInput } from './files.ts';
import { checkMemory, type MachineOptions, machineOptions, SAMPLE } from './machine.ts';
import { memorySize } from './options.ts';
import { serveProgram } from './serve-exec.ts';
import {
  announce,
  interrupted,
  listen,
  newServer,
  type ServeOptions,
  serveOptions,
} from './server.ts';

const DEFAULT_HISTORY = 2 ** 30;

interface ServeRunOptions extends MachineOptions, ServeOptions {
  readonly history: number;
  readonly paused?: boolean;
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
    .argument('[FILE]', 'any file; default: a sample; `exec`: a real program, as below')
    .argument('[ARGS...]', 'after -- exec: options of `vsva exec`, PROGRAM and its arguments');
  return serveOptions(machineOptions(command))
    .passThroughOptions()
    .option('--paused', 'wait for a viewer to resume before the first event')
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
): Promise<void> {
  if (file === 'exec' && args.length > 0) return serveProgram(args, options, options.history);
  if (args.length > 0) {
    throw new Refusal(2, `one FILE, or: vsva serve -- exec PROGRAM ARGS...; not ${args.join(' ')}`);
  }
  const path = file ?? SAMPLE;
  const input = readInput(path, options.mem, (bytes) => checkMemory(bytes, options));
  const schema = schemaOf(CATALOGUE);
  const decoder = new FrameDecoder(schema, CATALOGUE);
  const history = new LiveHistory({ decoder, limit: options.history });
  const ring = createRing();
  const bell = new SharedArrayBuffer(4);
  const { port1, port2 } = new MessageChannel();
  const speed = options.speed ?? null;
  const engine = new LiveEngine(
    'live',
    history,
    {
      tell(command) {
        port1.postMessage(command);
        Atomics.add(new Int32Array(bell), 0, 1);
        Atomics.notify(new Int32Array(bell), 0);
      },
    },
    speed,
  );
  const { mem, vms, procs, seed, la57 } = options;
  const data: EngineData = {
    world: { seed, vms, procs, guestBytes: mem, input, fiveLevel: la57 === true },
    path,
    ring,
    bell,
    commands: port2,
    paused: options.paused === true,
    speed,
  };
  const server = newServer(engine, decoder, schema, options);
  await listen(server, options);
  const thread = new Worker(new URL('./engine-thread.ts', import.meta.url), {
    workerData: data,
    transferList: [port2],
  });
  thread.on('message', (report: Report) => engine.report(report));
  thread.on('error', (error: unknown) => {
    engine.report({ state: 'failed', reason: whyNot(error) });
  });
  announce(server, engine);
  void engine.collect(new RingReader(ring)).catch((error: unknown) => {
    engine.report({ state: 'failed', reason: `the history cannot be kept: ${whyNot(error)}` });
  });
  await interrupted();
  await thread.terminate();
  await server.close();
  engine.close();
  port1.close();
  if (engine.state === 'failed') throw new Refusal(1, engine.reason ?? 'the run failed');
}
