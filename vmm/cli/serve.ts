import { MessageChannel, Worker } from 'node:worker_threads';
import { Command, Option } from 'commander';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import type { Engine } from '../../trace/stream/engine.ts';
import { LiveHistory } from '../../trace/stream/live-history.ts';
import { isLoopback, StreamServer } from '../../trace/stream/server.ts';
import { LiveEngine, type Report } from '../../trace/stream/thread.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { type Schema, schemaOf } from '../../trace/wire/layout.ts';
import { createRing, RingReader } from '../../trace/wire/ring.ts';
import type { EngineData } from './engine-thread.ts';
import { Refusal, whyNot } from './fail.ts';
import { readInput } from './files.ts';
import { checkMemory, type MachineOptions, machineOptions, SAMPLE } from './machine.ts';
import { memorySize, wholeNumber } from './options.ts';
import { viewerPages } from './pages.ts';
import { PROGRAM } from './version.ts';

const DEFAULT_PORT = 8732;
const DEFAULT_HISTORY = 2 ** 30;

/** What everything that serves viewers has in common. */
export interface ServeOptions {
  readonly port: number;
  readonly host: string;
  readonly token?: string;
  readonly controlToken?: string;
  readonly viewOnly?: boolean;
  readonly origin?: readonly string[];
  readonly speed?: number;
}

interface ServeRunOptions extends MachineOptions, ServeOptions {
  readonly history: number;
  readonly paused?: boolean;
}

export const serveOptions = (command: Command): Command =>
  command
    .option('--port <N>', 'TCP port; 0: any that is free', wholeNumber(0, 65535), DEFAULT_PORT)
    .option('--host <ADDRESS>', 'where to listen; other than loopback needs --token', '127.0.0.1')
    .option('--token <TEXT>', 'viewers must show it: ?token=TEXT')
    .option('--control-token <TEXT>', 'only viewers that show it may pause, step and seek')
    .option('--view-only', 'no viewer may pause, step or seek')
    .option('--origin <URL...>', 'pages of these origins may connect too')
    .option('--speed <N>', 'events in a second; default: as fast as it goes', wholeNumber(1, 1e9));

/** `vsva serve [FILE]`: a run with its trace as a stream, and a page that shows it. */
export function serveCommand(): Command {
  const command = new Command('serve')
    .description(
      'Take FILE through the whole vSVA path as `vsva run` does, and stream its trace over a' +
        ' websocket (docs/protocol.md) to any number of viewers. One of them is a page that this' +
        ' command serves: open the address that it prints. Runs until it is interrupted.',
    )
    .summary('stream the trace to viewers, and serve a page that shows it')
    .argument('[FILE]', 'any file; default: a sample');
  return serveOptions(machineOptions(command))
    .option('--paused', 'wait for a viewer to resume before the first event')
    .addOption(
      new Option('--history <SIZE>', 'bytes of trace on disk that viewers can go back in')
        .argParser(memorySize)
        .default(DEFAULT_HISTORY, '1G'),
    )
    .addHelpText(
      'after',
      '\nExit code: 0 when it was interrupted and the run had not failed, 1 when the run failed or' +
        '\nthe port cannot be had, 2 when the command line cannot be followed.',
    )
    .action(serve);
}

async function serve(file: string | undefined, options: ServeRunOptions): Promise<void> {
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

/** @throws Refusal when an address other than loopback has no token */
export function newServer(
  engine: Engine,
  decoder: FrameDecoder,
  schema: Schema,
  options: ServeOptions,
): StreamServer {
  const { host, port, token, controlToken, viewOnly, origin } = options;
  if (!isLoopback(host) && token === undefined) {
    throw new Refusal(
      2,
      `--host ${host} can be reached from other machines: give a token too: --token TEXT`,
    );
  }
  return new StreamServer({
    engine,
    decoder,
    schema,
    program: PROGRAM,
    host,
    port,
    token,
    controlToken,
    viewOnly,
    origins: origin,
    pages: viewerPages(),
  });
}

/** @throws Refusal saying what to do when the address cannot be had */
export async function listen(server: StreamServer, { host, port }: ServeOptions): Promise<void> {
  try {
    await server.listen();
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === 'EADDRINUSE') {
      throw new Refusal(1, `port ${port} is in use: choose another with --port, or --port 0`);
    }
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
      throw new Refusal(1, `${host} is no address of this machine`);
    }
    throw new Refusal(1, `cannot listen on ${host} port ${port}: ${whyNot(error)}`);
  }
}

/** Where it is, and each change of what it does, one line each. */
export function announce(server: StreamServer, engine: Engine): void {
  process.stdout.write(`serving ${server.url}  (Ctrl-C ends it)\n`);
  const wake = engine.onChange;
  let told = engine.state;
  engine.onChange = () => {
    wake();
    if (engine.state === told) return;
    told = engine.state;
    const { reason } = engine;
    process.stdout.write(`${told}${reason === undefined ? '' : `: ${reason}`}\n`);
  };
}

/** Resolves when the user or the system ends the program. */
export const interrupted = (): Promise<void> =>
  new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => resolve());
    }
  });
