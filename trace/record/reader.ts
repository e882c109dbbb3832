import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { CATALOGUE } from '../catalogue/all.ts';
import type { EventRecord } from '../event.ts';
import {
  EMPTY_STATE,
  reduceFrame,
  type State,
  type StateJson,
  stateFromJson,
} from '../state/state.ts';
import { FrameDecoder, FrameError, type FrameView, type Item } from '../wire/decoder.ts';
import { FRAME, FRAME_HEADER, type FrameHeader, isSealed, readHeader } from '../wire/frame.ts';
import { FORMAT, type Layout, type Schema, SchemaError } from '../wire/layout.ts';
import {
  FILE_MAGIC,
  INDEX_ENTRY,
  INDEX_HEAD,
  type IndexEntry,
  type Meta,
  MOST_FRAME_BYTES,
  readEntry,
  TRAILER_BYTES,
} from './file.ts';

/** A recording that cannot be read, in one line: what is wrong and what to do. */
export class RecordingError extends Error {}

/** What a recording holds, without reading its events. */
export interface RecordingInfo {
  readonly path: string;
  readonly bytes: number;
  readonly meta: Meta;
  readonly events: number;
  /** The first and the last event, 0 where there is none. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly firstNs: number;
  readonly lastNs: number;
  readonly frames: number;
  readonly snapshots: number;
  /** It was closed; else what follows the last whole frame is lost. */
  readonly whole: boolean;
  /** Bytes at the end that are no whole frame. */
  readonly lostBytes: number;
}

/** Which part of a recording: both ends included. */
export interface Range {
  readonly fromSeq?: number | undefined;
  readonly toSeq?: number | undefined;
  readonly fromNs?: number | undefined;
  readonly toNs?: number | undefined;
}

/** A recording on disk. Its index is in memory, of its frames only what is being read. */
export class Recording {
  readonly about: RecordingInfo;
  readonly decoder: FrameDecoder;
  readonly #fd: number;
  readonly #path: string;
  /** Frames of events, and snapshots, in order. */
  readonly #frames: readonly IndexEntry[];
  readonly #snapshots: readonly IndexEntry[];
  #cached: { readonly index: number; readonly view: FrameView } | undefined;

  /** @throws RecordingError; errors of the file system as they are */
  static open(path: string): Recording {
    // Not to wait for who would write into a pipe.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return new Recording(path, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  private constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new RecordingError(`${path} is not a file: name a recording`);
    const head = this.#head(stat.size);
    this.decoder = this.#decoderOf(head.meta);
    const index = this.#indexed(stat.size) ?? this.#walked(head.end, stat.size);
    const { entries, end, whole } = index;
    this.#frames = entries.filter(({ type }) => type === FRAME.EVENTS);
    this.#snapshots = entries.filter(({ type }) => type === FRAME.SNAPSHOT);
    const last = this.#lastEvent();
    this.about = {
      path,
      bytes: stat.size,
      meta: head.meta,
      events: this.#frames.reduce((sum, { events }) => sum + events, 0),
      firstSeq: last === undefined ? 0 : this.#frames[0]!.seq,
      lastSeq: last?.seq ?? 0,
      firstNs: this.#frames[0]?.ns ?? 0,
      lastNs: last?.ns ?? 0,
      frames: this.#frames.length,
      snapshots: this.#snapshots.length,
      whole,
      lostBytes: stat.size - end,
    };
  }

  get layouts(): readonly Layout[] {
    return this.decoder.layouts;
  }

  /** What viewers are sent. */
  get schema(): Schema {
    return this.about.meta.schema as Schema;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Frames of events are numbered from here on, to one less than `endFrame`. */
  readonly firstFrame = 0;

  get endFrame(): number {
    return this.#frames.length;
  }

  get firstSeq(): number {
    return Math.max(1, this.about.firstSeq);
  }

  get lastSeq(): number {
    return this.about.lastSeq;
  }

  /** Virtual time at the end. */
  get ns(): number {
    return this.about.lastNs;
  }

  get bytes(): number {
    return this.about.bytes;
  }

  /** What a frame holds, without its bytes. `offset`: of the file. */
  info(frame: number): { firstSeq: number; lastSeq: number; ns: number; offset: number } {
    const { seq, ns, events, offset } = this.#entry(frame);
    const next = this.#frames[frame + 1]?.seq ?? this.about.lastSeq + 1;
    return { firstSeq: seq, lastSeq: events === 0 ? seq - 1 : next - 1, ns, offset };
  }

  #entry(frame: number): IndexEntry {
    const entry = this.#frames[frame];
    if (entry === undefined) throw new RangeError(`frame ${frame} of ${this.#frames.length}`);
    return entry;
  }

  /** The bytes of a frame of events, as they were encoded. RecordingError where it is damaged. */
  frame(index: number): Uint8Array {
    return this.#frameAt(this.#entry(index));
  }

