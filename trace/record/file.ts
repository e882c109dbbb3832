import { FRAME_HEADER } from '../wire/frame.ts';

/** The first bytes of a recording: a transfer that changes line ends or strips high bits breaks them. */
export const FILE_MAGIC = Uint8Array.of(0x89, 0x76, 0x73, 0x76, 0x61, 0x0d, 0x0a, 0x1a);

/** Bytes of the trailer, which ends a recording that was closed. */
export const TRAILER_BYTES = FRAME_HEADER + 32;

/** Frames that one index frame lists. */
export const INDEX_FRAMES = 1024;

/** Bytes of an index frame before its entries, and of an entry: offset, seq, ns, type and events. */
export const INDEX_HEAD = 16;
export const INDEX_ENTRY = 32;

/** No frame is longer: the state of a snapshot has bounds too. */
export const MOST_FRAME_BYTES = 256 * 2 ** 20;

/** A place in a recording. */
export interface IndexEntry {
  /** Bytes from the beginning of the file. */
  readonly offset: number;
  /** Events: of the first; snapshot: of the last event in the state. */
  readonly seq: number;
  readonly ns: number;
  readonly type: number;
  /** Events in the frame. */
  readonly events: number;
}

export function writeEntry(view: DataView, at: number, entry: IndexEntry): void {
  view.setFloat64(at, entry.offset, true);
  view.setFloat64(at + 8, entry.seq, true);
  view.setFloat64(at + 16, entry.ns, true);
  view.setUint32(at + 24, entry.type, true);
  view.setUint32(at + 28, entry.events, true);
}

export const readEntry = (view: DataView, at: number): IndexEntry => ({
  offset: view.getFloat64(at, true),
  seq: view.getFloat64(at + 8, true),
  ns: view.getFloat64(at + 16, true),
  type: view.getUint32(at + 24, true),
  events: view.getUint32(at + 28, true),
});

/** What the head of a recording says of it. */
export interface Meta {
  readonly format: number;
  /** What made it: `vsva 0.1.0`. */
  readonly program: string;
  /** The command that ran, and what it was told. */
  readonly command: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly schema: unknown;
}
