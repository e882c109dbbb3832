/** The thread that serves viewers while the main one belongs to a real program's calls. */
import { type MessagePort, workerData } from 'node:worker_threads';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { LiveHistory } from '../../trace/stream/live-history.ts';
import type { StreamServer } from '../../trace/stream/server.ts';
import { LiveEngine, type Report } from '../../trace/stream/thread.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { RingReader } from '../../trace/wire/ring.ts';
import { Refusal, whyNot } from './fail.ts';
import { listen, newServer, type ServeOptions } from './server.ts';

/** What the thread is started with. */
export interface ServeThreadData {
  readonly options: ServeOptions;
  readonly history: number;
  readonly ring: SharedArrayBuffer;
  readonly port: MessagePort;
  /** One word, set when `Ready` has been sent: the main thread sleeps on it. */
  readonly ready: SharedArrayBuffer;
}

/** Where it serves, or why it cannot. */
export type Ready =
  | { readonly url: string }
  | { readonly exitCode: Refusal['exitCode']; readonly message: string };

/** What it is told: how the program ended, and to end. */
export type ServeCommand = Report | 'leave';

async function main({
  options,
  history: limit,
  ring,
  port,
  ready,
}: ServeThreadData): Promise<void> {
  const tell = (answer: Ready): void => {
    port.postMessage(answer);
    Atomics.store(new Int32Array(ready), 0, 1);
    Atomics.notify(new Int32Array(ready), 0);
  };
  const schema = schemaOf(CATALOGUE);
  const decoder = new FrameDecoder(schema, CATALOGUE);
  const history = new LiveHistory({ decoder, limit });
  const engine = new LiveEngine('exec', history, { tell: () => undefined });
  let server: StreamServer;
  try {
    server = newServer(engine, decoder, schema, options);
    await listen(server, options);
  } catch (error) {
    const exitCode = error instanceof Refusal ? error.exitCode : 1;
    tell({ exitCode, message: whyNot(error) });
    return;
  }
  const left = new Promise<void>((resolve) => {
    port.on('message', (command: ServeCommand) => {
      if (command === 'leave') resolve();
      else engine.report(command);
    });
  });
  tell({ url: server.url });
  await engine.collect(new RingReader(ring));
  await left;
  await server.close();
  engine.close();
  port.close();
}

await main(workerData as ServeThreadData);
