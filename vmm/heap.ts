import type { Syscalls, Task } from '../host/syscall.ts';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../host/uapi/poll.ts';
import { check } from './sys-error.ts';

const SMALLEST = 64;
const ALIGNMENT = 16;

/**
 * The VMM's malloc: structures for system calls live in its own memory, each call with its own, since
 * several threads call at once. Freed blocks are reused by size class (powers of two from 64 bytes).
 */
export class Heap {
  readonly #start: number;
  readonly #end: number;
  readonly #free = new Map<number, number[]>();
  #next: number;

  private constructor(start: number, bytes: number) {
    this.#start = start;
    this.#next = start;
    this.#end = start + bytes;
  }

  /** Maps `bytes` of anonymous memory. @throws SysError */
  static *map(sys: Syscalls, bytes: number): Task<Heap> {
    return new Heap(yield* mapAnonymous(sys, bytes), bytes);
  }

  /** An address, 16-byte aligned, with at least `bytes` behind it; the contents are undefined. */
  alloc(bytes: number): number {
    const size = classOf(bytes);
    const reused = this.#free.get(size)?.pop();
    if (reused !== undefined) return reused;
    const address = Math.ceil(this.#next / ALIGNMENT) * ALIGNMENT;
    if (address + size > this.#end) throw new RangeError(`VMM heap: no room for ${bytes} bytes`);
    this.#next = address + size;
    return address;
  }

  /** Gives back what `alloc(bytes)` returned. */
  free(address: number, bytes: number): void {
    const size = classOf(bytes);
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [address]);
    else list.push(address);
  }

  *unmap(sys: Syscalls): Task {
    yield* sys.munmap(this.#start, this.#end - this.#start);
  }
}

/** Private anonymous memory, readable and writable. @throws SysError */
export function* mapAnonymous(sys: Syscalls, bytes: number): Task<number> {
  const prot = PROT_READ | PROT_WRITE;
  return check('mmap', yield* sys.mmap(bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

function classOf(bytes: number): number {
  let size = SMALLEST;
  while (size < bytes) size *= 2;
  return size;
}
