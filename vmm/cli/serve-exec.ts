import { once } from 'node:events';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { Command } from 'commander';
import { Broker } from '../../host/bridge/broker.ts';
import { buildTools } from '../../host/bridge/build.ts';
import { checkProgram } from '../../host/bridge/program.ts';
import { BridgeServer } from '../../host/bridge/server.ts';
import { FrameEncoder } from '../../trace/wire/encoder.ts';
import { createRing, RingWriter } from '../../trace/wire/ring.ts';
import {
  bridgeRefusal,
  type HostCommandOptions,
  hostOptions,
  openRecording,
  simulatedHost,
} from './bridge.ts';
import { Refusal } from './fail.ts';
import { listed } from './sanitize.ts';
import type { Ready, ServeCommand, ServeThreadData } from './serve-thread.ts';
import { interrupted, type ServeOptions } from './server.ts';

/**
 * `vsva serve -- exec [options] PROGRAM ARGS...`: a real program's run, streamed. The program's calls
 * are served on this thread, as by `vsva exec`, and viewers on another.
 */
export async function serveProgram(
  words: readonly string[],
  options: ServeOptions & { readonly history: number },
  parent: Command,
): Promise<void> {
  const command = hostOptions(new Command('exec').copyInheritedSettings(parent))
    .argument('<PROGRAM>')
    .argument('[ARGS...]')
    .passThroughOptions();
  command.parse([...words], { from: 'user' });
  const { args: program } = command;
  const hostOf = command.opts<HostCommandOptions>();
  if (listed(hostOf)) return;
  try {
    const [name = '', ...args] = program;
    const run = prepare([checkProgram(name), ...args], hostOf);
    const { url, leave, tell, ring } = startServer(options);
    process.stderr.write(`serving ${url}\n`);
    const status = run(ring);
    tell({ state: 'ended', reason: `${name} ended with ${status}` });
    process.stderr.write(
      `${name} ended with ${status}; its trace is still served  (Ctrl-C ends it)\n`,
    );
    await interrupted();
    await leave();
    process.exitCode = status;
  } catch (error) {
    throw bridgeRefusal(error);
  }
}

function startServer(options: ServeOptions & { readonly history: number }) {
  const ring = createRing();
  const { port1, port2 } = new MessageChannel();
  const ready = new SharedArrayBuffer(4);
  const data: ServeThreadData = { options, history: options.history, ring, port: port2, ready };
  const thread = new Worker(new URL('./serve-thread.ts', import.meta.url), {
    workerData: data,
    transferList: [port2],
  });
  // This thread will soon sleep in calls of the system and see no event.
  Atomics.wait(new Int32Array(ready), 0, 0);
  const { message: answer } = receiveMessageOnPort(port1) as { readonly message: Ready };
  if ('message' in answer) throw new Refusal(answer.exitCode, answer.message);
  const tell = (message: ServeCommand): void => port1.postMessage(message);
  const leave = async (): Promise<void> => {
    const left = once(thread, 'exit');
    tell('leave');
    await left;
    port1.close();
  };
  return { url: answer.url, leave, tell, ring };
}

/**
 * Makes ready what can be refused before anybody is served. What it returns runs the program to its
 * end: its exit status, 128 + n for signal n.
 */
function prepare(
  program: readonly string[],
  options: HostCommandOptions,
): (ring: SharedArrayBuffer) => number {
  const tools = buildTools();
  const recording = openRecording(`serve -- exec ${program.join(' ')}`, options);
  return (ring) => {
    const writer = new RingWriter(ring);
    const encoder = new FrameEncoder(writer);
    const { listeners = [], sinks = [] } = recording ?? {};
    try {
      const { kernel, settle } = simulatedHost(options, { listeners, sinks: [...sinks, encoder] });
      using broker = new Broker(tools, { program });
      using _signals = leftToTheProgram();
      const idle = (): void => {
        kernel.reportLeftovers();
        recording?.flush();
      };
      const server = new BridgeServer(kernel, broker, idle, () => {
        encoder.flush();
      });
      const status = server.run();
      const found = settle();
      return status === 0 && found > 0 ? 1 : status;
    } finally {
      recording?.close();
      encoder.flush();
      writer.close();
    }
  };
}

/** The terminal's signals are for the program as long as it runs. */
function leftToTheProgram(): Disposable {
  const signals = ['SIGINT', 'SIGQUIT'] as const;
  const ignore = (): void => undefined;
  for (const signal of signals) process.on(signal, ignore);
  return {
    [Symbol.dispose]: () => {
      for (const signal of signals) process.off(signal, ignore);
    },
  };
}
