/** What a hardware model needs of physical memory. Addresses are bytes, below 2^52. */
export interface PhysicalMemory {
  /**
   * All of RAM from address 0 as 32-bit little-endian words, or an empty array where RAM is not one
   * flat buffer (the virtual unit's guest memory). Hot paths read it directly when the word index is
   * below its length, and go through the methods otherwise (ARCHITECTURE.md).
   */
  readonly words: Int32Array;
  /** The same buffer in bytes; empty exactly when `words` is. */
  readonly bytes: Uint8Array;
  /** Whether the whole range is RAM. The other methods may be called only for such ranges. */
  contains(address: number, length: number): boolean;
  /** Aligned to 4. Signed 32-bit. */
  read32(address: number): number;
  write32(address: number, value: number): void;
  /** Aligned to 8. */
  read64(address: number): bigint;
  write64(address: number, value: bigint): void;
  read(address: number, into: Uint8Array): void;
  write(address: number, from: Uint8Array): void;
}
