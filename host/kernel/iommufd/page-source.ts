/**
 * Where the bytes of a page set are: a process's memory, a memory file or a dma-buf (enum
 * iopt_address_type).
 */
import type { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { FileMemory } from '../file.ts';
import type { Mm } from '../mm.ts';

export const PAGE_SIZE = 4096;
const PAGE = BigInt(PAGE_SIZE);
const U64_MAX = 0xffff_ffff_ffff_ffffn;

export const hex = (value: bigint | number): string => value.toString(16);

/** One domain's translations of exported memory. */
export interface ExportedMapping {
  /** Takes them out of the domain. */
  unmap(): Task;
}

/** Memory that is there without pins, until who exports it takes it away. */
export interface Exported {
  /** Held while translations are made or taken out. */
  readonly mutex: Mutex;
  /** It is gone; areas stay, and map nothing. */
  readonly revoked: boolean;
  frame(page: number): number;
  /** `mapping` is unmapped when the memory is taken away. */
  track(mapping: ExportedMapping): void;
  untrack(mapping: ExportedMapping): void;
}

/** Pages count from the one that has the first mapped byte; bytes from the start of that page. */
export interface PageSource {
  readonly kind: 'user' | 'file' | 'dmabuf';
  /** Whose memory; null for a file. */
  readonly mm: Mm | null;
  /** Only of a dma-buf. */
  readonly exported?: Exported;
  /** Address, or offset in the file, of the first page. */
  readonly base: bigint;
  /** Where the mapped bytes begin in the first page. */
  readonly firstByte: bigint;
  /** All or nothing. Errno EFAULT, EINVAL, ENOMEM. */
  pin(page: number, count: number, writable: boolean): Float64Array<ArrayBuffer>;
  unpin(pfns: Iterable<number>): void;
  /** The bytes as a CPU sees them now. Errno EFAULT. */
  read(byte: bigint, length: number): Uint8Array<ArrayBuffer>;
  write(byte: bigint, bytes: Uint8Array): void;
  /** The last mapping has gone. */
  release(): void;
}

/** Memory of a process. Errno EOVERFLOW when the range wraps. */
export function userSource(mm: Mm, address: bigint, length: bigint): PageSource {
  if (address + length > U64_MAX) {
    throw new Errno('EOVERFLOW', `user_va 0x${hex(address)} + length 0x${hex(length)} wraps`);
  }
  return new UserSource(mm, address);
}

/** A class, because an IOAS may hold a million of them. */
class UserSource implements PageSource {
  readonly mm: Mm;
  readonly #address: bigint;

  constructor(mm: Mm, address: bigint) {
    this.mm = mm;
    this.#address = address;
  }

  get kind(): 'user' {
    return 'user';
  }

  get base(): bigint {
    return this.#address - this.firstByte;
  }

  get firstByte(): bigint {
    return this.#address % PAGE;
  }

  pin(page: number, count: number, writable: boolean): Float64Array<ArrayBuffer> {
    return this.mm.pin(this.base + BigInt(page) * PAGE, count, writable);
  }

  unpin(pfns: Iterable<number>): void {
    this.mm.unpin(pfns);
  }

  read(byte: bigint, length: number): Uint8Array<ArrayBuffer> {
    return this.mm.copyFrom(this.base + byte, length);
  }

  write(byte: bigint, bytes: Uint8Array): void {
    this.mm.copyTo(this.base + byte, bytes);
  }

  release(): void {
    // The memory is the process's.
  }
}

/** Part of a file. That it is no memory file shows when its pages are wanted (memfd_pin_folios). */
export function fileSource(
  memory: FileMemory | undefined,
  name: string,
  start: bigint,
): PageSource {
  const base = start - (start % PAGE);
  const needed = (): FileMemory => {
    if (memory === undefined) throw new Errno('EINVAL', `${name} is not a memory file`);
    return memory;
  };
  const number = (offset: bigint): number => {
    if (offset > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new Errno('EINVAL', `offset 0x${hex(offset)} is beyond the end of ${name}`);
    }
    return Number(offset);
  };
  memory?.hold();
  return {
    kind: 'file',
    mm: null,
    base,
    firstByte: start % PAGE,
    pin: (page, count) => needed().pin(number(base / PAGE) + page, count),
    unpin: (pfns) => needed().unpin(pfns),
    read: (byte, size) => needed().read(number(base + byte), size),
    write: (byte, bytes) => needed().write(number(base + byte), bytes),
    release: () => memory?.release(),
  };
}
