/** The server of `vsva serve` with a model that floods it. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import { LiveHistory } from '../../../trace/stream/live-history.ts';
import { StreamServer } from '../../../trace/stream/server.ts';
import { LiveEngine } from '../../../trace/stream/thread.ts';
import { FrameDecoder } from '../../../trace/wire/decoder.ts';
import { schemaOf } from '../../../trace/wire/layout.ts';
import { createRing, RingReader } from '../../../trace/wire/ring.ts';
import type { FloodData } from './flood.ts';

/** Bytes on disk that are held. */
const HISTORY_BYTES = 2 ** 30;

export interface Flooded {
  readonly url: string;
  readonly history: LiveHistory;
  /** Lets the model run. Resolves when all of its events are in the history. */
  readonly flood: () => Promise<void>;
  readonly close: () => Promise<void>;
}

export async function serveFlood(events: number): Promise<Flooded> {
  const schema = schemaOf(CATALOGUE);
  const decoder = new FrameDecoder(schema, CATALOGUE);
  const history = new LiveHistory({ decoder, limit: HISTORY_BYTES });
  const engine = new LiveEngine('live', history, { tell: () => undefined });
  const server = new StreamServer({
    engine,
    decoder,
    schema,
    program: 'bench',
    host: '127.0.0.1',
    port: 0,
  });
  await server.listen();
  const flood = async (): Promise<void> => {
    const ring = createRing();
    const workerData: FloodData = { ring, events };
    const model = new Worker(new URL('./flood.ts', import.meta.url), { workerData });
    const ended = once(model, 'exit');
    await engine.collect(new RingReader(ring));
    await ended;
  };
  const close = async (): Promise<void> => {
    await server.close();
    engine.close();
  };
  return { url: server.url.replace('http', 'ws'), history, flood, close };
}
