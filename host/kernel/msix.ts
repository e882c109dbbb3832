import { MsixCap, MsixEntry } from '../../devices/spec/pci.ts';
import { Errno } from './errno.ts';

/** What the table's driver needs of the function it belongs to. */
export interface MsixFunction {
  read16(offset: number): number;
  read32(offset: number): number;
  write16(offset: number, value: number): void;
  /** 32-bit accesses to a memory BAR; Errno EIO while it is not there. */
  barRead32(bar: number, offset: number): number;
  barWrite32(bar: number, offset: number, value: number): void;
}

interface Vector {
  readonly address: number;
  readonly data: number;
  readonly masked: boolean;
}

const DWORD = 2 ** 32;

/**
 * The MSI-X vectors of a function. The table is in the function's memory and does not survive a
 * reset, so what was set is remembered here.
 */
export class Msix {
  readonly tableSize: number;
  /** BAR and byte range of the table, for whoever must keep others out of it. */
  readonly bar: number;
  readonly offset: number;
  readonly bytes: number;
  readonly #fn: MsixFunction;
  readonly #cap: number;
  readonly #vectors: (Vector | undefined)[] = [];

  /** @param cap offset of the capability in configuration space */
  constructor(fn: MsixFunction, cap: number) {
    const table = fn.read32(cap + MsixCap.TABLE);
    this.#fn = fn;
    this.#cap = cap;
    this.tableSize = (fn.read16(cap + MsixCap.CONTROL) & MsixCap.CONTROL_SIZE_MASK) + 1;
    this.bar = table & MsixCap.BIR_MASK;
    this.offset = (table & ~MsixCap.BIR_MASK) >>> 0;
    this.bytes = this.tableSize * MsixEntry.BYTES;
  }

  get enabled(): boolean {
    return (this.#fn.read16(this.#cap + MsixCap.CONTROL) & MsixCap.CONTROL_ENABLE) !== 0;
  }

  enable(): void {
    this.#control(MsixCap.CONTROL_ENABLE, MsixCap.CONTROL_FUNCTION_MASK);
  }

  /** No message is sent any more, and all vectors are forgotten. */
  disable(): void {
    this.#control(0, MsixCap.CONTROL_ENABLE);
    this.#vectors.length = 0;
  }

  /** Programs a vector and unmasks it. Errno EINVAL (no such vector), EIO. */
  set(index: number, address: number, data: number): void {
    this.#check(index);
    this.#vectors[index] = { address, data, masked: false };
    this.#program(index);
  }

  mask(index: number): void {
    this.#setMask(index, true);
  }

  unmask(index: number): void {
    this.#setMask(index, false);
  }

  /** Takes a vector out of use: masked, address and data zero. */
  clear(index: number): void {
    this.#check(index);
    this.#vectors[index] = { address: 0, data: 0, masked: true };
    this.#program(index);
    this.#vectors[index] = undefined;
  }

  /** After a reset, with memory decoding on: what was set, as it was. */
  restore(enabled: boolean): void {
    for (let index = 0; index < this.#vectors.length; index++) {
      if (this.#vectors[index] !== undefined) this.#program(index);
    }
    if (enabled) this.enable();
  }

  #setMask(index: number, masked: boolean): void {
    this.#check(index);
    const { address, data } = this.#vectors[index] ?? { address: 0, data: 0 };
    this.#vectors[index] = { address, data, masked };
    const control = this.offset + index * MsixEntry.BYTES + MsixEntry.VECTOR_CONTROL;
    this.#fn.barWrite32(this.bar, control, masked ? MsixEntry.VECTOR_CONTROL_MASK : 0);
    this.#fn.barRead32(this.bar, control);
  }

  /** Masked while it changes, and read back so that the writes have arrived. */
  #program(index: number): void {
    const { address, data, masked } = this.#vectors[index]!;
    const entry = this.offset + index * MsixEntry.BYTES;
    const put = (field: number, value: number): void =>
      this.#fn.barWrite32(this.bar, entry + field, value);
    put(MsixEntry.VECTOR_CONTROL, MsixEntry.VECTOR_CONTROL_MASK);
    put(MsixEntry.ADDRESS_LOW, address % DWORD);
    put(MsixEntry.ADDRESS_HIGH, Math.floor(address / DWORD));
    put(MsixEntry.DATA, data);
    if (!masked) put(MsixEntry.VECTOR_CONTROL, 0);
    this.#fn.barRead32(this.bar, entry + MsixEntry.VECTOR_CONTROL);
  }

  #control(set: number, clear: number): void {
    const at = this.#cap + MsixCap.CONTROL;
    this.#fn.write16(at, (this.#fn.read16(at) & ~clear) | set);
  }

  #check(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.tableSize) {
      throw new Errno('EINVAL', `MSI-X vector ${index} of ${this.tableSize}`);
    }
  }
}
