import { copyBytes } from '../machine/bytes.ts';
import type { Ram } from '../machine/ram.ts';
import { Segfault, type UserMemory } from '../syscall.ts';
import type { AddressSpace } from './address-space.ts';

/** A processor's way to physical addresses: the root complex. */
export interface PhysicalBus {
  read(pa: number, size: number): bigint;
  write(pa: number, size: number, value: bigint): void;
  movdir64b(pa: number, bytes: Uint8Array): void;
  enqcmd(pa: number, bytes: Uint8Array): boolean;
}

/** Loads and stores of a process's own code. Device memory is reached in naturally aligned pieces. */
export class CpuMemory implements UserMemory {
  readonly #space: AddressSpace;
  readonly #ram: Ram;
  readonly #bus: PhysicalBus;

  constructor(space: AddressSpace, ram: Ram, bus: PhysicalBus) {
    this.#space = space;
    this.#ram = ram;
    this.#bus = bus;
  }

  read(address: number, into: Uint8Array): void {
    const { place } = this.#space;
    for (let at = 0; at < into.length; ) {
      const run = this.#locate(address + at, into.length - at, false);
      if (place.device) {
        this.#readDevice(place.physical, into.subarray(at, at + run));
      } else {
        copyBytes(into, at, this.#ram.bytes, place.physical, run);
      }
      at += run;
    }
  }

  write(address: number, from: Uint8Array): void {
    const { place } = this.#space;
    for (let at = 0; at < from.length; ) {
      const run = this.#locate(address + at, from.length - at, true);
      if (place.device) this.#writeDevice(place.physical, from.subarray(at, at + run));
      else {
        copyBytes(this.#ram.bytes, place.physical, from, at, run);
        this.#ram.touched(place.physical, run);
      }
      at += run;
    }
  }

  copy(to: number, from: number, length: number): void {
    if (Math.abs(to - from) < length) {
      const held = new Uint8Array(length);
      this.read(from, held);
      this.write(to, held);
      return;
    }
    const { place } = this.#space;
    for (let at = 0; at < length; ) {
      const readable = this.#locateRam(from + at, length - at, false);
      const source = place.physical;
      const run = this.#locateRam(to + at, readable, true);
      this.#ram.bytes.copyWithin(place.physical, source, source + run);
      this.#ram.touched(place.physical, run);
      at += run;
    }
  }

  load(address: number, size: number): bigint {
    this.#locateAligned(address, size, false);
    return this.#bus.read(this.#space.place.physical, size);
  }

  store(address: number, size: number, value: bigint): void {
    this.#locateAligned(address, size, true);
    this.#bus.write(this.#space.place.physical, size, value);
  }

  movdir64b(address: number, bytes: Uint8Array): void {
    this.#locateAligned(address, 64, true);
    this.#bus.movdir64b(this.#space.place.physical, bytes);
  }

  enqcmd(address: number, bytes: Uint8Array): boolean {
    this.#locateAligned(address, 64, true);
    return this.#bus.enqcmd(this.#space.place.physical, bytes);
  }

  #locate(address: number, length: number, write: boolean): number {
    const run = this.#space.locate(address, length, write);
    if (run === 0) throw new Segfault(address, this.#space.place.why);
    return run;
  }

  #locateRam(address: number, length: number, write: boolean): number {
    const run = this.#locate(address, length, write);
    if (this.#space.place.device) throw new Segfault(address, 'a block copy in device memory');
    return run;
  }

  /** One access that may not be split; being aligned, it lies in one page. */
  #locateAligned(address: number, size: number, write: boolean): void {
    if (address % size !== 0) throw new Segfault(address, `not aligned to ${size} bytes`);
    this.#locate(address, size, write);
  }

  #readDevice(pa: number, into: Uint8Array): void {
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    for (let at = 0; at < into.length; ) {
      const size = pieceSize(pa + at, into.length - at);
      const value = this.#bus.read(pa + at, size);
      for (let i = 0; i < size; i++)
        view.setUint8(at + i, Number((value >> BigInt(8 * i)) & 0xffn));
      at += size;
    }
  }

  #writeDevice(pa: number, from: Uint8Array): void {
    for (let at = 0; at < from.length; ) {
      const size = pieceSize(pa + at, from.length - at);
      let value = 0n;
      for (let i = 0; i < size; i++) value |= BigInt(from[at + i]!) << BigInt(8 * i);
      this.#bus.write(pa + at, size, value);
      at += size;
    }
  }
}

/** The largest naturally aligned access at `pa` within `left` bytes. */
function pieceSize(pa: number, left: number): number {
  let size = 8;
  while (size > left || pa % size !== 0) size /= 2;
  return size;
}
