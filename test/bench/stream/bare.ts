/** Events over bare websockets, to compare with: as raw records, and as arrays spelled out. */
import type { AddressInfo } from 'node:net';
import { Packr } from 'msgpackr';
import { type WebSocket, WebSocketServer } from 'ws';
import { RECORD_BYTES, RECORDS_PER_ARRAY, RECORDS_PER_MESSAGE, type Way } from './messages.ts';

const MOST_WAITING = 1 << 20;
const WORDS = RECORD_BYTES / 4;

const packr = new Packr({ useRecords: false });

type Make = (first: number, count: number) => string | Uint8Array;

const MAKE: Readonly<Record<Exclude<Way, 'stream'>, { records: number; make: Make }>> = {
  raw: { records: RECORDS_PER_MESSAGE, make: raw },
  msgpackr: { records: RECORDS_PER_ARRAY, make: (from, count) => packr.pack(arrays(from, count)) },
  json: { records: RECORDS_PER_ARRAY, make: (from, count) => JSON.stringify(arrays(from, count)) },
};

/** Records of eight words, as a model would fill them in. */
function raw(first: number, count: number): Uint8Array {
  const words = new Int32Array(count * WORDS);
  for (let i = 0; i < count; i++) {
    const at = i * WORDS;
    words[at] = 0x20_0000;
    words[at + 1] = first + i;
    words[at + 2] = i >> 6;
    words[at + 3] = 0;
    words[at + 4] = 8;
    words[at + 5] = 0x300_0001;
    words[at + 6] = i << 12;
    words[at + 7] = 0;
  }
  return new Uint8Array(words.buffer);
}

const arrays = (first: number, count: number): number[][] =>
  Array.from({ length: count }, (_, i) => [32, first + i, i >> 6, 0, 8, 1, 3, i * 4096]);

/** A server that sends each viewer so many events, this way. */
export async function serveBare(
  way: Exclude<Way, 'stream'>,
  events: number,
): Promise<{ url: string; close: () => void }> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
  server.on('connection', (socket) => pour(socket, way, events));
  await new Promise<void>((resolve) => {
    server.once('listening', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return { url: `ws://127.0.0.1:${port}/`, close: () => server.close() };
}

function pour(socket: WebSocket, way: Exclude<Way, 'stream'>, events: number): void {
  const { records, make } = MAKE[way];
  let told = 0;
  const more = (): void => {
    while (told < events && socket.bufferedAmount < MOST_WAITING) {
      const count = Math.min(records, events - told);
      socket.send(make(told + 1, count), more);
      told += count;
    }
  };
  more();
}
