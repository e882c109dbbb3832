import { Packr, Unpackr } from 'msgpackr';
import type { FrameDecoder } from '../wire/decoder.ts';
import { itemJson } from '../wire/json.ts';
import { type FramePool, HEADROOM } from './frame-pool.ts';
import { checkPlain } from './plain-msgpack.ts';
import { BadRequest, type ServerMessage, SUBPROTOCOL } from './protocol.ts';

/** One of the two spellings of the protocol. */
export interface Codec {
  readonly subprotocol: string;
  encode(message: ServerMessage): string | Uint8Array;
  /** The `events` message around one frame. */
  events(from: number, to: number, frame: Uint8Array | undefined): string | Uint8Array;
  /** How events are put into a reply. */
  embed(frames: readonly Uint8Array[]): Record<string, unknown>;
  /** @throws BadRequest */
  decode(data: Uint8Array, isBinary: boolean): unknown;
}

// No private extension (records), so that any msgpack library reads it.
const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** Counts a frame's events without decoding them. */
const countOf = (frame: Uint8Array): number =>
  frame.length === 0 ? 0 : new DataView(frame.buffer, frame.byteOffset).getUint32(32, true);

/** A whole frame as it was last sent, and of which events: most viewers are sent the same. */
interface Sent<T> {
  readonly from: number;
  readonly to: number;
  readonly message: T;
}

/** Keeps what was made of a frame as long as the frame itself is kept. */
function remembering<T>(
  make: (from: number, to: number, frame: Uint8Array) => T,
): (from: number, to: number, frame: Uint8Array | undefined) => T {
  const known = new WeakMap<Uint8Array, Sent<T>>();
  return (from, to, frame) => {
    if (frame === undefined) return make(from, to, EMPTY);
    const sent = known.get(frame);
    if (sent?.from === from && sent.to === to) return sent.message;
    const message = make(from, to, frame);
    known.set(frame, { from, to, message });
    return message;
  };
}

const EMPTY = new Uint8Array(0);

const FIXMAP_5 = 0x85;
const FIXSTR = 0xa0;
const FLOAT_64 = 0xcb;
const UINT_32 = 0xce;
const BIN_32 = 0xc6;

/** The `events` message up to its frame, made by hand. Returns its length, at most HEADROOM. */
function writeHead(bytes: Buffer, from: number, to: number, frame: Uint8Array): number {
  let at = bytes.writeUInt8(FIXMAP_5, 0);
  const text = (value: string): void => {
    at = bytes.writeUInt8(FIXSTR | value.length, at);
    at += bytes.write(value, at, 'latin1');
  };
  const number = (key: string, value: number): void => {
    text(key);
    const short = value <= 0xffff_ffff;
    at = bytes.writeUInt8(short ? UINT_32 : FLOAT_64, at);
    at = short ? bytes.writeUInt32BE(value, at) : bytes.writeDoubleBE(value, at);
  };
  text('type');
  text('events');
  number('from', from);
  number('to', to);
  number('count', countOf(frame));
  text('data');
  at = bytes.writeUInt8(BIN_32, at);
  return bytes.writeUInt32BE(frame.length, at);
}

/** Where a frame has room before it the message is made in place, else around a copy. */
const packEvents = (pool: FramePool | undefined) =>
  remembering((from, to, frame) => {
    const head = Buffer.alloc(HEADROOM);
    const length = writeHead(head, from, to, frame);
    const begin = HEADROOM - length;
    if (pool?.has(frame) === true) {
      const bytes = Buffer.from(frame.buffer, begin, length + frame.length);
      bytes.set(head.subarray(0, length));
      return bytes;
    }
    return Buffer.concat([head.subarray(0, length), frame]);
  });

const msgpackCodec = (pool: FramePool | undefined): Codec => ({
  subprotocol: SUBPROTOCOL.MSGPACK,
  encode: (message) => packr.pack(message),
  events: packEvents(pool),
  embed: (frames) => ({ frames }),
  decode(data, isBinary) {
    if (!isBinary)
      throw new BadRequest('bad_message', `${SUBPROTOCOL.MSGPACK} sends binary messages`);
    checkPlain(data);
    try {
      return unpackr.unpack(data) as unknown;
    } catch {
      throw new BadRequest('bad_message', 'not one whole MessagePack value');
    }
  },
});

function jsonCodec(decoder: FrameDecoder): Codec {
  const items = (frame: Uint8Array): unknown[] =>
    Array.from(decoder.frame(frame).items(), itemJson);
  return {
    subprotocol: SUBPROTOCOL.JSON,
    encode: (message) => JSON.stringify(message),
    events: remembering((from, to, frame) =>
      JSON.stringify({
        type: 'events',
        from,
        to,
        count: countOf(frame),
        events: frame.length === 0 ? [] : items(frame),
      }),
    ),
    embed: (frames) => ({ events: frames.flatMap(items) }),
    decode(data, isBinary) {
      if (isBinary) throw new BadRequest('bad_message', `${SUBPROTOCOL.JSON} sends text messages`);
      try {
        return JSON.parse(Buffer.from(data).toString('utf8')) as unknown;
      } catch {
        throw new BadRequest('bad_message', 'not one JSON value');
      }
    },
  };
}

/**
 * The spellings of a run, by subprotocol.
 * @param pool where its frames are
 */
export function codecsOf(decoder: FrameDecoder, pool?: FramePool): ReadonlyMap<string, Codec> {
  const codecs = [msgpackCodec(pool), jsonCodec(decoder)];
  return new Map(codecs.map((codec) => [codec.subprotocol, codec]));
}
