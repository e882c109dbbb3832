import { CATALOGUE } from '../../trace/catalogue/all.ts';
import type { EventRecord } from '../../trace/event.ts';
import { Tally } from '../../trace/story/counts.ts';
import { Findings } from '../../trace/story/sanitizer.ts';
import { phaseOf } from '../../trace/story/walkthrough.ts';
import { LiveHistory } from '../../trace/stream/live-history.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { HistoryPast } from '../../tui/source/history-past.ts';
import type { Past, Source } from '../../tui/source/source.ts';
import { World, type WorldOptions } from '../scenario/world.ts';

/** Clock events at most for one look at the world: some tell nothing, and the keyboard waits. */
const SLICE = 1024;

/** What going back reaches, in bytes of files without a name. */
const HISTORY_BYTES = 512 * 2 ** 20;

/** A world that goes on as events are asked for, stands still otherwise, and remembers. */
export class WorldSource implements Source {
  readonly world: World;
  readonly tally = new Tally();
  readonly findings = new Findings();
  readonly past: Past;
  readonly #history: LiveHistory;
  #kept: EventRecord[] = [];
  /** Events of `#kept` that were handed out, and the last one that ever was. */
  #given = 0;
  #lastGiven = 0;
  #over = false;

  constructor(options: Omit<WorldOptions, 'listeners' | 'sinks'>) {
    const decoder = new FrameDecoder(schemaOf(CATALOGUE), CATALOGUE);
    const history = new LiveHistory({ decoder, limit: HISTORY_BYTES });
    const encoder = new FrameEncoder(inlineSlots((frame) => history.append(frame.slice())));
    this.#history = history;
    const held = new HistoryPast(history, decoder, () => encoder.flush());
    const lastGiven = (): number => this.#lastGiven;
    this.past = {
      get firstSeq() {
        return held.firstSeq;
      },
      get lastSeq() {
        return lastGiven();
      },
      stateAt: (seq) => held.stateAt(seq),
      records: (from, to) => held.records(from, Math.min(to, lastGiven())),
    };
    this.world = new World({
      ...options,
      sinks: [encoder],
      listeners: [
        (record) => {
          this.tally.add(record);
          this.findings.add(record);
          this.#kept.push(record);
        },
      ],
    });
  }

  get ended(): boolean {
    return this.#over && this.#given === this.#kept.length;
  }

  next(most: number): readonly EventRecord[] {
    if (this.#given === this.#kept.length) {
      this.#kept = [];
      this.#given = 0;
    }
    for (let i = 0; i < SLICE && this.#kept.length - this.#given < most && !this.#over; i++) {
      this.#over = !this.world.step();
    }
    const batch = this.#kept.slice(this.#given, this.#given + most);
    this.#given += batch.length;
    this.#lastGiven = batch.at(-1)?.seq ?? this.#lastGiven;
    return batch;
  }

  /**
   * Runs to the end of the first phase whose title holds these words.
   * @returns its last event; undefined where there is no such phase
   */
  runPast(words: string): number | undefined {
    let found = false;
    while (!this.ended) {
      for (const record of this.next(1)) {
        const phase = phaseOf(record);
        if (phase === undefined) continue;
        if (found) return record.seq - 1;
        found = phase.title.includes(words);
      }
    }
    return found ? this.#lastGiven : undefined;
  }

  close(): void {
    this.#history.close();
  }
}
