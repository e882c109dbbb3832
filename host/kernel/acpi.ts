import {
  parseRsdp,
  parseSdtHeader,
  parseXsdt,
  RSDP_BYTES,
  SDT_HEADER_BYTES,
} from '../../devices/spec/acpi.ts';

/** Loads from physical addresses: the root complex. */
export interface PhysicalLoads {
  read(pa: number, size: number): bigint;
}

/** The firmware's tables, found through the root pointer that it handed over. */
export class Acpi {
  readonly #bus: PhysicalLoads;
  readonly #addresses: readonly number[];

  /** RangeError when the root pointer or the table of tables is broken. */
  constructor(bus: PhysicalLoads, rsdp: number) {
    this.#bus = bus;
    const { xsdt } = parseRsdp(this.#load(rsdp, RSDP_BYTES));
    this.#addresses = parseXsdt(this.#table(xsdt));
  }

  /** The bytes of the first table with that signature, not yet checked; null if there is none. */
  table(signature: string): Uint8Array | null {
    for (const address of this.#addresses) {
      const header = parseSdtHeader(this.#load(address, SDT_HEADER_BYTES));
      if (header.signature === signature) return this.#load(address, header.length);
    }
    return null;
  }

  #table(address: number): Uint8Array {
    return this.#load(address, parseSdtHeader(this.#load(address, SDT_HEADER_BYTES)).length);
  }

  #load(address: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => Number(this.#bus.read(address + i, 1)));
  }
}
