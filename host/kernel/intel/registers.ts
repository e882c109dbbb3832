import type { Cap, Ecap } from '../../../devices/spec/vtd/registers.ts';
import { CAP, ECAP, GSTS_PERSISTENT, REG } from '../../../devices/spec/vtd/registers.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import { INTEL_NS } from './costs.ts';
import type { Platform } from './platform.ts';

/** Polls of a status bit before the unit counts as dead (Linux waits 10 s). */
const MAX_POLLS = 10_000;

/** The unit's registers, through loads and stores at their physical addresses. */
export class Registers {
  readonly base: number;
  readonly cap: Cap;
  readonly ecap: Ecap;
  readonly capWord: bigint;
  readonly ecapWord: bigint;
  readonly #root: Platform['machine']['root'];

  /** @param base physical address of the register page, from the DMAR table */
  constructor(platform: Platform, base: number) {
    this.base = base;
    this.#root = platform.machine.root;
    this.capWord = this.read64(REG.CAP);
    this.ecapWord = this.read64(REG.ECAP);
    this.cap = CAP.decode([this.capWord]);
    this.ecap = ECAP.decode([this.ecapWord]);
  }

  read32(offset: number): number {
    return Number(this.#root.read(this.base + offset, 4));
  }

  write32(offset: number, value: number): void {
    this.#root.write(this.base + offset, 4, BigInt(value >>> 0));
  }

  read64(offset: number): bigint {
    return this.#root.read(this.base + offset, 8);
  }

  write64(offset: number, value: bigint): void {
    this.#root.write(this.base + offset, 8, value);
  }

  /**
   * Gives one global command and waits until GSTS reports it: a level command is on or off, a
   * one-shot one is done. Errno ETIMEDOUT. (VT-d specification, global command register: one change
   * per write.)
   */
  *command(bit: number, on = true): Task {
    const kept = (this.read32(REG.GSTS) & GSTS_PERSISTENT) >>> 0;
    this.write32(REG.GCMD, on ? kept | bit : kept & ~bit);
    for (let polls = 0; polls < MAX_POLLS; polls++) {
      if (((this.read32(REG.GSTS) & bit) !== 0) === on) return;
      yield INTEL_NS.POLL;
    }
    throw new Errno(
      'ETIMEDOUT',
      `unit at 0x${this.base.toString(16)}: command ${bit.toString(16)}`,
    );
  }
}
