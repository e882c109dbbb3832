import { FRAME_BYTES } from '../wire/frame.ts';

/** Bytes free before each frame, for the message around it. */
export const HEADROOM = 64;

/** Memory that nobody uses and that is kept for the next frames, in frames. */
const MOST_FREE = 128;

/**
 * Memory for frames on their way: taken, shared by who still needs it, and used again. Fresh memory
 * costs more than all that is done with a frame.
 */
export class FramePool {
  readonly #free: ArrayBuffer[] = [];
  readonly #users = new WeakMap<ArrayBufferLike, number>();

  /** Room for a frame of so many bytes, at most FRAME_BYTES, with HEADROOM before it. */
  readonly take = (bytes: number): Uint8Array => {
    const buffer = this.#free.pop() ?? new ArrayBuffer(HEADROOM + FRAME_BYTES);
    this.#users.set(buffer, 1);
    return new Uint8Array(buffer, HEADROOM, bytes);
  };

  /** Whether the frame is in memory of this pool. */
  has({ buffer }: Uint8Array): boolean {
    return this.#users.has(buffer);
  }

  /** One more needs it, until a `release`. */
  hold({ buffer }: Uint8Array): void {
    const users = this.#users.get(buffer);
    if (users !== undefined) this.#users.set(buffer, users + 1);
  }

  release({ buffer }: Uint8Array): void {
    const users = this.#users.get(buffer);
    if (users === undefined) return;
    if (users > 1) {
      this.#users.set(buffer, users - 1);
      return;
    }
    this.#users.delete(buffer);
    if (this.#free.length < MOST_FREE) this.#free.push(buffer as ArrayBuffer);
  }
}
