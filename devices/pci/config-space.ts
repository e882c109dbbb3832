import {
  BAR_COUNT,
  barSizeMask,
  CONFIG_SPACE_BYTES,
  CONVENTIONAL_CONFIG_BYTES,
  extCapHeader,
  PciBar,
  PciCommand,
  PciHeader,
  PciStatus,
} from '../spec/pci.ts';

/** A memory BAR. 64-bit ones take the following register too. */
export interface BarSpec {
  readonly bar: number;
  /** A power of two, 16 or more. */
  readonly bytes: number;
  readonly is64: boolean;
  readonly prefetchable: boolean;
}

export interface ConfigIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** 24 bits. */
  readonly classCode: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  readonly bars: readonly BarSpec[];
}

/** How a register behaves. Bits in neither mask are read only. */
export interface RegisterSpec {
  readonly offset: number;
  readonly size: 1 | 2 | 4;
  /** Value out of reset. */
  readonly reset: number;
  /** Bits that keep what is written. */
  readonly writable?: number;
  /** Bits that a written 1 clears. */
  readonly clearable?: number;
  /** Turns what the masks allowed into what is stored. */
  readonly rule?: (next: number, before: number) => number;
  /** Called after a write that touched the register, with what the masks allowed. */
  readonly written?: (next: number, before: number) => void;
}

/** COMMAND bits a function without I/O space and INTx can hold. */
const COMMAND_WRITABLE =
  PciCommand.MEMORY |
  PciCommand.BUS_MASTER |
  PciCommand.PARITY |
  PciCommand.SERR |
  PciCommand.INTX_DISABLE;
const COMMAND_STATUS_ERRORS = 0xf900;
const FIRST_CAP = 0x40;

/**
 * Configuration space of a type 0 function: 4096 bytes in which every bit is read only, writable or
 * cleared by writing 1, with capability chains that grow as capabilities are added. Accesses are 1,
 * 2 or 4 bytes, naturally aligned; others read all ones and are dropped (PCI Express Base, 7.5).
 */
export class ConfigSpace {
  readonly #values = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #reset = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #writable = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #clearable = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #bars = new Float64Array(BAR_COUNT);
  /** Registers with a rule or a reaction. */
  readonly #active: RegisterSpec[] = [];
  /** Where the next pointer of the last capability is, and the last extended capability. */
  #capLink: number = PciHeader.CAP_PTR;
  #extCap = 0;

  /** @param command called after a write to COMMAND, with its value before */
  constructor(identity: ConfigIdentity, command?: (next: number, before: number) => void) {
    this.define({ offset: PciHeader.VENDOR_ID, size: 2, reset: identity.vendor });
    this.define({ offset: PciHeader.DEVICE_ID, size: 2, reset: identity.device });
    this.define({
      offset: PciHeader.COMMAND,
      size: 2,
      reset: 0,
      writable: COMMAND_WRITABLE,
      ...(command === undefined ? {} : { written: command }),
    });
    this.define({
      offset: PciHeader.STATUS,
      size: 2,
      reset: PciStatus.CAP_LIST,
      clearable: COMMAND_STATUS_ERRORS,
    });
    const revisionClass = (identity.revision & 0xff) | (identity.classCode << 8);
    this.define({ offset: PciHeader.REVISION, size: 4, reset: revisionClass >>> 0 });
    this.define({ offset: PciHeader.CACHE_LINE_SIZE, size: 1, reset: 0, writable: 0xff });
    const vendor = identity.subsystemVendor ?? identity.vendor;
    this.define({ offset: PciHeader.SUBSYSTEM_VENDOR_ID, size: 2, reset: vendor });
    this.define({ offset: PciHeader.SUBSYSTEM_ID, size: 2, reset: identity.subsystem ?? 0 });
    this.define({ offset: PciHeader.INT_LINE, size: 1, reset: 0, writable: 0xff });
    for (const bar of identity.bars) this.#addBar(bar);
  }

