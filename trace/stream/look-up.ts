import { phaseOf } from '../story/walkthrough.ts';
import type { FrameDecoder, FrameView } from '../wire/decoder.ts';
import { END_ID } from '../wire/layout.ts';
import { selectRecords } from '../wire/select.ts';
import type { History } from './history.ts';

/** Finds things in a history by reading its frames. */
export class LookUp {
  readonly #history: History;
  readonly #decoder: FrameDecoder;

  constructor(history: History, decoder: FrameDecoder) {
    this.#history = history;
    this.#decoder = decoder;
  }

  view(frame: number): FrameView {
    return this.#decoder.frame(this.#history.frame(frame));
  }

  /** Virtual time after the event. */
  nsAt(seq: number): number {
    const history = this.#history;
    if (seq >= history.lastSeq) return history.ns;
    if (seq < history.firstSeq) return 0;
    const view = this.view(history.frameOfSeq(seq));
    return view.placeUpTo(seq)?.ns ?? view.ns;
  }

  /** The events that are held of those asked for, in order, as frames. */
  events(seqs: ReadonlySet<number>): Uint8Array[] {
    const { firstSeq, lastSeq } = this.#history;
    const held = [...seqs].filter((seq) => seq >= firstSeq && seq <= lastSeq);
    const frames = new Set(held.map((seq) => this.#history.frameOfSeq(seq)));
    return [...frames]
      .sort((a, b) => a - b)
      .flatMap(
        (frame) =>
          selectRecords(this.view(frame), (id, seq) => id !== END_ID && seqs.has(seq)) ?? [],
      );
  }

  /** The first event after `seq` in the frame that begins a phase. */
  phaseIn(frame: number, seq: number): number | undefined {
    return this.view(frame)
      .records((id) => this.#decoder.layouts[id]?.hot !== true)
      .find((record) => record.seq > seq && phaseOf(record) !== undefined)?.seq;
  }
}
