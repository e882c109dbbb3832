import { MsixCap, MsixEntry, PciCap } from '../spec/pci.ts';
import type { ConfigSpace } from './config-space.ts';

export interface MsixOptions {
  readonly config: ConfigSpace;
  /** Where the capability goes in configuration space. */
  readonly capOffset: number;
  /** 1 to 2048. */
  readonly vectors: number;
  readonly bar: number;
  /** Byte offsets in the BAR, multiples of 8. */
  readonly tableOffset: number;
  readonly pbaOffset: number;
  /** Sends the message: DWORD `data` to `address`. */
  readonly send: (vector: number, address: number, data: number) => void;
}

/**
 * MSI-X of a function: capability, vector table and pending bits (PCI Local Bus 3.0, 6.8.2). A
 * masked vector's message waits in its pending bit and leaves when the mask goes; with MSI-X
 * disabled a message is lost; with bus mastering off it waits like a masked one.
 */
export class MsixTable {
  readonly vectors: number;
  readonly #options: MsixOptions;
  /** Four dwords an entry. */
  readonly #table: Uint32Array;
  readonly #pending: Uint32Array;

  constructor(options: MsixOptions) {
    this.#options = options;
    this.vectors = options.vectors;
    this.#table = new Uint32Array(4 * options.vectors);
    this.#pending = new Uint32Array(2 * Math.ceil(options.vectors / 64));
    const { config, capOffset, bar } = options;
    config.addCapability(PciCap.MSIX, capOffset);
    config.define({
      offset: capOffset + MsixCap.CONTROL,
      size: 2,
      reset: options.vectors - 1,
      writable: MsixCap.CONTROL_ENABLE | MsixCap.CONTROL_FUNCTION_MASK,
      written: () => this.flush(),
    });
    const place = (offset: number): number => offset | bar;
    const table = place(options.tableOffset);
    config.define({ offset: capOffset + MsixCap.TABLE, size: 4, reset: table });
    const pba = place(options.pbaOffset);
    config.define({ offset: capOffset + MsixCap.PBA, size: 4, reset: pba });
    this.reset();
  }

  /** Entries masked, nothing pending. */
  reset(): void {
    this.#table.fill(0);
    this.#pending.fill(0);
    for (let i = 0; i < this.vectors; i++) this.#table[4 * i + 3] = MsixEntry.VECTOR_CONTROL_MASK;
  }

  get #control(): number {
    return this.#options.config.read(this.#options.capOffset + MsixCap.CONTROL, 2);
  }

  /** Raises a vector; a vector that does not exist is ignored. */
  raise(vector: number): void {
    if (vector < 0 || vector >= this.vectors) return;
    if ((this.#control & MsixCap.CONTROL_ENABLE) === 0) return;
    this.#pending[vector >>> 5] = this.#pending[vector >>> 5]! | (1 << (vector & 31));
    this.#deliver(vector);
  }

  isPending(vector: number): boolean {
    return (((this.#pending[vector >>> 5] ?? 0) >>> (vector & 31)) & 1) !== 0;
  }

  /** Sends what is pending and no longer held back. */
  flush(): void {
    for (let vector = 0; vector < this.vectors; vector++) this.#deliver(vector);
  }

  #deliver(vector: number): void {
    if (!this.isPending(vector)) return;
    const control = this.#control;
    if ((control & MsixCap.CONTROL_ENABLE) === 0) return;
    if ((control & MsixCap.CONTROL_FUNCTION_MASK) !== 0) return;
    if (!this.#options.config.busMaster) return;
    const at = 4 * vector;
    if ((this.#table[at + 3]! & MsixEntry.VECTOR_CONTROL_MASK) !== 0) return;
    this.#pending[vector >>> 5] = this.#pending[vector >>> 5]! & ~(1 << (vector & 31));
    const address = this.#table[at + 1]! * 2 ** 32 + this.#table[at]!;
    this.#options.send(vector, address, this.#table[at + 2]!);
  }

  /** Whether an aligned dword of the BAR belongs to the table or the pending bits. */
  owns(offset: number): boolean {
    return this.#tableIndex(offset) >= 0 || this.#pbaIndex(offset) >= 0;
  }

  readDword(offset: number): number {
    const index = this.#tableIndex(offset);
    if (index >= 0) return this.#table[index]!;
    const pba = this.#pbaIndex(offset);
    return pba >= 0 ? this.#pending[pba]! : 0;
  }

  /** Pending bits are read only; an address is a multiple of 4. */
  writeDword(offset: number, value: number): void {
    const index = this.#tableIndex(offset);
    if (index < 0) return;
    const field = index & 3;
    const mask = field === 0 ? ~3 : field === 3 ? MsixEntry.VECTOR_CONTROL_MASK : ~0;
    this.#table[index] = value & mask;
    this.#deliver(index >>> 2);
  }

  #tableIndex(offset: number): number {
    const at = (offset - this.#options.tableOffset) / 4;
    return at >= 0 && at < this.#table.length ? Math.floor(at) : -1;
  }

  #pbaIndex(offset: number): number {
    const at = (offset - this.#options.pbaOffset) / 4;
    return at >= 0 && at < this.#pending.length ? Math.floor(at) : -1;
  }
}