  /** The frame, to read events from. */
  view(index: number): FrameView {
    if (this.#cached?.index === index) return this.#cached.view;
    const view = this.#guarded(() => this.decoder.frame(this.frame(index)));
    this.#cached = { index, view };
    return view;
  }

  /** The frame that holds an event, or the next one after it; `frames` when it is beyond the last. */
  frameOfSeq(seq: number): number {
    if (seq > this.about.lastSeq) return this.#frames.length;
    return Math.max(0, upperBound(this.#frames, (entry) => entry.seq <= seq) - 1);
  }

  /** The last event at or before a virtual time, 0 when there is none. */
  seqAtNs(ns: number): number {
    const frame = upperBound(this.#frames, (entry) => entry.ns <= ns) - 1;
    if (frame < 0) return 0;
    let last = this.#frames[frame]!.seq - 1;
    const view = this.view(frame);
    this.#guarded(() => {
      view.scan((id, at) => {
        const place = view.placeAt(at);
        if (this.layouts[id] !== undefined && place.ns <= ns) last = place.seq;
      });
    });
    return last;
  }

  /** What happened, in order; ends of spans too. RecordingError where it is damaged. */
  *items(range: Range = {}, wants?: (id: number) => boolean): Generator<Item> {
    const { fromSeq = 0, toSeq = Infinity, fromNs = 0, toNs = Infinity } = range;
    const byNs = upperBound(this.#frames, (entry) => entry.ns < fromNs) - 1;
    const first = Math.max(0, byNs, Math.min(this.frameOfSeq(fromSeq), this.#frames.length - 1));
    for (let index = first; index < this.#frames.length; index++) {
      const entry = this.#frames[index]!;
      if (entry.seq > toSeq || entry.ns > toNs) return;
      const view = this.view(index);
      const items = view.items(wants);
      for (;;) {
        const step = this.#guarded(() => items.next());
        if (step.done === true) break;
        const { seq, ns } = step.value.kind === 'event' ? step.value.record : step.value;
        if (seq > toSeq || ns > toNs) return;
        if (seq >= fromSeq && ns >= fromNs) yield step.value;
      }
    }
  }

  /** The events of a range, in order. */
  *records(range: Range = {}, wants?: (id: number) => boolean): Generator<EventRecord, void> {
    for (const item of this.items(range, wants)) if (item.kind === 'event') yield item.record;
  }

  /** One event; undefined where there is none of this number. */
  record(seq: number): EventRecord | undefined {
    const index = this.frameOfSeq(seq);
    if (seq < 1 || index >= this.#frames.length) return undefined;
    const view = this.view(index);
    return this.#guarded(() => view.find(seq));
  }

  /** An event and what led to it, the oldest cause first; at most so many. */
  causes(seq: number, most = 64): EventRecord[] {
    const chain: EventRecord[] = [];
    for (let at = seq; at !== 0 && chain.length < most; ) {
      const record = this.record(at);
      if (record === undefined) break;
      chain.unshift(record);
      // A cause is always earlier; a damaged recording may say otherwise.
      at = record.cause < at ? record.cause : 0;
    }
    return chain;
  }

  /** The state after event `seq`: from the last snapshot before it on. */
  stateAt(seq: number): State {
    const place = upperBound(this.#snapshots, (entry) => entry.seq <= seq) - 1;
    let state = place < 0 ? EMPTY_STATE : this.#snapshotState(this.#snapshots[place]!);
    for (let index = this.frameOfSeq(state.seq + 1); index < this.#frames.length; index++) {
      if (this.#frames[index]!.seq > seq) break;
      const view = this.view(index);
      state = this.#guarded(() => reduceFrame(state, view, this.layouts, seq));
    }
    return state;
  }

  #snapshotState(entry: IndexEntry): State {
    const { state } = this.#json(this.#frameAt(entry)) as { state: StateJson };
    return stateFromJson(state);
  }

  #head(size: number): { meta: Meta; end: number } {
    const magic = this.#read(0, Math.min(size, FILE_MAGIC.length));
    if (size === 0) throw new RecordingError(`${this.#path} is empty: the run recorded nothing`);
    if (!FILE_MAGIC.every((byte, i) => byte === magic[i])) throw this.#foreign(magic);
    const at = FILE_MAGIC.length;
    const header = this.#header(at, size);
    if (header?.type !== FRAME.META) {
      throw new RecordingError(
        `${this.#path} was cut off in its head (${size} bytes): record it again`,
      );
    }
    const meta = this.#json(this.#checked(at, header)) as Meta;
    if (meta.format !== FORMAT) {
      const newer = meta.format > FORMAT;
      throw new RecordingError(
        `${this.#path} has format ${meta.format}, made by ${meta.program}; this program reads ${FORMAT}: ` +
          (newer ? 'update vsva' : `read it with ${meta.program}`),
      );
    }
    return { meta, end: at + header.length };
  }

  #foreign(magic: Uint8Array): RecordingError {
    const what = magic[0] === 0x7b ? 'JSON lines, which text tools read' : 'no recording of vsva';
    return new RecordingError(
      `${this.#path} is ${what}: record with \`vsva run --trace PATH.vsva\``,
    );
  }

  #decoderOf({ schema, program }: Meta): FrameDecoder {
    try {
      return new FrameDecoder(schema, CATALOGUE);
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error;
      throw new RecordingError(
        `${this.#path} has a catalogue that this program cannot read (${error.message}): ` +
          `read it with ${program}`,
      );
    }
  }

  /** The index, where the recording was closed. */
  #indexed(size: number): Found | undefined {
    const at = size - TRAILER_BYTES;
    const header = at > 0 ? this.#header(at, size) : undefined;
    if (header?.type !== FRAME.TRAILER || header.length !== TRAILER_BYTES) return undefined;
    const trailer = this.#checked(at, header);
    const parts: IndexEntry[][] = [];
    let next = viewOf(trailer).getFloat64(FRAME_HEADER, true);
    let before = size;
    while (next !== 0) {
      // Each index lies before the one that names it: no file can send the reader in circles.
      const found = next < before ? this.#header(next, size) : undefined;
      if (found?.type !== FRAME.INDEX) return undefined;
      const view = viewOf(this.#checked(next, found));
      const count = view.getUint32(FRAME_HEADER, true);
      const entriesAt = FRAME_HEADER + INDEX_HEAD;
      if (entriesAt + count * INDEX_ENTRY > found.length) return undefined;
      parts.push(
        Array.from({ length: count }, (_, i) => readEntry(view, entriesAt + INDEX_ENTRY * i)),
      );
      before = next;
      next = view.getFloat64(FRAME_HEADER + 8, true);
    }
    return { entries: parts.reverse().flat(), end: size, whole: true };
  }

  /** What is there, found frame by frame: of a recording that was cut off. */
  #walked(from: number, size: number): Found {
    const entries: IndexEntry[] = [];
    let at = from;
    for (;;) {
      const header = this.#header(at, size);
      if (header === undefined) break;
      const { type, seq, ns } = header;
      const events = type === FRAME.EVENTS ? this.#countAt(at) : 0;
      entries.push({ offset: at, seq, ns, type, events });
      at += header.length;
    }
    // What was written last may be there in length only.
    const last = entries.at(-1);
    if (last !== undefined && !this.#isWhole(last.offset)) {
      entries.pop();
      at = last.offset;
    }
    return { entries, end: at, whole: false };
  }

  #isWhole(at: number): boolean {
    const header = readHeader(this.#read(at, FRAME_HEADER));
    return header !== undefined && isSealed(this.#read(at, header.length), (data) => crc32(data));
  }

  #countAt(at: number): number {
    return viewOf(this.#read(at + FRAME_HEADER, 4)).getUint32(0, true);
  }

  /** The header of a frame that is there in its whole length. */
  #header(at: number, size: number): FrameHeader | undefined {
    if (at + FRAME_HEADER > size) return undefined;
    const header = readHeader(this.#read(at, FRAME_HEADER));
    if (header === undefined || at + header.length > size) return undefined;
    return header.length > MOST_FRAME_BYTES ? undefined : header;
  }

  #frameAt({ offset, seq }: IndexEntry): Uint8Array {
    const header = readHeader(this.#read(offset, FRAME_HEADER));
    if (header === undefined || header.length > MOST_FRAME_BYTES) throw this.#damaged(offset, seq);
    return this.#checked(offset, header, seq);
  }

  #checked(at: number, { length }: FrameHeader, seq = 0): Uint8Array {
    const bytes = this.#read(at, length);
    if (bytes.length < length || !isSealed(bytes, (data) => crc32(data))) {
      throw this.#damaged(at, seq);
    }
    return bytes;
  }

  #damaged(at: number, seq: number): RecordingError {
    const where = seq === 0 ? '' : `, at event ${seq}`;
    return new RecordingError(
      `${this.#path} is damaged at byte ${at}${where}: record it again, or read the part before it`,
    );
  }

  #json(frame: Uint8Array): unknown {
    try {
      return JSON.parse(new TextDecoder().decode(frame.subarray(FRAME_HEADER)));
    } catch {
      throw new RecordingError(`${this.#path} has a frame that is not JSON: record it again`);
    }
  }

  #guarded<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      throw new RecordingError(`${this.#path} is damaged (${error.message}): record it again`);
    }
  }

  #lastEvent(): { seq: number; ns: number } | undefined {
    for (let index = this.#frames.length - 1; index >= 0; index--) {
      const view = this.view(index);
      if (view.count > 0) return view.placeOfLast();
    }
    return undefined;
  }

  /** As many of the bytes as there are; none where an index leads to no place. */
  #read(at: number, length: number): Uint8Array {
    if (!Number.isSafeInteger(at) || at < 0) return new Uint8Array();
    const bytes = new Uint8Array(length);
    let count = 0;
    while (count < length) {
      const more = readSync(this.#fd, bytes, count, length - count, at + count);
      if (more === 0) break;
      count += more;
    }
    return bytes.subarray(0, count);
  }
}

interface Found {
  readonly entries: IndexEntry[];
  /** Where the last whole frame ends. */
  readonly end: number;
  readonly whole: boolean;
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** How many entries from the beginning satisfy what is true of a first part of them only. */
function upperBound(entries: readonly IndexEntry[], holds: (entry: IndexEntry) => boolean): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(entries[middle]!)) low = middle + 1;
    else high = middle;
  }
  return low;
}
