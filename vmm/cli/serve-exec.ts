import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { Command } from 'commander';
import { Broker } from '../../host/bridge/broker.ts';
import { buildTools } from '../../host/bridge/build.ts';
import { checkProgram } from '../../host/bridge/program.ts';
import { BridgeServer } from '../../host/bridge/server.ts';
import { FrameEncoder } from '../../trace/wire/encoder.ts';
import { createRing, RingWriter } from '../../trace/wire/ring.ts';
import { bridgeRefusal, type HostCommandOptions, hostOptions, simulatedHost } from './bridge.ts';
import { Refusal } from './fail.ts';
import type { Ready, ServeThreadData } from './serve-thread.ts';
import { interrupted, type ServeOptions } from './server.ts';

/**
 * `vsva serve -- exec [options] PROGRAM ARGS...`: a real program's run, streamed. The program's calls
 * are served on this thread, as by `vsva exec`, and viewers on another.
 */
export async function serveProgram(
  words: readonly string[],
  options: ServeOptions,
  history: number,
): Promise<void> {
  const command = hostOptions(new Command('exec'))
    .argument('<PROGRAM>')
    .argument('[ARGS...]')
    .passThroughOptions()
    .exitOverride();
  command.parse([...words], { from: 'user' });
  const [name = '', ...args] = command.args;
  const ring = createRing();
  const { url, thread, tell } = startServer(options, history, ring);
  process.stderr.write(`serving ${url}\n`);
  const status = run([name, ...args], command.opts<HostCommandOptions>(), ring);
  tell({ state: 'ended', reason: `${name} ended with ${status}` });
  process.stderr.write(
    `${name} ended with ${status}; its trace is still served  (Ctrl-C ends it)\n`,
  );
  await interrupted();
  await thread.terminate();
  process.exitCode = status;
}

function startServer(options: ServeOptions, history: number, ring: SharedArrayBuffer) {
  const { port1, port2 } = new MessageChannel();
  const ready = new SharedArrayBuffer(4);
  const data: ServeThreadData = { options, history, ring, port: port2, ready };
  const thread = new Worker(new URL('./serve-thread.ts', import.meta.url), {
    workerData: data,
    transferList: [port2],
  });
  // This thread will soon sleep in calls of the system and see no event.
  Atomics.wait(new Int32Array(ready), 0, 0);
  const { message: answer } = receiveMessageOnPort(port1) as { readonly message: Ready };
  if ('message' in answer) throw new Refusal(answer.exitCode, answer.message);
  return { url: answer.url, thread, tell: port1.postMessage.bind(port1) };
}

/** Runs the program to its end. Its exit status, 128 + n for signal n. */
function run(
  [name = '', ...args]: readonly string[],
  options: HostCommandOptions,
  ring: SharedArrayBuffer,
): number {
  const writer = new RingWriter(ring);
  const encoder = new FrameEncoder(writer);
  try {
    const program = [checkProgram(name), ...args];
    const tools = buildTools();
    const { kernel, settle } = simulatedHost(options, { listeners: [], sinks: [encoder] });
    using broker = new Broker(tools, { program });
    const idle = (): void => {
      kernel.reportLeftovers();
    };
    const server = new BridgeServer(kernel, broker, idle, () => {
      encoder.flush();
    });
    const status = server.run();
    settle();
    return status;
  } catch (error) {
    throw bridgeRefusal(error);
  } finally {
    encoder.flush();
    writer.close();
  }
}
