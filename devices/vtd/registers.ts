/** Bytes of the register window. */
export const REGISTER_BYTES = 0x1000;

const LOW_MASK = 0xffff_ffffn;

/** Side effect of a write; the value is the 32 bits written, unsigned. */
export type RegisterEffect = (value: number) => void;

/**
 * The register window as 32-bit words with write masks and side effects. A 64-bit register takes
 * one 64-bit access or two 32-bit ones; a 64-bit write stores both halves before it takes effect,
 * low half first. An access that is not 4 or 8 bytes wide and aligned reads 0 and writes nothing.
 */
export class RegisterFile {
  readonly #words = new Int32Array(REGISTER_BYTES / 4);
  readonly #writable = new Int32Array(REGISTER_BYTES / 4);
  readonly #hidden = new Set<number>();
  readonly #effects = new Map<number, RegisterEffect>();

  /** Declares the bits of a 32-bit register that software may write. */
  writable(offset: number, mask: number): void {
    this.#writable[offset / 4] = mask;
  }

  /** Declares the bits of a 64-bit register that software may write. */
  writable64(offset: number, mask: bigint): void {
    this.writable(offset, Number(mask & LOW_MASK));
    this.writable(offset + 4, Number((mask >> 32n) & LOW_MASK));
  }

  /** A write-only word reads 0. */
  hide(offset: number): void {
    this.#hidden.add(offset);
  }

  /** Calls `effect` with what software wrote to the word at `offset`. */
  onWrite(offset: number, effect: RegisterEffect): void {
    this.#effects.set(offset, effect);
  }

  /** The word at `offset`, unsigned, as the unit sees it. */
  get(offset: number): number {
    return this.#words[offset / 4]! >>> 0;
  }

  get64(offset: number): bigint {
    return (BigInt(this.get(offset + 4)) << 32n) | BigInt(this.get(offset));
  }

  set(offset: number, value: number): void {
    this.#words[offset / 4] = value;
  }

  set64(offset: number, value: bigint): void {
    this.set(offset, Number(value & LOW_MASK));
    this.set(offset + 4, Number((value >> 32n) & LOW_MASK));
  }

  /** A load by software. */
  read(offset: number, size: 4 | 8): bigint {
    if (!isAccess(offset, size)) return 0n;
    const low = BigInt(this.#visible(offset));
    return size === 4 ? low : (BigInt(this.#visible(offset + 4)) << 32n) | low;
  }

  /** A store by software. */
  write(offset: number, size: 4 | 8, value: bigint): void {
    if (!isAccess(offset, size)) return;
    const low = Number(value & LOW_MASK);
    this.#store(offset, low);
    if (size === 4) {
      this.#effects.get(offset)?.(low);
      return;
    }
    const high = Number((value >> 32n) & LOW_MASK);
    this.#store(offset + 4, high);
    this.#effects.get(offset)?.(low);
    this.#effects.get(offset + 4)?.(high);
  }

  #visible(offset: number): number {
    return this.#hidden.has(offset) ? 0 : this.get(offset);
  }

  #store(offset: number, value: number): void {
    const at = offset / 4;
    const mask = this.#writable[at]!;
    this.#words[at] = (this.#words[at]! & ~mask) | (value & mask);
  }
}

function isAccess(offset: number, size: number): boolean {
  return (
    (size === 4 || size === 8) &&
    Number.isInteger(offset) &&
    offset >= 0 &&
    offset % size === 0 &&
    offset + size <= REGISTER_BYTES
  );
}
