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

/** Where a live process has a part of an object mapped. */
interface View {
  readonly memory: ProcessMemory;
  readonly mapping: Mapping;
}

/**
 * What shared mappings show: a memfd, shared anonymous memory, a file. Pages are those of the
 * object, so all processes and addresses that map it have the same ones. It is reached through a
 * descriptor of its own where the user may have one, which outlives the clients; otherwise through
 * the memory of any client that has it mapped.
 */
export class SharedObject implements Backing {
  readonly #name: string;
  readonly #file: number;
  readonly #memories: Iterable<ProcessMemory>;
  #view: View | undefined;

  /**
   * @param name as mappings call it
   * @param memories of the clients that live
   * @param first where it is known to be mapped
   * @param file an open descriptor of it, which stays the caller's
   */
  constructor(name: string, memories: Iterable<ProcessMemory>, first: View | undefined, file = -1) {
    this.#name = name;
    this.#memories = memories;
    this.#view = first;
    if (file >= 0) this.#file = openAgain(file);
    else this.#file = first === undefined ? -1 : openObject(first.memory.pid, first.mapping);
  }

  read(at: number, into: Uint8Array): boolean {
    const file = this.#file;
    const step = (done: number, left: number): number =>
      readSync(file, into, done, left, at + done);
    if (file >= 0 && move(into.length, step)) return true;
    return this.#throughMappings(at, into, false);
  }

  write(at: number, from: Uint8Array): boolean {
    const file = this.#file;
    const step = (done: number, left: number): number =>
      writeSync(file, from, done, left, at + done);
    // Files of huge pages can be written through mappings only.
    if (file >= 0 && move(from.length, step)) return true;
    return this.#throughMappings(at, from, true);
  }

  /** Whether its pages are reached through what processes have mapped. */
  get needsMappings(): boolean {
    return this.#file < 0;
  }

  /** A process unmaps a range, or moves it: what was found there is looked for again. */
  left(memory: ProcessMemory, start: number, end: number): void {
    const view = this.#view;
    if (view?.memory !== memory || start >= view.mapping.end || end <= view.mapping.start) return;
    this.#view = undefined;
  }

  close(): void {
    if (this.#file >= 0) closeSync(this.#file);
  }

  #throughMappings(at: number, bytes: Uint8Array, write: boolean): boolean {
    for (let done = 0; done < bytes.length; ) {
      const view = this.#covering(at + done, write);
      if (view === undefined) return false;
      const { memory, mapping } = view;
      const from = mapping.start + (at + done - mapping.offset);
      const part = bytes.subarray(done, done + Math.min(bytes.length - done, mapping.end - from));
      if (!(write ? memory.write(from, part) : memory.read(from, part))) {
        this.#view = undefined;
        return false;
      }
      done += part.length;
    }
    return true;
  }

  /** Some mapping of a byte that may be accessed so; the last one is good for most. */
  #covering(at: number, write: boolean): View | undefined {
    const fits = ({ start, end, offset, object, shared, ...may }: Mapping): boolean =>
      shared &&
      object === this.#name &&
      at >= offset &&
      at < offset + (end - start) &&
      (write ? may.writable : may.readable);
    const known = this.#view;
    if (known?.memory.alive === true && fits(known.mapping)) return known;
    for (const memory of this.#memories) {
      const mapping = memory.mappings().find(fits);
      if (mapping !== undefined) return (this.#view = { memory, mapping });
    }
    return undefined;
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
