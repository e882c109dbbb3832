import type { Credentials } from '../kernel/credentials.ts';
import { Errno } from '../kernel/errno.ts';
import type { FailPoints } from '../kernel/failpoint.ts';
import type { Mm } from '../kernel/mm.ts';
import { ProcessRights } from './credentials.ts';
import type { ForeignFrames } from './foreign.ts';
import type { Mapping } from './maps.ts';
import { MemoryFile } from './memory-file.ts';
import type { ProcessMemory } from './process-memory.ts';
import type { SharedObjects } from './shared-objects.ts';

const PAGE_BYTES = 4096;
/** User addresses are below this (4-level paging). */
const TASK_SIZE = 2 ** 47;
/** More pages at once are refused before anything is counted per page. */
const MAX_PIN_PAGES = 2 ** 31;

/** The part of memory that came with a request, and goes back with its reply if written. */
export class InlineArgument {
  readonly address: number;
  bytes: Uint8Array;
  /** Whether the reply may carry writes. */
  readonly writable: boolean;
  /** How many of them have to go back. */
  dirtyEnd = 0;

  constructor(address: number, bytes: Uint8Array, writable: boolean) {
    this.address = address;
    this.bytes = bytes;
    this.writable = writable;
  }

  /** The bytes it was made with are about to be used again: from now on it has its own. */
  own(): void {
    this.bytes = this.bytes.slice();
  }

  /** Where the range lies in it; -1 if it does not. */
  offset(address: number, length: number): number {
    const at = address - this.address;
    return at >= 0 && at + length <= this.bytes.length ? at : -1;
  }
}

/** The memory of a real process. Its pages are the simulated machine's foreign frames. */
export class BridgedMm implements Mm {
  pinnedVm = 0;
  lockedVm = 0;
  readonly #memory: ProcessMemory;
  readonly #frames: ForeignFrames;
  readonly #shared: SharedObjects;
  readonly #failpoints: Pick<FailPoints, 'point'>;
  readonly #arguments: InlineArgument[] = [];
  readonly #rights: ProcessRights;
  #lockLimit = 0;
  #alive = true;

