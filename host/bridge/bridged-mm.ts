import { Errno } from '../kernel/errno.ts';
import type { Mm } from '../kernel/mm.ts';
import { lockLimitOf } from './credentials.ts';
import type { ForeignFrames } from './foreign.ts';
import type { Mapping } from './maps.ts';
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
  readonly bytes: Uint8Array;
  /** Whether the reply may carry writes. */
  readonly writable: boolean;
  dirtyStart = Infinity;
  dirtyEnd = 0;

  constructor(address: number, bytes: Uint8Array, writable: boolean) {
    this.address = address;
    this.bytes = bytes;
    this.writable = writable;
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
  readonly #arguments = new Set<InlineArgument>();
  #alive = true;

  constructor(memory: ProcessMemory, frames: ForeignFrames, shared: SharedObjects) {
    this.#memory = memory;
    this.#frames = frames;
    this.#shared = shared;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** RLIMIT_MEMLOCK in pages, as it is now. */
  get lockLimit(): number {
    return lockLimitOf(this.#memory.pid);
  }

  /** The process, or this image of it, has ended. Pins stay until they are given up. */
  end(): void {
    this.#alive = false;
    this.#memory[Symbol.dispose]();
  }

  /** While a request is served, accesses to its argument need not go to the process. */
  serve(argument: InlineArgument): void {
    this.#arguments.add(argument);
  }

  served(argument: InlineArgument): void {
    this.#arguments.delete(argument);
  }

  copyFrom(address: bigint, length: number): Uint8Array<ArrayBuffer> {
    const start = this.#range(address, length, 'readable');
    const bytes = new Uint8Array(length);
    for (const argument of this.#arguments) {
      const at = argument.offset(start, length);
      if (at < 0) continue;
      bytes.set(argument.bytes.subarray(at, at + length));
      return bytes;
    }
    this.#check(start, length, false);
    if (!this.#memory.read(start, bytes)) this.#fault(start, length, 'readable');
    return bytes;
  }

  copyTo(address: bigint, bytes: Uint8Array): void {
    const { length } = bytes;
    const start = this.#range(address, length, 'writable');
    for (const argument of this.#arguments) {
      const at = argument.offset(start, length);
      if (at < 0) continue;
      if (argument.writable) {
        argument.dirtyStart = Math.min(argument.dirtyStart, at);
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
    const access = writable ? 'writable' : 'readable';
    if (!(pages <= MAX_PIN_PAGES)) throw new Errno('ENOMEM', `${pages} pages to pin at once`);
    const start = this.#range(address & ~0xfffn, pages * PAGE_BYTES, access);
    const end = start + pages * PAGE_BYTES;
    const mappings = this.#memory.maps.covering(start, end);
    const last = mappings.at(-1);
    const denied = mappings.some((mapping) => !(writable ? mapping.writable : mapping.readable));
    if (denied || last === undefined || last.end < end) {
      this.#fault(start, pages * PAGE_BYTES, access);
    }
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

  unpin(pfns: Iterable<number>): void {
    for (const pfn of pfns) this.#frames.unpin(pfn);
    this.#shared.collect();
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
