import type { PhysicalMemory } from '../devices/memory.ts';
import type { UserMemory } from '../host/syscall.ts';
import type { MemoryMap } from './memory-map.ts';

/**
 * Guest physical memory as the virtual unit sees it: guest RAM through the VMM's own mapping. Like
 * the interface says, the accessors are only for ranges that `contains` affirmed; beyond them reads
 * give 0 and writes are dropped, so that no table of the guest reaches anything but guest RAM.
 */
export class GuestMemory implements PhysicalMemory {
  readonly words = new Int32Array(0);
  readonly bytes = new Uint8Array(0);
  readonly #map: MemoryMap;
  readonly #memory: UserMemory;

  constructor(map: MemoryMap, memory: UserMemory) {
    this.#map = map;
    this.#memory = memory;
  }

  contains(address: number, length: number): boolean {
    return this.#map.ram(address, length) >= 0;
  }

  read32(address: number): number {
    const hva = this.#map.ram(address, 4);
    return hva < 0 ? 0 : Number(this.#memory.load(hva, 4)) | 0;
  }

  write32(address: number, value: number): void {
    const hva = this.#map.ram(address, 4);
    if (hva >= 0) this.#memory.store(hva, 4, BigInt(value >>> 0));
  }

  read64(address: number): bigint {
    const hva = this.#map.ram(address, 8);
    return hva < 0 ? 0n : this.#memory.load(hva, 8);
  }

  write64(address: number, value: bigint): void {
    const hva = this.#map.ram(address, 8);
    if (hva >= 0) this.#memory.store(hva, 8, BigInt.asUintN(64, value));
  }

  read(address: number, into: Uint8Array): void {
    const hva = this.#map.ram(address, into.length);
    if (hva < 0) into.fill(0);
    else this.#memory.read(hva, into);
  }

  write(address: number, from: Uint8Array): void {
    const hva = this.#map.ram(address, from.length);
    if (hva >= 0) this.#memory.write(hva, from);
  }
}
