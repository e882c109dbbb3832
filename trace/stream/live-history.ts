import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EMPTY_STATE, reduceFrame, type State } from '../state/state.ts';
import type { FrameDecoder } from '../wire/decoder.ts';
import { END_ID } from '../wire/layout.ts';
import { FramePool } from './frame-pool.ts';
import type { FrameInfo, History } from './history.ts';

/** Bytes of a segment: what goes at once when the history is full. */
const SEGMENT_BYTES = 64 * 2 ** 20;

/** Frames between two states that are kept: what a seek has to decode at most. */
const STATE_EVERY = 32;

/** Frames kept in memory too: most viewers read the newest. */
const RECENT = 256;

/** A file without a name, so that nothing is left of it however the server ends. */
interface Segment {
  readonly fd: number;
  readonly firstFrame: number;
  bytes: number;
}

interface Entry extends FrameInfo {
  readonly segment: Segment;
  /** Where in the segment. */
  readonly at: number;
  readonly length: number;
}

export interface LiveHistoryOptions {
  readonly decoder: FrameDecoder;
  /** Bytes on disk at most, at least two segments (128 MiB); the oldest go. */
  readonly limit: number;
  /** What goes at once; default 64 MiB. */
  readonly segmentBytes?: number;
}

/**
 * The history of a run that goes on: all of it up to a limit, in temporary files, so that memory does
 * not grow with the run. What is reduced of it, the state, is kept at intervals.
 */
export class LiveHistory implements History {
  readonly pool = new FramePool();
  readonly #decoder: FrameDecoder;
  readonly #segmentBytes: number;
  readonly #segmentsMost: number;
  readonly #segments: Segment[] = [];
  #entries: Entry[] = [];
  #firstFrame = 0;
  readonly #recent = new Map<number, Uint8Array>();
  /** By frame: the state before it. */
  readonly #states = new Map<number, State>();
  #state = EMPTY_STATE;
  #lastSeq = 0;
  #ns = 0;
  #bytes = 0;

  constructor({ decoder, limit, segmentBytes = SEGMENT_BYTES }: LiveHistoryOptions) {
    this.#decoder = decoder;
    this.#segmentBytes = segmentBytes;
    this.#segmentsMost = Math.max(2, Math.floor(limit / segmentBytes));
  }

  get firstFrame(): number {
    return this.#firstFrame;
  }

  get endFrame(): number {
    return this.#firstFrame + this.#entries.length;
  }