  #addBar({ bar, bytes, is64, prefetchable }: BarSpec): void {
    const flags =
      (is64 ? PciBar.TYPE_64 : PciBar.TYPE_32) | (prefetchable ? PciBar.PREFETCHABLE : 0);
    const [low, high] = barSizeMask(bytes, 0);
    const offset = PciHeader.BAR0 + 4 * bar;
    this.define({ offset, size: 4, reset: flags, writable: low });
    if (is64) this.define({ offset: offset + 4, size: 4, reset: 0, writable: high });
    this.#bars[bar] = bytes;
  }

  /** Declares a register; it takes its reset value at once. Later declarations win. */
  define(spec: RegisterSpec): void {
    for (let i = 0; i < spec.size; i++) {
      const at = spec.offset + i;
      this.#reset[at] = spec.reset >>> (8 * i);
      this.#values[at] = this.#reset[at]!;
      this.#writable[at] = (spec.writable ?? 0) >>> (8 * i);
      this.#clearable[at] = (spec.clearable ?? 0) >>> (8 * i);
    }
    if (spec.rule !== undefined || spec.written !== undefined) this.#active.push(spec);
  }

  /** Links a conventional capability header in at `offset` (0x40 to 0xfc, a multiple of 4). */
  addCapability(id: number, offset: number): void {
    if (offset < FIRST_CAP || offset >= CONVENTIONAL_CONFIG_BYTES || offset % 4 !== 0) {
      throw new RangeError(`no capability can be at ${offset}`);
    }
    this.define({ offset: this.#capLink, size: 1, reset: offset });
    this.define({ offset, size: 2, reset: id & 0xff });
    this.#capLink = offset + 1;
  }

  /** Links an extended capability header in at `offset`; the first one must be at 0x100. */
  addExtCapability(id: number, version: number, offset: number): void {
    const expected = this.#extCap === 0 ? offset === CONVENTIONAL_CONFIG_BYTES : true;
    const inside = offset >= CONVENTIONAL_CONFIG_BYTES && offset < CONFIG_SPACE_BYTES;
    if (!expected || !inside || offset % 4 !== 0) {
      throw new RangeError(`no extended capability can be at ${offset}`);
    }
    if (this.#extCap !== 0) {
      const header = this.read(this.#extCap, 4);
      const linked = extCapHeader(header & 0xffff, (header >>> 16) & 0xf, offset);
      this.define({ offset: this.#extCap, size: 4, reset: linked });
    }
    this.define({ offset, size: 4, reset: extCapHeader(id, version, 0) });
    this.#extCap = offset;
  }

  /** Unsigned value of `size` bytes at `offset`. */
  read(offset: number, size: 1 | 2 | 4): number {
    if (!isAccess(offset, size)) return 0xffff_ffff >>> (8 * (4 - size));
    return this.#get(offset, size);
  }

  /** A write by software: masks, then rules, then reactions. */
  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (!isAccess(offset, size)) return;
    const touched = this.#active.filter(
      (spec) => spec.offset < offset + size && offset < spec.offset + spec.size,
    );
    const before = touched.map((spec) => this.#get(spec.offset, spec.size));
    for (let i = 0; i < size; i++) this.#writeByte(offset + i, (value >>> (8 * i)) & 0xff);
    const next = touched.map((spec) => this.#get(spec.offset, spec.size));
    touched.forEach((spec, i) => {
      if (spec.rule !== undefined)
        this.set(spec.offset, spec.size, spec.rule(next[i]!, before[i]!));
    });
    touched.forEach((spec, i) => spec.written?.(next[i]!, before[i]!));
  }

  /** A change by the function itself: masks do not apply. */
  set(offset: number, size: 1 | 2 | 4, value: number): void {
    for (let i = 0; i < size; i++) this.#values[offset + i] = value >>> (8 * i);
  }

  /** Every register takes its reset value; no reaction is called. */
  reset(): void {
    this.#values.set(this.#reset);
  }

  /** Size in bytes of the BAR that starts at register `bar`, else 0. */
  barSize(bar: number): number {
    return this.#bars[bar] ?? 0;
  }

  get busMaster(): boolean {
    return (this.#values[PciHeader.COMMAND]! & PciCommand.BUS_MASTER) !== 0;
  }

  #get(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = ((value << 8) | this.#values[offset + i]!) >>> 0;
    return value;
  }

  #writeByte(at: number, byte: number): void {
    const writable = this.#writable[at]!;
    const kept = this.#values[at]! & ~writable & ~(byte & this.#clearable[at]!);
    this.#values[at] = kept | (byte & writable);
  }
}

function isAccess(offset: number, size: number): boolean {
  if (size !== 1 && size !== 2 && size !== 4) return false;
  return offset >= 0 && offset + size <= CONFIG_SPACE_BYTES && offset % size === 0;
}
