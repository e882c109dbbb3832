import { MsixCap, MsixEntry } from '../devices/spec/pci.ts';
import type { Task } from '../host/syscall.ts';

export interface MsixOptions {
  readonly vectors: number;
  /** Sends a vector's message into the guest. */
  readonly deliver: (vector: number, address: number, data: number) => void;
  /** Has the host's vectors signal the VMM, or no longer. */
  readonly arm: (enabled: boolean) => Task;
}

/**
 * The MSI-X table and pending bits that the guest sees (PCI, "MSI-X capability and table"). The real
 * table belongs to the host: a vector fires here when its eventfd says so.
 */
export class Msix {
  readonly vectors: number;
  readonly #options: MsixOptions;
  readonly #table: Uint8Array;
  readonly #view: DataView;
  readonly #pending: Uint8Array;
  #armed = false;
  #masked = false;

  constructor(options: MsixOptions) {
    this.vectors = options.vectors;
    this.#options = options;
    this.#table = new Uint8Array(options.vectors * MsixEntry.BYTES);
    this.#view = new DataView(this.#table.buffer);
    this.#pending = new Uint8Array(options.vectors);
    this.#maskAll();
  }

  get tableBytes(): number {
    return this.#table.length;
  }

  /** Pending bits are an array of 64-bit words. */
  get pbaBytes(): number {
    return Math.ceil(this.vectors / 64) * 8;
  }

  readTable(offset: number, size: number): bigint {
    let value = 0n;
    for (let i = size - 1; i >= 0; i--)
      value = (value << 8n) | BigInt(this.#table[offset + i] ?? 0);
    return value;
  }

  /** DWORD and QWORD accesses, naturally aligned; others are ignored. */
  writeTable(offset: number, size: number, value: bigint): void {
    if ((size !== 4 && size !== 8) || offset % size !== 0) return;
    for (let i = 0; i < size && offset + i < this.#table.length; i += 4) {
      const word = Number(BigInt.asUintN(32, value >> BigInt(8 * i)));
      const isControl = (offset + i) % MsixEntry.BYTES === MsixEntry.VECTOR_CONTROL;
      const kept = isControl ? word & MsixEntry.VECTOR_CONTROL_MASK : word;
      this.#view.setUint32(offset + i, kept, true);
    }
    this.#deliverPending();
  }

  readPba(offset: number, size: number): bigint {
    let value = 0n;
    for (let bit = 8 * size - 1; bit >= 0; bit--) {
      value = (value << 1n) | BigInt(this.#pending[8 * offset + bit] ?? 0);
    }
    return value;
  }

  /** The guest wrote message control: enable and function mask. */
  *setControl(control: number): Task {
    const enabled = (control & MsixCap.CONTROL_ENABLE) !== 0;
    this.#masked = (control & MsixCap.CONTROL_FUNCTION_MASK) !== 0;
    if (enabled !== this.#armed) {
      this.#armed = enabled;
      yield* this.#options.arm(enabled);
    }
    this.#deliverPending();
  }

  /** The function was reset: disabled, every vector masked, nothing pending. */
  *reset(): Task {
    this.#table.fill(0);
    this.#pending.fill(0);
    this.#maskAll();
    yield* this.setControl(0);
  }

  /** The device raised a vector: delivered, or pending while it is masked. */
  fire(vector: number): void {
    if (vector < 0 || vector >= this.vectors || !this.#armed) return;
    this.#pending[vector] = 1;
    this.#deliver(vector);
  }

  #deliverPending(): void {
    if (!this.#armed || this.#masked) return;
    for (let vector = 0; vector < this.vectors; vector++) this.#deliver(vector);
  }

  #deliver(vector: number): void {
    if (this.#pending[vector] !== 1 || this.#masked) return;
    const at = vector * MsixEntry.BYTES;
    const control = this.#view.getUint32(at + MsixEntry.VECTOR_CONTROL, true);
    if ((control & MsixEntry.VECTOR_CONTROL_MASK) !== 0) return;
    this.#pending[vector] = 0;
    const low = this.#view.getUint32(at + MsixEntry.ADDRESS_LOW, true);
    const high = this.#view.getUint32(at + MsixEntry.ADDRESS_HIGH, true);
    this.#options.deliver(
      vector,
      high * 2 ** 32 + low,
      this.#view.getUint32(at + MsixEntry.DATA, true),
    );
  }

  #maskAll(): void {
    for (let vector = 0; vector < this.vectors; vector++) {
      const at = vector * MsixEntry.BYTES + MsixEntry.VECTOR_CONTROL;
      this.#view.setUint32(at, MsixEntry.VECTOR_CONTROL_MASK, true);
    }
  }
}