  get firstSeq(): number {
    return this.#entries[0]?.firstSeq ?? this.#lastSeq + 1;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  get ns(): number {
    return this.#ns;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The newest state. */
  get state(): State {
    return this.#state;
  }

  /**
   * Adds a frame, which the history keeps, and lets go of in its pool if it is from there.
   * @throws FrameError when it is none; the error of the file system when it cannot be written
   */
  append(bytes: Uint8Array): void {
    const view = this.#decoder.frame(bytes);
    const segment = this.#segmentFor(bytes.length);
    writeAll(segment.fd, bytes, segment.bytes);
    if (this.endFrame % STATE_EVERY === 0 || this.#states.size === 0) {
      this.#states.set(this.endFrame, this.#state);
    }
    const frame = this.endFrame;
    const firstSeq = this.#lastSeq + 1;
    const lastSeq = view.lastSeq || this.#lastSeq;
    const at = segment.bytes;
    const length = bytes.length;
    this.#entries.push({
      firstSeq,
      lastSeq,
      ns: view.ns,
      offset: this.#bytes,
      segment,
      at,
      length,
    });
    segment.bytes += length;
    this.#bytes += length;
    this.#lastSeq = lastSeq;
    this.#ns = view.lastNs;
    this.#state = reduceFrame(this.#state, view, this.#decoder.layouts);
    this.#recent.set(frame, bytes);
    const old = this.#recent.get(frame - RECENT);
    if (old === undefined) return;
    this.#recent.delete(frame - RECENT);
    this.pool.release(old);
  }

  info(frame: number): FrameInfo {
    return this.#entry(frame);
  }

  frame(frame: number): Uint8Array {
    return this.#recent.get(frame) ?? this.#read(frame, new Uint8Array(this.#entry(frame).length));
  }

  lend(frame: number): Uint8Array {
    const recent = this.#recent.get(frame);
    if (recent === undefined) return this.#read(frame, this.pool.take(this.#entry(frame).length));
    this.pool.hold(recent);
    return recent;
  }

  #read(frame: number, bytes: Uint8Array): Uint8Array {
    const { segment, at, length } = this.#entry(frame);
    for (let got = 0; got < length; ) {
      const count = readSync(segment.fd, bytes, got, length - got, at + got);
      if (count === 0) throw new RangeError(`frame ${frame} is cut in the history's file`);
      got += count;
    }
    return bytes;
  }

  frameOfSeq(seq: number): number {
    if (seq < this.firstSeq) throw new RangeError(`event ${seq} is not held any more`);
    return this.#firstFrame + lowest(this.#entries, ({ lastSeq }) => lastSeq >= seq);
  }

  seqAtNs(ns: number): number {
    const after = lowest(this.#entries, (entry) => entry.ns > ns);
    const entry = this.#entries[after - 1];
    if (entry === undefined) return this.firstSeq - 1;
    let seq = entry.firstSeq - 1;
    const view = this.#decoder.frame(this.frame(this.#firstFrame + after - 1));
    view.scan((id, at) => {
      const place = view.placeAt(at);
      if (id !== END_ID && place.ns <= ns) ({ seq } = place);
    });
    return seq;
  }

  stateAt(seq: number): State {
    if (seq >= this.#lastSeq) return this.#state;
    if (seq < this.firstSeq - 1) throw new RangeError(`event ${seq} is not held any more`);
    const target = this.frameOfSeq(seq + 1);
    const kept = this.#kept(target);
    let state = this.#states.get(kept) ?? EMPTY_STATE;
    for (let frame = kept; frame <= target; frame++) {
      const view = this.#decoder.frame(this.frame(frame));
      state = reduceFrame(state, view, this.#decoder.layouts, seq);
    }
    return state;
  }

  /** Lets go of the files. */
  close(): void {
    for (const { fd } of this.#segments) closeSync(fd);
    this.#segments.length = 0;
    this.#entries = [];
  }

  /** The last frame at or before this one whose state is kept. */
  #kept(frame: number): number {
    const aligned = frame - (frame % STATE_EVERY);
    return this.#states.has(aligned) ? aligned : this.#firstFrame;
  }

  #entry(frame: number): Entry {
    const entry = this.#entries[frame - this.#firstFrame];
    if (entry === undefined) throw new RangeError(`frame ${frame} is not held`);
    return entry;
  }

  #segmentFor(bytes: number): Segment {
    const last = this.#segments.at(-1);
    if (last !== undefined && last.bytes + bytes <= this.#segmentBytes) return last;
    if (this.#segments.length === this.#segmentsMost) this.#forget();
    const segment = { fd: nameless(), firstFrame: this.endFrame, bytes: 0 };
    this.#segments.push(segment);
    return segment;
  }

  /** Drops the oldest segment with its frames and states; the state before what is left is kept. */
  #forget(): void {
    const [oldest] = this.#segments;
    const next = this.#segments[1];
    if (oldest === undefined || next === undefined) return;
    const before = this.#entries[next.firstFrame - this.#firstFrame - 1]!.lastSeq;
    const state = this.stateAt(before);
    this.#entries = this.#entries.slice(next.firstFrame - this.#firstFrame);
    this.#firstFrame = next.firstFrame;
    for (const frame of this.#states.keys()) {
      if (frame < this.#firstFrame) this.#states.delete(frame);
    }
    this.#states.set(this.#firstFrame, state);
    this.#segments.shift();
    closeSync(oldest.fd);
  }
}

function nameless(): number {
  const path = join(tmpdir(), `vsva-${randomBytes(8).toString('hex')}`);
  const fd = openSync(path, 'wx+', 0o600);
  unlinkSync(path);
  return fd;
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, bytes.length - done, position + done);
  }
}

/** The lowest index whose entry satisfies a test that stays true from there on; length: none. */
export function lowest<T>(entries: readonly T[], test: (entry: T) => boolean): number {
  let from = 0;
  let to = entries.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (test(entries[middle]!)) to = middle;
    else from = middle + 1;
  }
  return from;
}
