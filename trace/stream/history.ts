import type { State } from '../state/state.ts';
import type { FramePool } from './frame-pool.ts';

/** A frame of a history, without its bytes. */
export interface FrameInfo {
  readonly firstSeq: number;
  /** firstSeq - 1 where the frame tells only that spans are over. */
  readonly lastSeq: number;
  /** Virtual time of its first record. */
  readonly ns: number;
  /** Bytes of all frames before it, from the beginning of the run. */
  readonly offset: number;
}

/**
 * What a run has told so far, or what is still held of it: frames, numbered from the beginning of
 * the run. A recording is one, and so is what a server keeps of a live run.
 */
export interface History {
  /** The first frame that is held. */
  readonly firstFrame: number;
  /** One more than the last. */
  readonly endFrame: number;
  /** Of the first event that is held; more than `lastSeq` where none is. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Virtual time of the last record. */
  readonly ns: number;
  /** Bytes of all frames so far. */
  readonly bytes: number;
  /** Where the memory of frames is that it lends. */
  readonly pool?: FramePool;
  /** RangeError when it is not held, as of the others below. */
  info(frame: number): FrameInfo;
  frame(frame: number): Uint8Array;
  /** The same, in memory of the pool that the caller has to release. */
  lend?(frame: number): Uint8Array;
  /** The frame with the event, or with the first after it; `endFrame` where that is still to come. */
  frameOfSeq(seq: number): number;
  /** The last event at or before the time; firstSeq - 1 where there is none. */
  seqAtNs(ns: number): number;
  /** The state after the event. */
  stateAt(seq: number): State;
}
