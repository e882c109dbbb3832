/** Memory of a server with a viewer that never reads, in a process of its own. */
import { once } from 'node:events';
import { Packr } from 'msgpackr';
import { WebSocket } from 'ws';
import { serveFlood } from './server.ts';

/** To this process. */
export interface Weigh {
  readonly events: number;
}

/** From it. */
export interface Weighed {
  /** Resident bytes before the first event and at most while all of them came. */
  readonly idle: number;
  readonly most: number;
}

const SAMPLE_MS = 5;

async function weigh({ events }: Weigh): Promise<void> {
  const { url, history, flood, close } = await serveFlood(events);
  const viewer = new WebSocket(url, ['vsva.v1.msgpack'], { perMessageDeflate: false });
  await once(viewer, 'open');
  viewer.send(new Packr({ useRecords: false }).pack({ type: 'subscribe', id: 1, after: 0 }));
  viewer.pause();
  const idle = process.memoryUsage.rss();
  let most = idle;
  const sample = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, SAMPLE_MS);
  await flood();
  clearInterval(sample);
  if (history.lastSeq !== events) throw new Error(`${history.lastSeq} of ${events} events`);
  viewer.terminate();
  await close();
  const weighed: Weighed = { idle, most };
  process.send!(weighed);
  process.disconnect();
}

process.once('message', (message: Weigh) => void weigh(message));
