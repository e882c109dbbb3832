/** A viewer in a process of its own: takes events as fast as they come and checks that none is missing. */
import { Unpackr } from 'msgpackr';
import { WebSocket } from 'ws';
import { StreamClient } from '../../../trace/stream/client.ts';
import { RECORD_BYTES, type Watch, type Watched } from './messages.ts';

const unpackr = new Unpackr({ useRecords: false });

class Count {
  readonly #watch: Watch;
  #seen = 0;
  #bytes = 0;
  #begun = 0;

  constructor(watch: Watch) {
    this.#watch = watch;
  }

  /** So many more, of which the first and the last have these numbers. True: these were the last. */
  add(count: number, first: number, last: number, bytes: number): boolean {
    if (first !== this.#seen + 1 || last !== this.#seen + count) {
      throw new Error(`${count} events ${first} to ${last} after ${this.#seen}`);
    }
    // The first message only starts the clock: what came before it was making connections.
    if (this.#seen === 0) this.#begun = performance.now();
    else this.#bytes += bytes;
    this.#seen += count;
    if (this.#seen < this.#watch.events) return false;
    const told: Watched = {
      seconds: (performance.now() - this.#begun) / 1000,
      bytes: this.#bytes,
    };
    process.send!(told);
    return true;
  }
}

function watchStream(watch: Watch): void {
  const count = new Count(watch);
  const client = new StreamClient({
    url: watch.url,
    after: 0,
    lossless: true,
    events: {
      events(view, from, to) {
        if (view === undefined || view.lastSeq !== to)
          throw new Error(`no events ${from} to ${to}`);
        if (count.add(view.count, from, to, view.header.length)) client.close();
      },
      dropped: ({ from, to }) => {
        throw new Error(`events ${from} to ${to} were dropped`);
      },
    },
  });
}

function watchMessages(watch: Watch): void {
  const count = new Count(watch);
  const socket = new WebSocket(watch.url, { perMessageDeflate: false });
  socket.on('message', (data: Buffer) => {
    if (count.add(...batchOf(watch, data), data.length)) socket.close();
  });
}

/** How many records a message has, and the numbers of the first and the last. */
function batchOf({ way }: Watch, data: Buffer): [number, number, number] {
  if (way === 'raw') {
    const records = data.length / RECORD_BYTES;
    return [records, data.readInt32LE(4), data.readInt32LE(data.length - RECORD_BYTES + 4)];
  }
  const list = (way === 'json' ? JSON.parse(data.toString()) : unpackr.unpack(data)) as number[][];
  return [list.length, list[0]![1]!, list.at(-1)![1]!];
}

process.once('message', (watch: Watch) => {
  if (watch.way === 'stream') watchStream(watch);
  else watchMessages(watch);
});
