import type { RingReader } from '../wire/ring.ts';
import type { Engine, Until } from './engine.ts';
import type { LiveHistory } from './live-history.ts';
import type { Control, RunState } from './protocol.ts';

/** What the engine's thread is told. */
export type Command =
  | { readonly type: 'pause' }
  | { readonly type: 'resume' }
  | { readonly type: 'runTo'; readonly until: Until }
  | { readonly type: 'speed'; readonly eventsPerSecond: number | null };

/** What it tells beside its events. */
export interface Report {
  readonly state: RunState;
  readonly reason?: string;
}

/** Frames taken at once, before sockets have their turn: twice the ring. */
const GULP = 128;

/** How the thread is reached. */
export interface Thread {
  tell(command: Command): void;
}

/** A run in another thread: its frames come through a ring in shared memory. */
export class LiveEngine implements Engine {
  readonly mode: 'live' | 'exec';
  readonly history: LiveHistory;
  readonly controls: readonly Control[];
  state: RunState = 'running';
  reason: string | undefined;
  speed: number | null;
  onChange: () => void = () => undefined;
  readonly #thread: Thread;
  #closed = false;
  /** The ring may still have events, so that what came last of the run waits. */
  #collecting = false;
  #final: Report | undefined;

  constructor(
    mode: 'live' | 'exec',
    history: LiveHistory,
    thread: Thread,
    speed: number | null = null,
  ) {
    this.mode = mode;
    this.history = history;
    this.#thread = thread;
    this.speed = speed;
    this.controls =
      mode === 'live' ? ['pause', 'resume', 'step', 'speed', 'seek'] : ['pause', 'resume', 'seek'];
  }

  pause(): void {
    if (this.mode === 'live') this.#thread.tell({ type: 'pause' });
  }

  resume(): void {
    if (this.mode === 'live') this.#thread.tell({ type: 'resume' });
  }

  runTo(until: Until): void {
    if (this.mode === 'live') this.#thread.tell({ type: 'runTo', until });
  }

  setSpeed(eventsPerSecond: number | null): void {
    this.speed = eventsPerSecond;
    this.#thread.tell({ type: 'speed', eventsPerSecond });
    this.onChange();
  }

  /**
   * The thread has another state. Once it has ended or failed it stays so, and that is told when all
   * of its events are there.
   */
  report(report: Report): void {
    const isFinal = report.state === 'ended' || report.state === 'failed';
    if (isFinal && this.#collecting) this.#final ??= report;
    else this.#become(report);
  }

  /** The run is over for viewers, whatever is still to come. */
  fail(reason: string): void {
    this.#become({ state: 'failed', reason });
  }

  #become({ state, reason }: Report): void {
    if (this.state === 'ended' || this.state === 'failed') return;
    this.state = state;
    this.reason = reason;
    this.onChange();
  }

  /**
   * Moves frames from the ring into the history until the ring's writer has closed. When they cannot
   * be kept any more the run has failed for viewers; it goes on by itself, so that no program hangs.
   * @param keep told of each frame too: a recording
   */
  async collect(ring: RingReader, keep?: (frame: Uint8Array) => void): Promise<void> {
    this.#collecting = true;
    while (!ring.ended && !this.#closed) {
      await ring.wait(1000);
      for (let i = 0; i < GULP; i++) {
        const frame = ring.take(this.history.pool.take);
        if (frame === undefined) break;
        this.#keep(frame, keep);
      }
      this.onChange();
      await new Promise(setImmediate);
    }
    this.#collecting = false;
    if (this.#final !== undefined) this.#become(this.#final);
  }

  #keep(frame: Uint8Array, keep?: (frame: Uint8Array) => void): void {
    if (this.state === 'failed') return;
    try {
      this.history.append(frame);
      keep?.(frame);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.fail(`the trace cannot be kept: ${why}`);
    }
  }

  close(): void {
    this.#closed = true;
    this.history.close();
  }
}
