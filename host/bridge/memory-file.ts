import { closeSync, fstatSync, openSync, readSync, statfsSync } from 'node:fs';
import { Errno } from '../kernel/errno.ts';
import type { FileMemory } from '../kernel/file.ts';
import type { ForeignFrames } from './foreign.ts';
import { move, type ProcessMemory } from './process-memory.ts';
import type { SharedObject } from './shared-object.ts';
import type { SharedObjects } from './shared-objects.ts';

const PAGE_BYTES = 4096;
/** Kinds of file systems that keep their files in memory: tmpfs and hugetlbfs. */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x0102_1994, 0x9584_58f6]);

/** A memfd of a real program, or another file in memory, with a descriptor of our own. */
export class MemoryFile implements FileMemory {
  readonly #file: number;
  readonly #frames: ForeignFrames;
  readonly #shared: SharedObjects;
  readonly #object: string;
  #holders = 1;

  private constructor(file: number, frames: ForeignFrames, shared: SharedObjects) {
    this.#file = file;
    this.#frames = frames;
    this.#shared = shared;
    const { dev, ino } = fstatSync(file, { bigint: true });
    this.#object = `${deviceText(dev)}:${ino.toString()}`;
  }

  /** The file behind a program's descriptor; undefined if it is not one whose pages can be pinned. */
  static open(
    fd: number,
    memory: ProcessMemory,
    frames: ForeignFrames,
    shared: SharedObjects,
  ): MemoryFile | undefined {
    const path = `/proc/${memory.pid}/fd/${fd}`;
    try {
      // What is no file in memory is never opened: that could block, or have effects.
      if (!MEMORY_FILE_SYSTEMS.has(statfsSync(path).type)) return undefined;
      const file = openSync(path, 'r+');
      if (fstatSync(file).isFile()) return new MemoryFile(file, frames, shared);
      closeSync(file);
    } catch {
      // Not ours to open again.
    }
    return undefined;
  }

  get bytes(): number {
    return fstatSync(this.#file).size;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    if (--this.#holders === 0) closeSync(this.#file);
  }

  /** The program maps its files itself: the simulated kernel has no part in it. */
  frame(): number {
    return -1;
  }

  pin(page: number, count: number): Float64Array<ArrayBuffer> {
    const { bytes } = this;
    if ((page + count - 1) * PAGE_BYTES >= bytes) {
      const what = `pages ${page} to ${page + count - 1}`;
      throw new Errno('EINVAL', `${what} end beyond the file's ${bytes} bytes`);
    }
    const backing = this.#backing();
    const pfns = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const pfn = this.#frames.pin(backing, page + i);
      if (pfn < 0) {
        this.unpin(pfns.subarray(0, i));
        throw new Errno('ENOMEM', 'every foreign frame number is in use');
      }
      pfns[i] = pfn;
    }
    return pfns;
  }

  unpin(pfns: Iterable<number>): void {
    for (const pfn of pfns) this.#frames.unpin(pfn);
    this.#shared.collect();
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    const step = (done: number, left: number): number =>
      readSync(this.#file, bytes, done, left, offset + done);
    if (move(length, step)) return bytes;
    throw new Errno('EFAULT', `${length} bytes at ${offset} of the file are not there`);
  }

  write(offset: number, bytes: Uint8Array): void {
    const written = offset + bytes.length <= this.bytes && this.#backing().write(offset, bytes);
    this.#shared.collect();
    if (!written) throw new Errno('EFAULT', `byte ${offset} of the file cannot be written`);
  }

  /** The same one for all who have the file mapped or pinned. */
  #backing(): SharedObject {
    return this.#shared.ofFile(this.#object, this.#file);
  }
}

/** A device number as /proc/PID/maps writes it. */
function deviceText(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  const text = (value: bigint): string => value.toString(16).padStart(2, '0');
  return `${text(major)}:${text(minor)}`;
}
