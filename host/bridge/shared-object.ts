import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import type { Backing } from './foreign.ts';
import type { Mapping } from './maps.ts';
import { move, type ProcessMemory } from './process-memory.ts';

/**
 * What shared mappings show: a memfd, shared anonymous memory, a file. Pages are those of the
 * object, so all processes and addresses that map it have the same ones. It is reached through the
 * client's fd directory where the client has it open, which outlives the client; otherwise through
 * the memory of the process that pinned it first.
 */
export class SharedObject implements Backing {
  readonly #file: number;
  readonly #memory: ProcessMemory;
  #mapping: Mapping | undefined;

  /**
   * @param mapping where the process has it mapped, if it is known to
   * @param file an open descriptor of it, which stays the caller's
   */
  constructor(memory: ProcessMemory, mapping: Mapping | undefined, file = -1) {
    this.#memory = memory;
    this.#mapping = mapping;
    this.#file = file >= 0 ? openAgain(file) : mapping ? openObject(memory.pid, mapping) : -1;
  }

  read(at: number, into: Uint8Array): boolean {
    const file = this.#file;
    if (
      file >= 0 &&
      move(into.length, (done, left) => readSync(file, into, done, left, at + done))
    ) {
      return true;
    }
    const address = this.#address(at, into.length);
    return address >= 0 && this.#memory.read(address, into);
  }

  write(at: number, from: Uint8Array): boolean {
    const file = this.#file;
    if (
      file >= 0 &&
      move(from.length, (done, left) => writeSync(file, from, done, left, at + done))
    ) {
      return true;
    }
    const address = this.#address(at, from.length);
    return address >= 0 && this.#memory.write(address, from);
  }

  /** Whether its pages are reached through what `memory` has mapped. */
  dependsOn(memory: ProcessMemory): boolean {
    return this.#file < 0 && this.#memory === memory;
  }

  /** The process unmaps a range, or moves it to `target`; -1: it is gone. */
  left(start: number, end: number, target: number): void {
    const mapping = this.#mapping;
    if (mapping === undefined || start >= mapping.end || end <= mapping.start) return;
    const whole = start <= mapping.start && end >= mapping.end && target >= 0;
    const moved = target + (mapping.start - start);
    // A part is as good as nothing: the rest would need a mapping for each piece.
    this.#mapping = whole
      ? { ...mapping, start: moved, end: moved + (mapping.end - mapping.start) }
      : undefined;
  }

  close(): void {
    if (this.#file >= 0) closeSync(this.#file);
  }

  /** Where the process that pinned it has it; -1: not in that mapping. */
  #address(at: number, length: number): number {
    if (this.#mapping === undefined) return -1;
    const { start, end, offset } = this.#mapping;
    const address = start + (at - offset);
    return address >= start && address + length <= end ? address : -1;
  }
}

function openAgain(file: number): number {
  try {
    return openSync(`/proc/self/fd/${file}`, 'r+');
  } catch {
    return -1;
  }
}

/** An own descriptor of the object, if the client's files can be opened again; else -1. */
function openObject(pid: number, { start, end, object }: Mapping): number {
  const range = `${start.toString(16)}-${end.toString(16)}`;
  const direct = openSame(`/proc/${pid}/map_files/${range}`, object);
  if (direct >= 0) return direct;
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return -1;
  }
  for (const name of names) {
    const file = openSame(`/proc/${pid}/fd/${name}`, object);
    if (file >= 0) return file;
  }
  return -1;
}

/** Opens `path` if it is that regular file; opening anything else could block or have effects. */
function openSame(path: string, object: string): number {
  const inode = object.slice(object.lastIndexOf(':') + 1);
  try {
    const seen = statSync(path, { bigint: true });
    if (seen.ino.toString() !== inode || !(seen.isFile() || path.includes('/map_files/')))
      return -1;
    const file = openSync(path, 'r+');
    if (fstatSync(file, { bigint: true }).ino === seen.ino) return file;
    closeSync(file);
  } catch {
    // Not ours to open again.
  }
  return -1;
}
