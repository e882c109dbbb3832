import { closeSync, openSync, readSync } from 'node:fs';

const CHUNK = 1 << 16;
const LINE = /^([0-9a-f]+)-([0-9a-f]+) (r|-)(w|-)(?:x|-)(s|p) ([0-9a-f]+) (\S+) (\d+) *(.*)$/;

/** Memory of the kernel's own that a device may not use. */
const SPECIAL = /^\[(?:vvar|vsyscall|vvar_vclock)\]$/;

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
  #bytes = Buffer.alloc(CHUNK);

  /** Throws what open says. */
  constructor(pid: number) {
    this.#fd = openSync(`/proc/${pid}/maps`, 'r');
  }

  /** The mappings that meet the range, ascending; at a hole, nothing follows. */
  covering(start: number, end: number): Mapping[] {
    const found: Mapping[] = [];
    let at = start;
    for (const line of this.#text().split('\n')) {
      // Cheaper than the expression for the lines before.
      if (Number.parseInt(line.slice(line.indexOf('-') + 1), 16) <= at) continue;
      const mapping = parseLine(line);
      if (mapping === undefined || mapping.start > at || at >= end) break;
      found.push(mapping);
      at = mapping.end;
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

  #text(): string {
    let length = 0;
    for (;;) {
      if (this.#bytes.length - length < CHUNK / 2) {
        this.#bytes = Buffer.concat([this.#bytes], 2 * this.#bytes.length);
      }
      const got = readSync(this.#fd, this.#bytes, length, this.#bytes.length - length, length);
      if (got === 0) return this.#bytes.toString('latin1', 0, length);
      length += got;
    }
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
