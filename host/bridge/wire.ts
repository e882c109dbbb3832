/** What travels between a program, the broker and the engine: preload/wire.h, byte for byte. */

export const MAGIC = 0x61767376;
export const REQUEST_BYTES = 80;
const TAIL_BYTES = 4;
const REQUEST_MAX = 4096;
/** Longest part of an ioctl argument that travels with a request. */
export const INLINE_MAX = 128;

export const OP = {
  HELLO: 1,
  BYE: 2,
  OPEN: 3,
  IOCTL: 4,
  READ: 5,
  WRITE: 6,
  PREAD: 7,
  PWRITE: 8,
  MMAP: 9,
  SETTLE: 10,
  STAT: 11,
  WAKE: 12,
  PATH: 13,
  LOAD: 14,
  STORE: 15,
  LEAVE: 16,
} as const;

/** The library can write the argument, so the reply brings its first bytes. */
export const REQUEST_WRITABLE = 1;

export const REPLY_BYTES = 24;
/** Longest data of a reply. */
const REPLY_MAX = 1024;
export const REPLY = { AGAIN: 1, SPARE: 2, INHERIT: 4, STALE: 8, PINS: 16 } as const;

export const COMMAND = {
  DRAIN: 1,
  WATCH: 2,
  RESOLVE: 3,
  SIGNAL: 4,
  DROP: 5,
  READABLE: 6,
} as const;
export const COMMAND_BYTES = 16;
export const ANSWER_BYTES = 16;

export const EVENT = { OPENED: 1, CLOSED: 2, DEAD: 3, EXIT: 4, INVITED: 5 } as const;
export const EVENT_BYTES = 16;

/** Where a path leads: the program's own files, an engine's file, the engine's private tree. */
export const PLACE = { OWN: 0, DEVICE: 1, TREE: 2 } as const;

export const KIND = { OTHER: 0, FILE: 1, EVENTFD: 2 } as const;

export interface Request {
  readonly op: number;
  readonly pid: number;
  readonly channel: number;
  readonly sequence: number;
  /** The device file, 0 for none. */
  readonly file: number;
  /** Its number in the process. */
  readonly fd: number;
  /** A connection that may become a new file, 0 for none. */
  readonly spareFile: number;
  readonly spareFd: number;
  readonly flags: number;
  /** Of the process's memory: two halves of a random number. */
  readonly imageLow: number;
  readonly imageHigh: number;
  /** Signed; an address above 2^53 loses its low bits, and is nobody's address anyway. */
  readonly args: readonly [number, number, number, number];
  /** A view of the reader's buffer: gone at its next `room`. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/**
 * Cuts the request pipe's stream into requests. A request is one atomic write, so only rubbish can
 * break the frame: then the next place where a whole valid request begins is looked for, and what
 * others wrote is not lost.
 */
export class RequestReader {
  readonly #bytes = new Uint8Array(1 << 17);
  readonly #view = new DataView(this.#bytes.buffer);
  #start = 0;
  #end = 0;

  /** What is read goes here, */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** ... from this index on, where there is room for at least 64 KiB; then call `added`. */
  room(): number {
    if (this.#start === this.#end) {
      this.#start = this.#end = 0;
    } else if (this.#start > 0) {
      this.#bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    return this.#end;
  }

  added(bytes: number): void {
    this.#end += bytes;
  }

  /** The next whole request. */
  next(): Request | undefined {
    for (; this.#start < this.#end; this.#start++) {
      const left = this.#end - this.#start;
      if (left < 8) {
        // Too short to judge, unless it already differs from how a request begins.
        if (this.#bytes[this.#start] === (MAGIC & 0xff)) return undefined;
        continue;
      }
      const at = this.#start;
      const view = this.#view;
      if (view.getUint32(at, true) !== MAGIC) continue;
      const length = view.getUint16(at + 6, true);
      if (length < REQUEST_BYTES + TAIL_BYTES || length > REQUEST_MAX) continue;
      // A part of a request is rubbish once something else follows it; until then it may wait.
      if (left < length) {
        const later = this.#validAfter(at + 1);
        if (later < 0) return undefined;
        this.#start = later - 1;
        continue;
      }
      if (!this.#valid(at, length)) continue;
      this.#start += length;
      return this.#decode(at, length);
    }
    return undefined;
  }

  /** Where, from `from` on, a whole valid request begins; -1: nowhere. */
  #validAfter(from: number): number {
    for (let at = from; at + REQUEST_BYTES + TAIL_BYTES <= this.#end; at++) {
      if (this.#view.getUint32(at, true) !== MAGIC) continue;
      const length = this.#view.getUint16(at + 6, true);
      if (length >= REQUEST_BYTES + TAIL_BYTES && at + length <= this.#end) {
        if (this.#valid(at, length)) return at;
      }
    }
    return -1;
  }

  #valid(at: number, length: number): boolean {
    const view = this.#view;
    const sum = MAGIC ^ view.getUint32(at + 16, true) ^ view.getUint32(at + 8, true) ^ length;
    return view.getUint32(at + length - TAIL_BYTES, true) === sum >>> 0;
  }

  #decode(at: number, length: number): Request {
    const view = this.#view;
    const arg = (i: number): number =>
      view.getInt32(at + 52 + 8 * i, true) * 2 ** 32 + view.getUint32(at + 48 + 8 * i, true);
    return {
      op: view.getUint16(at + 4, true),
      pid: view.getUint32(at + 8, true),
      channel: view.getUint32(at + 12, true),
      sequence: view.getUint32(at + 16, true),
      file: view.getUint32(at + 20, true),
      fd: view.getInt32(at + 24, true),
      spareFile: view.getUint32(at + 28, true),
      spareFd: view.getInt32(at + 32, true),
      flags: view.getUint32(at + 36, true),
      imageLow: view.getUint32(at + 40, true),
      imageHigh: view.getUint32(at + 44, true),
      args: [arg(0), arg(1), arg(2), arg(3)],
      data: this.#bytes.subarray(at + REQUEST_BYTES, at + length - TAIL_BYTES),
    };
  }
}

/** Where replies are made. */
export class ReplyWriter {
  /** Of which the first `encode()` bytes are the reply. */
  readonly bytes = new Uint8Array(REPLY_BYTES + REPLY_MAX);
  readonly #view = new DataView(this.bytes.buffer);

  /** Returns the reply's length in bytes. */
  encode(sequence: number, result: number, flags: number, data: Uint8Array): number {
    const view = this.#view;
    view.setUint32(0, sequence, true);
    view.setUint32(4, data.length, true);
    view.setInt32(8, result, true);
    view.setInt32(12, Math.floor(result / 2 ** 32), true);
    view.setUint32(16, flags, true);
    if (data.length > 0) this.bytes.set(data, REPLY_BYTES);
    return REPLY_BYTES + data.length;
  }
}
