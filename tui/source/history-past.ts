import type { EventRecord } from '../../trace/event.ts';
import type { State } from '../../trace/state/state.ts';
import type { History } from '../../trace/stream/history.ts';
import type { FrameDecoder } from '../../trace/wire/decoder.ts';
import type { Past, Source } from './source.ts';

/** The past as frames hold it: a recording, or what is kept of a live run. */
export class HistoryPast implements Past {
  readonly #history: History;
  readonly #decoder: FrameDecoder;
  readonly #sync: () => void;

  /** @param sync brings the history up to date; called before each look */
  constructor(history: History, decoder: FrameDecoder, sync: () => void = () => undefined) {
    this.#history = history;
    this.#decoder = decoder;
    this.#sync = sync;
  }

  get firstSeq(): number {
    return this.#history.firstSeq;
  }

  get lastSeq(): number {
    return this.#history.lastSeq;
  }

  stateAt(seq: number): State {
    this.#sync();
    return this.#history.stateAt(seq);
  }

  records(from: number, to: number): readonly EventRecord[] {
    this.#sync();
    const { firstSeq, lastSeq, endFrame } = this.#history;
    const [first, last] = [Math.max(from, firstSeq), Math.min(to, lastSeq)];
    const records: EventRecord[] = [];
    if (first > last) return records;
    for (let frame = this.#history.frameOfSeq(first); frame < endFrame; frame++) {
      if (this.#history.info(frame).firstSeq > last) break;
      for (const item of this.#decoder.frame(this.#history.frame(frame)).items()) {
        if (item.kind !== 'event') continue;
        const { seq } = item.record;
        if (seq >= first && seq <= last) records.push(item.record);
      }
    }
    return records;
  }
}

/** A run that is over and recorded whole. */
export class HistorySource implements Source {
  readonly past: Past;
  readonly #close: () => void;

  constructor(past: Past, close: () => void = () => undefined) {
    this.past = past;
    this.#close = close;
  }

  readonly ended = true;

  next(): readonly EventRecord[] {
    return [];
  }

  close(): void {
    this.#close();
  }
}
