import type { EventRecord } from '../../trace/event.ts';
import type { State } from '../../trace/state/state.ts';

/** Where events come from that are made, or read, as they are asked for. */
export interface Source {
  /**
   * The next events in order, at most `most`; none when it needs more time. Work is bounded: the
   * keyboard waits for it.
   * @throws whatever the world failed with
   */
  next(most: number): readonly EventRecord[];
  /** No event will come any more. */
  readonly ended: boolean;
  /** What was handed out, however long ago. Without it only what is kept in memory is there. */
  readonly past?: Past;
  /** Lets go of files. */
  close?(): void;
}

/** Moments and events of a run that have been. */
export interface Past {
  /** Of the events that can be had; `lastSeq` is the last that was handed out. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** The state after an event. @throws RangeError where it is not held any more */
  stateAt(seq: number): State;
  /** The events of a range, both ends included, as far as they are held. */
  records(from: number, to: number): readonly EventRecord[];
}
