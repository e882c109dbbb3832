import type { FrameSlots } from './encoder.ts';
import { FRAME_BYTES } from './frame.ts';

/** Words before the slots: frames written, frames taken, closed, signals, slots; then each one's length. */
const WRITTEN = 0;
const TAKEN = 1;
const CLOSED = 2;
const SIGNAL = 3;
const SLOTS = 4;
const LENGTHS = 5;

const headBytes = (slots: number): number => Math.ceil(((LENGTHS + slots) * 4) / 64) * 64;

/**
 * Shared memory for frames between the thread of the engine and the one that reads. RangeError unless
 * `slots` is a power of two: frame numbers wrap around.
 */
export function createRing(slots = 64): SharedArrayBuffer {
  if (!Number.isInteger(Math.log2(slots))) throw new RangeError(`a ring of ${slots} slots`);
  const ring = new SharedArrayBuffer(headBytes(slots) + slots * FRAME_BYTES);
  new Int32Array(ring)[SLOTS] = slots;
  return ring;
}

/** What both ends see. */
class RingView {
  readonly words: Int32Array;
  readonly slots: number;
  readonly #ring: SharedArrayBuffer;

  constructor(ring: SharedArrayBuffer) {
    this.#ring = ring;
    this.words = new Int32Array(ring, 0, headBytes(new Int32Array(ring)[SLOTS]!) >> 2);
    this.slots = this.words[SLOTS]!;
  }

  slot(frame: number, bytes: number): Uint8Array {
    const index = (frame >>> 0) % this.slots;
    return new Uint8Array(this.#ring, headBytes(this.slots) + index * FRAME_BYTES, bytes);
  }

  length(frame: number): number {
    return LENGTHS + ((frame >>> 0) % this.slots);
  }
}

/**
 * The engine's end. With every slot full it waits for the reader: nothing is dropped here. Only the
 * reader drops, towards a viewer that is too slow.
 */
export class RingWriter implements FrameSlots {
  readonly #ring: RingView;

  constructor(ring: SharedArrayBuffer) {
    this.#ring = new RingView(ring);
  }

  take(): Uint8Array {
    const { words, slots } = this.#ring;
    const frame = words[WRITTEN]!;
    for (;;) {
      const taken = Atomics.load(words, TAKEN);
      if (((frame - taken) | 0) < slots) return this.#ring.slot(frame, FRAME_BYTES);
      Atomics.wait(words, TAKEN, taken);
    }
  }

  publish(bytes: number): void {
    const { words } = this.#ring;
    const frame = words[WRITTEN]!;
    words[this.#ring.length(frame)] = bytes;
    Atomics.store(words, WRITTEN, (frame + 1) | 0);
    this.#signal();
  }

  /** Nothing more will come. */
  close(): void {
    const { words } = this.#ring;
    Atomics.store(words, CLOSED, 1);
    this.#signal();
  }

  #signal(): void {
    const { words } = this.#ring;
    Atomics.add(words, SIGNAL, 1);
    Atomics.notify(words, SIGNAL);
  }
}

/** The other end. */
export class RingReader {
  readonly #ring: RingView;

  constructor(ring: SharedArrayBuffer) {
    this.#ring = new RingView(ring);
  }

  /** Frames that wait. */
  get waiting(): number {
    const { words } = this.#ring;
    return (Atomics.load(words, WRITTEN) - words[TAKEN]!) | 0;
  }

  /** The writer has closed and nothing waits. */
  get ended(): boolean {
    return Atomics.load(this.#ring.words, CLOSED) === 1 && this.waiting === 0;
  }

  /**
   * A copy of the next frame, whose slot is then free; undefined: none waits.
   * @param room gives the memory for the copy
   */
  take(room = (bytes: number): Uint8Array => new Uint8Array(bytes)): Uint8Array | undefined {
    if (this.waiting === 0) return undefined;
    const { words } = this.#ring;
    const frame = words[TAKEN]!;
    const length = Math.min(Math.max(0, words[this.#ring.length(frame)]!), FRAME_BYTES);
    // Not a view of shared memory: sockets and files want bytes that nobody else writes.
    const copy = room(length);
    copy.set(this.#ring.slot(frame, length));
    Atomics.store(words, TAKEN, (frame + 1) | 0);
    Atomics.notify(words, TAKEN);
    return copy;
  }

  /** Resolves when a frame waits or the writer has closed, or after `ms`. */
  async wait(ms = Infinity): Promise<void> {
    const { words } = this.#ring;
    const signal = Atomics.load(words, SIGNAL);
    if (this.waiting > 0 || Atomics.load(words, CLOSED) === 1) return;
    const wait = Atomics.waitAsync(words, SIGNAL, signal, ms);
    if (wait.async) await wait.value;
  }
}