  constructor(
    memory: ProcessMemory,
    frames: ForeignFrames,
    shared: SharedObjects,
    failpoints: Pick<FailPoints, 'point'>,
  ) {
    this.#failpoints = failpoints;
    this.#memory = memory;
    this.#rights = new ProcessRights(memory.pid);
    this.#lockLimit = this.#rights.lockLimit ?? 0;
    this.#frames = frames;
    this.#shared = shared;
    shared.enter(memory);
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** RLIMIT_MEMLOCK in pages, as it is now, or was when the process ended. */
  get lockLimit(): number {
    if (this.#alive) this.#lockLimit = this.#rights.lockLimit ?? this.#lockLimit;
    return this.#lockLimit;
  }

  /** What the process may do now: it can drop a privilege at any time. */
  get credentials(): Credentials {
    return this.#rights.credentials;
  }

  /** The process, or this image of it, has ended. Pins stay until they are given up. */
  end(): void {
    this.#alive = false;
    this.#rights[Symbol.dispose]();
    this.#shared.exit(this.#memory);
    this.#memory[Symbol.dispose]();
  }

  /** While a request is served, accesses to its argument need not go to the process. */
  serve(argument: InlineArgument): void {
    this.#arguments.push(argument);
  }

  served(argument: InlineArgument): void {
    const all = this.#arguments;
    if (all.at(-1) === argument) {
      all.pop();
      return;
    }
    const at = all.lastIndexOf(argument);
    if (at >= 0) all.splice(at, 1);
  }

  copyFrom(address: bigint, length: number): Uint8Array<ArrayBuffer> {
    this.#failpoints.point('copy_from_user', 'EFAULT');
    const start = this.#range(address, length, 'readable');
    const bytes = new Uint8Array(length);
    for (const argument of this.#arguments) {
      const at = argument.offset(start, length);
      if (at < 0) continue;
      const from = argument.bytes;
      for (let i = 0; i < length; i++) bytes[i] = from[at + i]!;
      return bytes;
    }
    this.#check(start, length, false);
    if (!this.#memory.read(start, bytes)) this.#fault(start, length, 'readable');
    return bytes;
  }

  copyTo(address: bigint, bytes: Uint8Array): void {
    this.#failpoints.point('copy_to_user', 'EFAULT');
    const { length } = bytes;
    const start = this.#range(address, length, 'writable');
    for (const argument of this.#arguments) {
      const at = argument.offset(start, length);
      if (at < 0) continue;
      if (argument.writable) {
        argument.dirtyEnd = Math.max(argument.dirtyEnd, at + length);
        argument.bytes.set(bytes, at);
        return;
      }
      this.#store(start, bytes);
      argument.bytes.set(bytes, at);
      return;
    }
    this.#store(start, bytes);
  }

  pin(address: bigint, pages: number, writable: boolean): Float64Array<ArrayBuffer> {
    const mappings = this.#mapped(address, pages, writable);
    const start = pageOf(address);
    const end = start + pages * PAGE_BYTES;
    const pfns = new Float64Array(pages);
    let done = 0;
    for (const mapping of mappings) {
      const to = Math.min(end, mapping.end);
      for (let at = start + done * PAGE_BYTES; at < to; at += PAGE_BYTES) {
        const pfn = this.#pinPage(mapping, at);
        if (pfn < 0) {
          this.unpin(pfns.subarray(0, done));
          throw new Errno('ENOMEM', 'every foreign frame number is in use');
        }
        pfns[done++] = pfn;
      }
    }
    return pfns;
  }

  pinsOf(address: bigint, pages: number): Int32Array {
    const pins = new Int32Array(pages);
    const start = pageOf(address);
    for (const mapping of this.#mapped(address, pages, false)) {
      const { shared, offset } = mapping;
      const backing = shared ? this.#shared.peek(mapping) : this.#memory;
      if (backing === undefined) continue;
      const from = Math.max(start, mapping.start);
      const to = Math.min(start + pages * PAGE_BYTES, mapping.end);
      for (let at = from; at < to; at += PAGE_BYTES) {
        const page = (shared ? at - mapping.start + offset : at) / PAGE_BYTES;
        pins[(at - start) / PAGE_BYTES] = this.#frames.pinsOf(backing, page);
      }
    }
    return pins;
  }

  /** A file in memory that the program has open; undefined for any other. */
  memoryFile(fd: number): MemoryFile | undefined {
    return MemoryFile.open(fd, this.#memory, this.#frames, this.#shared);
  }

  /** Whether pinned pages hang on what the process has mapped where. */
  get holdsPins(): boolean {
    return this.#frames.holds(this.#memory) || this.#shared.needMappings;
  }

  /**
   * The process is about to unmap a range, or to move it to `target` (-1: no), or with `shared`
   * false to give up its own pages there: what is pinned stays with those who pinned it.
   */
  leave(start: number, length: number, target: number, shared: boolean): void {
    const [from, to] = [start, start + length].map((address) => Math.ceil(address / PAGE_BYTES));
    const page = target < 0 ? -1 : target / PAGE_BYTES;
    this.#frames.leave(this.#memory, from!, to!, page);
    if (shared) this.#shared.left(this.#memory, start, start + length);
  }

  unpin(pfns: Iterable<number>): void {
    for (const pfn of pfns) this.#frames.unpin(pfn);
    this.#shared.collect();
  }

  /** The mappings that the pages lie in. @throws Errno EFAULT; ENOMEM: too many pages at once */
  #mapped(address: bigint, pages: number, writable: boolean): Mapping[] {
    const access = writable ? 'writable' : 'readable';
    if (!(pages <= MAX_PIN_PAGES)) throw new Errno('ENOMEM', `${pages} pages at once`);
    const start = this.#range(address & ~0xfffn, pages * PAGE_BYTES, access);
    const end = start + pages * PAGE_BYTES;
    const mappings = this.#memory.maps.covering(start, end);
    const last = mappings.at(-1);
    const denied = mappings.find((mapping) => !(writable ? mapping.writable : mapping.readable));
    if (denied?.readable === false && !denied.writable) {
      const what = `0x${address.toString(16)}: memory that nothing may touch`;
      throw new Errno('EFAULT', `${what}, as a device's BAR is mapped, cannot be pinned`);
    }
    if (denied !== undefined || last === undefined || last.end < end) {
      this.#fault(start, pages * PAGE_BYTES, access);
    }
    return mappings;
  }

  #pinPage(mapping: Mapping, address: number): number {
    if (!mapping.shared) return this.#frames.pin(this.#memory, address / PAGE_BYTES);
    const object = this.#shared.of(this.#memory, mapping);
    const page = (address - mapping.start + mapping.offset) / PAGE_BYTES;
    return this.#frames.pin(object, page);
  }

  /** Nothing is written unless all of it may be. */
  #store(start: number, bytes: Uint8Array): void {
    this.#check(start, bytes.length, true);
    if (!this.#memory.write(start, bytes)) this.#fault(start, bytes.length, 'writable');
  }

  #check(start: number, length: number, write: boolean): void {
    if (this.#memory.maps.allows(start, start + length, write)) return;
    this.#fault(start, length, write ? 'writable' : 'readable');
  }

  #range(address: bigint, length: number, access: string): number {
    const start = address >= 0n && address < BigInt(TASK_SIZE) ? Number(address) : -1;
    if (!this.#alive || start < 0 || start + length > TASK_SIZE) {
      throw new Errno('EFAULT', `${length} bytes at 0x${address.toString(16)} are not ${access}`);
    }
    return start;
  }

  #fault(start: number, length: number, access: string): never {
    throw new Errno('EFAULT', `${length} bytes at 0x${start.toString(16)} are not ${access}`);
  }
}

/** Where the page of an address begins. */
function pageOf(address: bigint): number {
  return Number(address & ~0xfffn);
}
