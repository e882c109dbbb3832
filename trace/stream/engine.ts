import type { History } from './history.ts';
import type { Control, RunState } from './protocol.ts';

/** Where a run is to stop by itself: after the event, or where the next phase begins. */
export type Until = { readonly seq: number } | 'phase';

/** What goes on, for the server: a run and what it has told. The server sees it only through this. */
export interface Engine {
  readonly mode: 'live' | 'replay' | 'exec';
  readonly history: History;
  /** What it can do for viewers who may. */
  readonly controls: readonly Control[];
  readonly state: RunState;
  /** Why it failed, or what came of it. */
  readonly reason: string | undefined;
  /** Events in a second of real time; null: as fast as it goes. */
  readonly speed: number | null;
  pause(): void;
  resume(): void;
  runTo(until: Until): void;
  setSpeed(eventsPerSecond: number | null): void;
  /** Tells when there are new frames or another state. One listener. */
  onChange: () => void;
}

/** What a recording is to a server: all that will ever be told is there, and viewers have the clock. */
export class Replay implements Engine {
  readonly mode = 'replay';
  readonly history: History;
  readonly controls = ['pause', 'resume', 'step', 'speed', 'seek'] as const;
  readonly state = 'ended';
  readonly reason: string | undefined;
  readonly speed: number | null;
  onChange: () => void = () => undefined;

  /** @param speed events in a second with which a viewer begins; null: as fast as it goes */
  constructor(history: History, speed: number | null, reason?: string) {
    this.history = history;
    this.speed = speed;
    this.reason = reason;
  }

  pause(): void {}
  resume(): void {}
  runTo(): void {}
  setSpeed(): void {}
}
