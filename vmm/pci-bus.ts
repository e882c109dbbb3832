import { ECAM_BUS_BYTES, ecamDecode, ridToString } from '../devices/spec/pci.ts';
import type { Task } from '../host/syscall.ts';
import { allOnes } from './exit.ts';
import type { MmioHandler } from './memory-map.ts';

/** A PCI function of the virtual machine, behind its configuration space. */
export interface GuestPciFunction {
  readonly rid: number;
  /** `size` 1, 2 or 4, naturally aligned, `offset` below 4096. */
  configRead(offset: number, size: number): Task<number>;
  configWrite(offset: number, size: number, value: number): Task;
}

/** The configuration space of bus 0 (ECAM). Functions that are not there read all ones. */
export class PciBus implements MmioHandler {
  readonly bytes = ECAM_BUS_BYTES;
  readonly #functions = new Map<number, GuestPciFunction>();

  add(fn: GuestPciFunction): void {
    this.#functions.set(fn.rid, fn);
  }

  describe(offset: number): string {
    const { rid, register } = ecamDecode(offset);
    return `ECAM ${ridToString(rid)}+0x${register.toString(16)}`;
  }

  *read(offset: number, size: number): Task<bigint> {
    const { rid, register } = ecamDecode(offset);
    const fn = this.#functions.get(rid);
    if (fn === undefined || !isConfigAccess(register, size)) return allOnes(size);
    return BigInt((yield* fn.configRead(register, size)) >>> 0);
  }

  *write(offset: number, size: number, value: bigint): Task {
    const { rid, register } = ecamDecode(offset);
    const fn = this.#functions.get(rid);
    if (fn === undefined || !isConfigAccess(register, size)) return;
    yield* fn.configWrite(register, size, Number(BigInt.asUintN(8 * size, value)));
  }
}

function isConfigAccess(register: number, size: number): boolean {
  return size <= 4 && register % size === 0;
}
