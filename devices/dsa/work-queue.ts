import {
  decodeWqcfg,
  WQCFG_WORDS,
  type WqConfig,
  Wqcfg,
  WqcfgState,
  WqState,
} from '../spec/dsa/tables.ts';
import type { Work } from './work.ts';

/** Writable bits of the WQCFG dwords; the occupancy interrupt is not offered. */
const WRITABLE: readonly number[] = [
  0xffff,
  0xffff,
  0x3fff_ffff,
  0x01ff,
  0,
  0,
  0,
  0,
  ...new Array<number>(Wqcfg.OP_CONFIG_BYTES / 4).fill(0xffff_ffff),
];

/** One work queue: its WQCFG entry, its state and the descriptors that wait in it. */
export class WorkQueue {
  readonly index: number;
  state: number = WqState.DISABLED;
  /** Group that holds the queue, -1 for none; fixed while the device is enabled. */
  group = -1;
  /** Arbitration credit (see `arbitrate`). */
  credit = 0;
  /** The configuration, as it was when the queue was enabled. */
  config: WqConfig;
  readonly #words = new Uint32Array(WQCFG_WORDS);
  #queue: Work[] = [];

  constructor(index: number) {
    this.index = index;
    this.config = decodeWqcfg(this.#words);
  }

  get occupancy(): number {
    return this.#queue.length;
  }

  readWord(word: number): number {
    if (word !== Wqcfg.STATE / 4) return this.#words[word] ?? 0;
    return WqcfgState.encode({ occupancy: Math.min(this.occupancy, 0xffff), state: this.state });
  }

  /** A write to an enabled or draining queue is ignored, read-only bits always are. */
  writeWord(word: number, value: number): void {
    if (this.state !== WqState.DISABLED) return;
    this.#words[word] = value & (WRITABLE[word] ?? 0);
  }

  /** The configuration as it stands in the registers. */
  written(): WqConfig {
    return decodeWqcfg(this.#words);
  }

  enable(): void {
    this.config = this.written();
    this.state = WqState.ENABLED;
  }

  clearConfig(): void {
    this.#words.fill(0);
  }

  push(work: Work): void {
    this.#queue.push(work);
  }

  shift(): Work | undefined {
    return this.#queue.shift();
  }

  has(matches: (work: Work) => boolean): boolean {
    return this.#queue.some(matches);
  }

  discard(matches: (work: Work) => boolean): void {
    this.#queue = this.#queue.filter((work) => !matches(work));
  }
}

/**
 * Which queue of a group an idle engine serves next: weighted round robin by priority. Every queue
 * with work earns its priority, the richest is served and pays what all earned.
 */
export function arbitrate(queues: readonly WorkQueue[], group: number): WorkQueue | null {
  let best: WorkQueue | null = null;
  let total = 0;
  for (const queue of queues) {
    if (queue.group !== group) continue;
    if (queue.occupancy === 0) {
      queue.credit = 0;
      continue;
    }
    queue.credit += queue.config.priority;
    total += queue.config.priority;
    if (best === null || queue.credit > best.credit) best = queue;
  }
  if (best !== null) best.credit -= total;
  return best;
}
