/** Loads and stores to device registers: each is one exit. */
import type { Task } from './task.ts';

/** Loads `size` bytes at a guest physical address outside RAM. */
export function* mmioRead(address: number, size: 1 | 2 | 4 | 8): Task<bigint> {
  return yield { kind: 'mmio-read', address, size };
}

export function* mmioRead32(address: number): Task<number> {
  return Number((yield* mmioRead(address, 4)) & 0xffff_ffffn);
}

/** Stores the low `size` bytes of `value` (a 32-bit number may be signed). */
export function* mmioWrite(address: number, size: 1 | 2 | 4 | 8, value: bigint | number): Task {
  yield { kind: 'mmio-write', address, size, value: BigInt.asUintN(8 * size, BigInt(value)) };
}
