import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { EMPTY_STATE, reduceFrame, type State, stateToJson } from '../state/state.ts';
import { FrameDecoder } from '../wire/decoder.ts';
import { FRAME, FRAME_HEADER, frameOf, readHeader, seal } from '../wire/frame.ts';
import { FORMAT, type Schema } from '../wire/layout.ts';
import {
  FILE_MAGIC,
  INDEX_ENTRY,
  INDEX_FRAMES,
  INDEX_HEAD,
  type IndexEntry,
  type Meta,
  TRAILER_BYTES,
  writeEntry,
} from './file.ts';

/** A snapshot of the state follows when so many events or bytes have passed since the last. */
const SNAPSHOT_EVENTS = 2 ** 16;
const SNAPSHOT_BYTES = 4 * 2 ** 20;

export interface RecordingOptions {
  readonly schema: Schema;
  readonly program: string;
  readonly command: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/**
 * Writes a recording. Each frame goes to the file at once, so that whatever ends the process the file
 * is readable up to the last frame; memory has a bound that does not depend on its length. Errors of
 * the file system are thrown as they are.
 */
export class RecordingWriter {
  readonly #fd: number;
  readonly #decoder: FrameDecoder;
  #at = 0;
  #state: State = EMPTY_STATE;
  #events = 0;
  #sinceEvents = 0;
  #sinceBytes = 0;
  #index: IndexEntry[] = [];
  #lastIndex = 0;
  #closed = false;

  constructor(path: string, { schema, program, command, options }: RecordingOptions) {
    this.#decoder = new FrameDecoder(schema);
    this.#fd = openFile(path);
    const meta: Meta = { format: FORMAT, program, command, options, schema };
    this.#put(FILE_MAGIC);
    this.#put(sealed(jsonFrame(FRAME.META, 0, 0, meta)));
  }

  /** Events written. */
  get events(): number {
    return this.#events;
  }

  /** Bytes written. */
  get bytes(): number {
    return this.#at;
  }

  /** Adds a frame of events; its checksum is put into it. */
  write(frame: Uint8Array): void {
    const view = this.#decoder.frame(frame);
    const { seq, ns } = view.header;
    this.#add(sealed(frame), { seq, ns, type: FRAME.EVENTS, events: view.count });
    this.#state = reduceFrame(this.#state, view, this.#decoder.layouts);
    this.#events += view.count;
    this.#sinceEvents += view.count;
    this.#sinceBytes += frame.length;
    if (this.#sinceEvents >= SNAPSHOT_EVENTS || this.#sinceBytes >= SNAPSHOT_BYTES) {
      this.#snapshot();
    }
  }

  /** Adds what makes it quick to open. Further writes are an error. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#writeIndex();
      const payload = new DataView(new ArrayBuffer(TRAILER_BYTES - FRAME_HEADER));
      const { seq, run } = this.#state;
      [this.#lastIndex, seq, run.ns, this.#events].forEach((value, i) => {
        payload.setFloat64(8 * i, value, true);
      });
      const bytes = new Uint8Array(payload.buffer);
      this.#put(sealed(frameOf(FRAME.TRAILER, seq, run.ns, bytes)));
    } finally {
      closeSync(this.#fd);
    }
  }

  /** The state now, which is kept for the snapshots. */
  get state(): State {
    return this.#state;
  }

  #snapshot(): void {
    this.#sinceEvents = 0;
    this.#sinceBytes = 0;
    const { seq, run } = this.#state;
    const frame = jsonFrame(FRAME.SNAPSHOT, seq, run.ns, { state: stateToJson(this.#state) });
    this.#add(sealed(frame), { seq, ns: run.ns, type: FRAME.SNAPSHOT, events: 0 });
  }

  #add(frame: Uint8Array, entry: Omit<IndexEntry, 'offset'>): void {
    this.#index.push({ offset: this.#at, ...entry });
    this.#put(frame);
    if (this.#index.length >= INDEX_FRAMES) this.#writeIndex();
  }

  #writeIndex(): void {
    if (this.#index.length === 0) return;
    const payload = new DataView(new ArrayBuffer(INDEX_HEAD + INDEX_ENTRY * this.#index.length));
    payload.setUint32(0, this.#index.length, true);
    payload.setFloat64(8, this.#lastIndex, true);
    this.#index.forEach((entry, i) => {
      writeEntry(payload, INDEX_HEAD + INDEX_ENTRY * i, entry);
    });
    const first = this.#index[0]!;
    this.#lastIndex = this.#at;
    this.#index = [];
    this.#put(sealed(frameOf(FRAME.INDEX, first.seq, first.ns, new Uint8Array(payload.buffer))));
  }

  #put(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    this.#at += bytes.length;
  }
}

const { O_WRONLY, O_CREAT, O_TRUNC, O_NONBLOCK } = constants;

/** A pipe is refused, and nobody waits for its reader: a recording is read in any order. */
function openFile(path: string): number {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0o666);
  if (!fstatSync(fd).isFIFO()) return fd;
  closeSync(fd);
  throw new Error('it is a pipe, and a recording is a file');
}

function sealed(frame: Uint8Array): Uint8Array {
  seal(frame, (bytes) => crc32(bytes));
  return frame;
}

function jsonFrame(type: number, seq: number, ns: number, value: unknown): Uint8Array {
  const frame = frameOf(type, seq, ns, new TextEncoder().encode(JSON.stringify(value)));
  if (readHeader(frame)?.length !== frame.length) throw new RangeError('a frame of over 4 GiB');
  return frame;
}
