import { Packr, Unpackr } from 'msgpackr';
import type { FrameDecoder } from '../wire/decoder.ts';
import { itemJson } from '../wire/json.ts';
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
  new DataView(frame.buffer, frame.byteOffset).getUint32(32, true);

const MSGPACK: Codec = {
  subprotocol: SUBPROTOCOL.MSGPACK,
  encode: (message) => packr.pack(message),
  events: (from, to, frame) =>
    packr.pack({
      type: 'events',
      from,
      to,
      count: frame === undefined ? 0 : countOf(frame),
      data: frame ?? new Uint8Array(0),
    }),
  embed: (frames) => ({ frames }),
  decode(data) {
    try {
      return unpackr.unpack(data) as unknown;
    } catch {
      throw new BadRequest('bad_message', 'not one whole MessagePack value');
    }
  },
};

function jsonCodec(decoder: FrameDecoder): Codec {
  const items = (frame: Uint8Array): unknown[] =>
    Array.from(decoder.frame(frame).items(), itemJson);
  return {
    subprotocol: SUBPROTOCOL.JSON,
    encode: (message) => JSON.stringify(message),
    events: (from, to, frame) =>
      JSON.stringify({
        type: 'events',
        from,
        to,
        count: frame === undefined ? 0 : countOf(frame),
        events: frame === undefined ? [] : items(frame),
      }),
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

/** @param subprotocol one of SUBPROTOCOL */
export const codecOf = (subprotocol: string, decoder: FrameDecoder): Codec =>
  subprotocol === SUBPROTOCOL.JSON ? jsonCodec(decoder) : MSGPACK;
