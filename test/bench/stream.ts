/** The stream: how many events a second reach a viewer, in how many bytes, at what cost of memory. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { codecsOf } from '../../trace/stream/codec.ts';
import { LiveHistory } from '../../trace/stream/live-history.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { World } from '../../vmm/scenario/world.ts';
import type { BenchOptions, Figure, Group } from './measure.ts';
import { serveBare } from './stream/bare.ts';
import type { Weigh, Weighed } from './stream/memory.ts';
import { RECORD_BYTES, type Watch, type Watched, type Way } from './stream/messages.ts';
import { serveFlood } from './stream/server.ts';

const RAW = 'bare ws: raw records of 32 bytes';
const NAMES: Readonly<Record<Way, string>> = {
  raw: RAW,
  stream: 'vsva: from a model in a worker, through history on disk, lossless',
  msgpackr: 'bare ws: msgpackr, arrays of 512 events',
  json: 'bare ws: JSON, arrays of 512 events',
};

/** Of the memory with a viewer that never reads. */
const MOST_BYTES = 100 * 2 ** 20;
const LIMIT = 'memory that a viewer that never reads may cost';

export const stream: Group = {
  name: 'stream',
  about: 'events to a viewer in another process over a websocket on loopback',
  async run(options) {
    const rates: Record<Way, number[]> = { raw: [], stream: [], msgpackr: [], json: [] };
    let bytes = 0;
    let seen = 0;
    // In turns, so that a slow moment of the machine is everybody's.
    for (let round = 0; round < (options.quick ? 1 : 5); round++) {
      for (const way of Object.keys(rates) as Way[]) {
        options.progress(NAMES[way]);
        const events = eventsOf(way, options);
        const { seconds, bytes: came } = await timed(way, events);
        rates[way].push(events / seconds);
        if (way !== 'stream') continue;
        bytes += came;
        seen += events;
      }
    }
    const raw = median(rates.raw);
    const figures = Object.entries(rates).map(([way, all]): Figure => {
      const value = median(all);
      return { name: NAMES[way as Way], ratio: value / raw, of: RAW, value, unit: 'per second' };
    });
    const wire: Figure = {
      name: 'bytes of an event on the wire',
      ratio: bytes / seen / RECORD_BYTES,
      of: RAW,
      value: bytes / seen,
      unit: 'bytes',
    };
    return [...figures, wire, ...sizes(options), await memory(options)];
  },
};

/** Bytes of the events of a whole run, as they go out and as they are kept. */
function sizes({ quick }: BenchOptions): Figure[] {
  const schema = schemaOf(CATALOGUE);
  const decoder = new FrameDecoder(schema, CATALOGUE);
  const history = new LiveHistory({ decoder, limit: 2 ** 30 });
  const encoder = new FrameEncoder(inlineSlots((frame) => history.append(frame.slice())));
  const input = new Uint8Array(quick ? 4096 : 64 * 1024);
  const options = { seed: 1, vms: 1, procs: 1, guestBytes: 64 * 2 ** 20, input };
  const world = new World({ ...options, listeners: [], sinks: [encoder] });
  while (world.step());
  encoder.flush();
  const sent = [...codecsOf(decoder, history.pool).values()].map((codec) => {
    let bytes = 0;
    for (let frame = 0; frame < history.endFrame; frame++) {
      const { firstSeq, lastSeq } = history.info(frame);
      bytes += Buffer.byteLength(codec.events(firstSeq, lastSeq, history.frame(frame)));
    }
    return bytes;
  });
  const [frames = 0, json = 0] = sent;
  const { bytes: disk, lastSeq } = history;
  history.close();
  const of = 'bytes of an event of a run on the wire, vsva.v1.json';
  const figure = (name: string, bytes: number): Figure => ({
    name,
    ratio: bytes / json,
    of,
    value: bytes / lastSeq,
    unit: 'bytes',
  });
  return [
    figure(of, json),
    figure('bytes of an event of a run on the wire, vsva.v1.msgpack', frames),
    figure('bytes of an event of a run on disk, for viewers that go back', disk),
  ];
}

function eventsOf(way: Way, { quick }: BenchOptions): number {
  const events = way === 'raw' || way === 'stream' ? 10_000_000 : 1_000_000;
  return quick ? events / 20 : events;
}

async function timed(way: Way, events: number): Promise<Watched> {
  if (way !== 'stream') {
    const { url, close } = await serveBare(way, events);
    const watched = await told<Watched>(viewer({ way, url, events }));
    close();
    return watched;
  }
  const { url, flood, close } = await serveFlood(events);
  const process = viewer({ way, url, events });
  const [watched] = await Promise.all([told<Watched>(process), flood()]);
  await close();
  return watched;
}

function viewer(watch: Watch): ChildProcess {
  return child('viewer', watch);
}

function child(name: string, message: Watch | Weigh): ChildProcess {
  const process = fork(new URL(`./stream/${name}.ts`, import.meta.url));
  process.send(message);
  return process;
}

/** The only message of a process, which then ends. Error when it fails first. */
async function told<T>(process: ChildProcess): Promise<T> {
  const ended = once(process, 'exit').then(([code]) => {
    throw new Error(`a process of the benchmark ended with ${String(code)}`);
  });
  const [message] = (await Promise.race([once(process, 'message'), ended])) as [T];
  ended.catch(() => undefined);
  if (process.connected) process.disconnect();
  return message;
}

async function memory({ quick, progress }: BenchOptions): Promise<Figure> {
  progress('memory with a viewer that never reads');
  const events = quick ? 1_000_000 : 10_000_000;
  const { idle, most } = await told<Weighed>(child('memory', { events }));
  return {
    name: `memory with a viewer that never reads, at most during ${events} events`,
    ratio: (most - idle) / MOST_BYTES,
    of: LIMIT,
    value: most - idle,
    unit: 'bytes',
  };
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1]!;
