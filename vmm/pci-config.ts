import { CONFIG_SPACE_BYTES, PciBar, PciHeader } from '../devices/spec/pci.ts';

/**
 * The part of a function's configuration space that the VMM itself answers for: per bit, whether it
 * is emulated and whether the guest may write it. The rest belongs to the device behind it, if any.
 */
export class EmulatedConfig {
  readonly #values = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #emulated = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #writable = new Uint8Array(CONFIG_SPACE_BYTES);

  /** Declares emulated bits of the `size`-byte register at `offset`, their value and writable bits. */
  define(offset: number, size: number, value: number, options: FieldMasks = {}): void {
    const { emulated = 0xffff_ffff, writable = 0 } = options;
    for (let i = 0; i < size; i++) {
      const mask = byteOf(emulated, i);
      const at = offset + i;
      this.#emulated[at] = this.#emulated[at]! | mask;
      this.#writable[at] = (this.#writable[at]! & ~mask) | (byteOf(writable, i) & mask);
      this.#values[at] = (this.#values[at]! & ~mask) | (byteOf(value, i) & mask);
    }
  }

  /** The emulated value of a register, 0 in bits that are not emulated. */
  get(offset: number, size: number): number {
    return gather(this.#values, offset, size);
  }

  /** Sets the emulated bits of a register, read-only ones too. */
  set(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      const mask = this.#emulated[offset + i]!;
      this.#values[offset + i] = (this.#values[offset + i]! & ~mask) | (byteOf(value, i) & mask);
    }
  }

  /** What the guest reads when the device itself reads `device`. */
  read(offset: number, size: number, device: number): number {
    const mask = gather(this.#emulated, offset, size);
    return ((device & ~mask) | (gather(this.#values, offset, size) & mask)) >>> 0;
  }

  /** A guest write: changes the writable emulated bits. */
  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      const mask = this.#writable[offset + i]!;
      this.#values[offset + i] = (this.#values[offset + i]! & ~mask) | (byteOf(value, i) & mask);
    }
  }

  /** Whether every bit of the register is emulated: then the device need not be asked. */
  covers(offset: number, size: number): boolean {
    for (let i = 0; i < size; i++) if (this.#emulated[offset + i] !== 0xff) return false;
    return true;
  }

  /** Declares a memory BAR: `flags` its low four bits, `size` a power of two of at least 4096. */
  defineBar(bar: number, size: number, flags: number, address: number): void {
    const at = PciHeader.BAR0 + 4 * bar;
    const mask = -BigInt(size);
    this.define(at, 4, flags | (address >>> 0), { writable: Number(mask & 0xffff_fff0n) });
    if (!isBar64(flags)) return;
    const high = Math.floor(address / 2 ** 32);
    this.define(at + 4, 4, high, { writable: Number((mask >> 32n) & 0xffff_ffffn) });
  }

  /** The address the guest has put into a memory BAR. */
  barAddress(bar: number): number {
    const at = PciHeader.BAR0 + 4 * bar;
    const low = this.get(at, 4);
    const high = isBar64(low) ? this.get(at + 4, 4) : 0;
    return high * 2 ** 32 + ((low & ~PciBar.MEMORY_FLAGS_MASK) >>> 0);
  }
}

export interface FieldMasks {
  /** Which bits the VMM answers for; all by default. */
  readonly emulated?: number;
  /** Which of those the guest may write; none by default. */
  readonly writable?: number;
}

export function isBar64(flags: number): boolean {
  return (flags & PciBar.TYPE_MASK) === PciBar.TYPE_64;
}

function byteOf(value: number, i: number): number {
  return (value >>> (8 * i)) & 0xff;
}

function gather(bytes: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + bytes[offset + i]!;
  return value;
}
