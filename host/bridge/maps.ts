import { closeSync, openSync, readSync } from 'node:fs';

const CHUNK = 1 << 16;
const NEWLINE = 0x0a;
const SPACE = 0x20;
const DASH = 0x2d;
const DIGIT_0 = 0x30;
const LETTER_A = 0x61;
const LINE = /^([0-9a-f]+)-([0-9a-f]+) (r|-)(w|-)(?:x|-)(s|p) ([0-9a-f]+) (\S+) (\d+) *(.*)$/;

/** Memory of the kernel's own that a device may not use. */
const SPECIAL = /^\[(?:vvar|vsyscall|vvar_vclock)\]$/;

/** While it stands still, what was read of mappings is believed: one call of one program. */
export interface Moment {
  now: number;
}

/** A line of /proc/PID/maps. Addresses in bytes. */
export interface Mapping {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly shared: boolean;
  /** Bytes in the file. */
  readonly offset: number;
  /** What shared mappings of one object have in common. */
  readonly object: string;
}

/**
 * The mappings of one process image. The open file belongs to that image: after exec or exit it
 * reads as empty.
 */
export class Maps implements Disposable {
  readonly #fd: number;
  readonly #moment: Moment;
  #bytes = Buffer.alloc(CHUNK);
  /** Bytes read at this moment, and whether that is all. */
  #length = 0;
  #complete = false;
  #read = -1;

  /** Throws what open says. */
  constructor(pid: number, moment: Moment) {
    this.#fd = openSync(`/proc/${pid}/maps`, 'r');
    this.#moment = moment;
  }

  /** All of them, ascending. */
  all(): Mapping[] {
    this.#refresh();
    const found: Mapping[] = [];
    for (let line = 0, next = 0; (next = this.#lineEnd(line)) >= 0; line = next + 1) {
      const mapping = parseLine(this.#bytes.toString('latin1', line, next));
      if (mapping !== undefined) found.push(mapping);
    }
    return found;
  }

  /** The mappings that meet the range, ascending; at a hole, nothing follows. */
  covering(start: number, end: number): Mapping[] {
    this.#refresh();
    const found: Mapping[] = [];
    for (let at = start, line = 0; at < end; ) {
      const next = this.#lineEnd(line);
      if (next < 0) break;
      // Cheaper than the expression for the lines before.
      if (this.#endOf(line) > at) {
        const mapping = parseLine(this.#bytes.toString('latin1', line, next));
        if (mapping === undefined || mapping.start > at) break;
        found.push(mapping);
        at = mapping.end;
      }
      line = next + 1;
    }
    return found;
  }

  /** Whether every byte of the range may be read, or written. */
  allows(start: number, end: number, write: boolean): boolean {
    let at = start;
    for (const mapping of this.covering(start, end)) {
      if (write ? !mapping.writable : !mapping.readable) break;
      at = mapping.end;
    }
    return at >= end;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #refresh(): void {
    if (this.#read === this.#moment.now) return;
    this.#read = this.#moment.now;
    this.#length = 0;
    this.#complete = false;
  }

  /** Where the line that begins at `from` ends, reading on if need be; -1: there is none. */
  #lineEnd(from: number): number {
    for (let at = from; ; at++) {
      if (at >= this.#length && !this.#more()) return -1;
      if (this.#bytes[at] === NEWLINE) return at;
    }
  }

  /** The second number of a line. */
  #endOf(line: number): number {
    let at = line;
    while (this.#bytes[at] !== DASH) at++;
    let value = 0;
    for (at++; this.#bytes[at] !== SPACE; at++) {
      const digit = this.#bytes[at]!;
      value = value * 16 + (digit >= LETTER_A ? digit - LETTER_A + 10 : digit - DIGIT_0);
    }
    return value;
  }

  /** Reads on: the file gives a page or so at a time. */
  #more(): boolean {
    if (this.#complete) return false;
    if (this.#bytes.length - this.#length < CHUNK / 2) {
      this.#bytes = Buffer.concat([this.#bytes], 2 * this.#bytes.length);
    }
    const room = this.#bytes.length - this.#length;
    const got = readSync(this.#fd, this.#bytes, this.#length, room, this.#length);
    this.#length += got;
    this.#complete = got === 0;
    return got > 0;
  }
}

/** Exported for its test. */
export function parseLine(line: string): Mapping | undefined {
  const match = LINE.exec(line);
  if (match === null) return undefined;
  const [, start, end, read, write, share, offset, device, inode, name] = match;
  const special = SPECIAL.test(name!);
  return {
    start: Number.parseInt(start!, 16),
    end: Number.parseInt(end!, 16),
    readable: read === 'r' && !special,
    writable: write === 'w' && !special,
    shared: share === 's',
    offset: Number.parseInt(offset!, 16),
    object: `${device!}:${inode!}`,
  };
}
