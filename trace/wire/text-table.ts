/** A text in a record is at most this many bytes of UTF-8; a longer one is cut and ends in an ellipsis. */
export const TEXT_BYTES = 4096;

const ELLIPSIS = '\u2026';

/** Texts that a frame can hold, as their indexes are 16 bits. */
const MOST_TEXTS = 0xffff;

/** The texts of one frame while it is written, each once, already as UTF-8. */
export class TextTable {
  readonly #index = new Map<string, number>();
  readonly #bytes: Uint8Array;
  readonly #ends: Uint32Array;
  readonly #encoder = new TextEncoder();
  #used = 0;

  /** @param capacity bytes that a frame has for texts at most */
  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity + TEXT_BYTES);
    this.#ends = new Uint32Array(MOST_TEXTS);
  }

  get count(): number {
    return this.#index.size;
  }

  /** Bytes of the table in a frame: count, ends, texts, filled up to a multiple of 4. */
  get size(): number {
    return 4 + 4 * this.#index.size + Math.ceil(this.#used / 4) * 4;
  }

  /** What the table grows by at most when the text is added. */
  growth(text: string): number {
    if (this.#index.has(text)) return 0;
    return 8 + Math.min(3 * text.length, TEXT_BYTES);
  }

  /** Whether as many more texts can be numbered. */
  hasRoom(texts: number): boolean {
    return this.#index.size + texts <= MOST_TEXTS;
  }

  /** The index of a text. */
  add(text: string): number {
    const known = this.#index.get(text);
    if (known !== undefined) return known;
    const index = this.#index.size;
    const from = this.#used;
    const { written } =
      3 * text.length <= TEXT_BYTES
        ? this.#encoder.encodeInto(text, this.#bytes.subarray(from))
        : this.#addLong(text, from);
    this.#used = from + written;
    this.#ends[index] = this.#used;
    this.#index.set(text, index);
    return index;
  }

  #addLong(text: string, from: number): { written: number } {
    const room = this.#bytes.subarray(from, from + TEXT_BYTES);
    const whole = this.#encoder.encodeInto(text, room);
    if (whole.read === text.length) return whole;
    const cut = this.#encoder.encodeInto(text, room.subarray(0, TEXT_BYTES - 3));
    return {
      written: cut.written + this.#encoder.encodeInto(ELLIPSIS, room.subarray(cut.written)).written,
    };
  }

  /** Writes the table at a multiple of 4 of `frame` and begins anew. Returns where it ends. */
  flush(frame: Uint8Array, at: number): number {
    const { size, count } = this;
    const words = new Uint32Array(frame.buffer, frame.byteOffset + at, 1 + count);
    words[0] = count;
    words.set(this.#ends.subarray(0, count), 1);
    const from = at + 4 + 4 * count;
    frame.set(this.#bytes.subarray(0, this.#used), from);
    frame.fill(0, from + this.#used, at + size);
    this.#index.clear();
    this.#used = 0;
    return at + size;
  }
}
