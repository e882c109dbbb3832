import { Errno } from '../kernel/errno.ts';
import type { FileOps, MmapDevice } from '../kernel/file.ts';
import type { PhysicalBus } from '../kernel/user-memory.ts';
import type { MappedFile } from '../kernel/vma.ts';
import type { Task } from '../syscall.ts';

/** One load or store of the CPU that reaches the device. */
const MMIO_NS = 100;
/** The longest store of a processor: MOVDIR64B. */
export const MAX_ACCESS = 64;

/**
 * Device memory mapped by a real program. The program has no way to it but to fault, and its library
 * asks here for each load and store. It lives as long as some process has a part of it mapped.
 */
export class MappedWindow implements FileOps {
  readonly name: string;
  readonly #bus: PhysicalBus;
  readonly #at: MmapDevice;
  readonly #bytes: number;
  readonly #keeper: MappedFile;

  /** @param keeper what the mapping holds, taken already */
  constructor(name: string, bus: PhysicalBus, at: MmapDevice, bytes: number, keeper: MappedFile) {
    this.name = name;
    this.#bus = bus;
    this.#at = at;
    this.#bytes = bytes;
    this.#keeper = keeper;
  }

  /** Reads 1 to 64 bytes in naturally aligned pieces. Errno EFAULT: outside; EIO: a bus error. */
  *load(offset: number, bytes: number): Task<Uint8Array> {
    const address = this.#address(offset, bytes);
    const found = new Uint8Array(bytes);
    for (let at = 0; at < bytes; ) {
      const size = pieceSize(address + at, bytes - at);
      let value = this.#bus.read(address + at, size);
      for (let i = 0; i < size; i++, value >>= 8n) found[at + i] = Number(value & 0xffn);
      at += size;
      yield MMIO_NS;
    }
    return found;
  }

  /** Writes them; `whole` is one store of 64 bytes, aligned. Errno as `load`. */
  *store(offset: number, from: Uint8Array, whole: boolean): Task {
    const address = this.#address(offset, from.length);
    if (whole) {
      if (from.length !== MAX_ACCESS || address % MAX_ACCESS !== 0) {
        throw new Errno(
          'EFAULT',
          `${from.length} bytes at offset 0x${offset.toString(16)} at once`,
        );
      }
      this.#bus.movdir64b(address, from.slice());
      yield MMIO_NS;
      return;
    }
    // What came with the request is gone at the first wait.
    const held = from.slice();
    for (let at = 0; at < held.length; ) {
      const size = pieceSize(address + at, held.length - at);
      let value = 0n;
      for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(held[at + i]!);
      this.#bus.write(address + at, size, value);
      at += size;
      yield MMIO_NS;
    }
  }

  *release(): Task {
    yield* this.#keeper.put();
  }

  #address(offset: number, bytes: number): number {
    const inside = offset >= 0 && bytes > 0 && bytes <= MAX_ACCESS && offset + bytes <= this.#bytes;
    if (!inside) throw new Errno('EFAULT', `${bytes} bytes at ${offset} of ${this.#bytes}`);
    if (this.#at.accessible?.() === false) {
      throw new Errno('EIO', `${this.name} does not decode memory`);
    }
    return this.#at.physicalAddress + offset;
  }
}

/** The largest naturally aligned access at `address` within `left` bytes. */
function pieceSize(address: number, left: number): number {
  let size = 8;
  while (size > left || address % size !== 0) size /= 2;
  return size;
}
