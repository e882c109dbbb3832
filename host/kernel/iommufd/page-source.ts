/** Where the bytes of a page set are: a process's memory, or a file (enum iopt_address_type). */
import { Errno } from '../errno.ts';
import type { FileMemory } from '../file.ts';
import type { Mm } from '../mm.ts';

export const PAGE_SIZE = 4096;
const PAGE = BigInt(PAGE_SIZE);
const U64_MAX = 0xffff_ffff_ffff_ffffn;

export const hex = (value: bigint | number): string => value.toString(16);

/** Pages count from the one that has the first mapped byte; bytes from the start of that page. */
export interface PageSource {
  readonly kind: 'user' | 'file';
  /** Whose memory; null for a file. */
  readonly mm: Mm | null;
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
  const base = address - (address % PAGE);
  return {
    kind: 'user',
    mm,
    base,
    firstByte: address % PAGE,
    pin: (page, count, writable) => mm.pin(base + BigInt(page) * PAGE, count, writable),
    unpin: (pfns) => mm.unpin(pfns),
    read: (byte, size) => mm.copyFrom(base + byte, size),
    write: (byte, bytes) => mm.copyTo(base + byte, bytes),
    release: () => undefined,
  };
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
