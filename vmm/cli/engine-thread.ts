/** The thread that owns the simulated world of `vsva serve`: frames go out, commands come in. */
import {
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  workerData,
} from 'node:worker_threads';
import type { EventRecord } from '../../trace/event.ts';
import { phaseOf } from '../../trace/story/walkthrough.ts';
import type { Command, Report } from '../../trace/stream/thread.ts';
import type { Sink } from '../../trace/tracer.ts';
import { FrameEncoder } from '../../trace/wire/encoder.ts';
import { RingWriter } from '../../trace/wire/ring.ts';
import { World, type WorldOptions } from '../scenario/world.ts';
import { type Judged, verdict } from './verdict.ts';

/** What the thread is started with. */
export interface EngineData {
  readonly world: Omit<WorldOptions, 'listeners' | 'sinks'>;
  readonly judged: Judged;
  readonly ring: SharedArrayBuffer;
  /** One word that counts commands: the thread sleeps on it. */
  readonly bell: SharedArrayBuffer;
  readonly commands: MessagePort;
  /** It waits for `resume` before its first event. */
  readonly paused: boolean;
  readonly speed: number | null;
}

/** Clock events between two looks at the commands. */
const SLICE = 512;

/** Virtual time after which a run with a mistake is over, in nanoseconds. */
const LONGEST_NS = 10_000_000_000;

/** Real milliseconds that an event may wait for its frame to be filled. */
const FLUSH_MS = 15;

/** Real milliseconds between two looks at what a speed allows. */
const PACE_MS = 10;

/** Stops the world where it is asked to, and paces it. */
class Gate implements Sink {
  running: boolean;
  speed: number | null;
  /** The run is to stop after this event. */
  seq = Infinity;
  toPhase = false;
  /** Events that the speed still allows. */
  credit = 0;
  /** The last event told. */
  last = 0;

  constructor(running: boolean, speed: number | null) {
    this.running = running;
    this.speed = speed;
  }

  event(record: EventRecord): void {
    this.last = record.seq;
    this.credit--;
    if (record.seq >= this.seq || (this.toPhase && phaseOf(record) !== undefined)) this.stop();
  }

  end(): void {}

  goes(): boolean {
    return this.running && (this.speed === null || this.credit > 0);
  }

  stop(): void {
    this.running = false;
    this.seq = Infinity;
    this.toPhase = false;
  }

  obey(command: Command): void {
    switch (command.type) {
      case 'pause':
        this.stop();
        break;
      case 'resume':
        this.stop();
        this.running = true;
        break;
      case 'runTo':
        if (command.until === 'phase') this.toPhase = true;
        else if (command.until.seq > this.last) this.seq = command.until.seq;
        else break;
        this.running = true;
        break;
      case 'speed':
        this.speed = command.eventsPerSecond;
        this.credit = 0;
        break;
    }
  }
}

/** Commands that have come. */
function* waiting(commands: MessagePort): Generator<Command> {
  for (;;) {
    const got = receiveMessageOnPort(commands) as { readonly message: Command } | undefined;
    if (got === undefined) return;
    yield got.message;
  }
}

function main({ world: options, judged, ring, bell, commands, paused, speed }: EngineData): void {
  const writer = new RingWriter(ring);
  const encoder = new FrameEncoder(writer, { hot: false });
  const gate = new Gate(!paused, speed);
  const judge = verdict(judged);
  const world = new World({ ...options, listeners: [judge.listener], sinks: [encoder, gate] });
  const mayHang = (options.bugs?.size ?? 0) > 0;
  const count = new Int32Array(bell);
  const report = (state: Report): void => parentPort?.postMessage(state);
  let told: boolean | undefined;
  let flushedAt = performance.now();
  let pacedAt = flushedAt;
  const flush = (): void => {
    encoder.flush();
    flushedAt = performance.now();
  };
  try {
    for (let more = true; more; ) {
      const heard = Atomics.load(count, 0);
      for (const command of waiting(commands)) gate.obey(command);
      if (gate.running !== told) {
        told = gate.running;
        flush();
        report({ state: told ? 'running' : 'paused' });
      }
      if (gate.speed !== null) {
        const now = performance.now();
        gate.credit = Math.min(
          gate.credit + ((now - pacedAt) * gate.speed) / 1000,
          Math.max(1, gate.speed / 20),
        );
        pacedAt = now;
      }
      if (!gate.goes()) {
        flush();
        Atomics.wait(count, 0, heard, gate.running ? PACE_MS : Infinity);
        continue;
      }
      let steps = 0;
      do {
        more = world.step();
        steps++;
      } while (more && steps < SLICE && gate.goes());
      if (performance.now() - flushedAt >= FLUSH_MS) flush();
      // A mistake that was switched on may make somebody wait for ever.
      if (mayHang && world.ns > LONGEST_NS) more = false;
    }
    flush();
    writer.close();
    report({
      state: 'ended',
      reason: judge.text(mayHang && !world.done ? world.unfinished() : world.result()),
    });
  } catch (error) {
    flush();
    writer.close();
    report({ state: 'failed', reason: error instanceof Error ? error.message : String(error) });
  }
}

main(workerData as EngineData);
