/** The remapping unit's registers as the driver uses them. */
import { CAP, type Cap, ECAP, type Ecap, REG } from '../../devices/spec/vtd/registers.ts';
import { GuestError } from '../errno.ts';
import { mmioRead, mmioRead32, mmioWrite } from '../mmio.ts';
import { Backoff, sleep, type Task } from '../task.ts';

/** Polls of a status bit before the unit is given up (DMAR_OPERATION_TIMEOUT). */
const MAX_POLLS = 1000;

export class UnitRegisters {
  readonly base: number;
  /** Persistent GCMD bits, as the driver last wrote them. */
  #gcmd = 0;

  constructor(base: number) {
    this.base = base;
  }

  *read32(offset: number): Task<number> {
    return yield* mmioRead32(this.base + offset);
  }

  *read64(offset: number): Task<bigint> {
    return yield* mmioRead(this.base + offset, 8);
  }

  *write32(offset: number, value: number): Task {
    yield* mmioWrite(this.base + offset, 4, value);
  }

  *write64(offset: number, value: bigint | number): Task {
    yield* mmioWrite(this.base + offset, 8, value);
  }

  *capabilities(): Task<{ rawCap: bigint; rawEcap: bigint; cap: Cap; ecap: Ecap }> {
    const rawCap = yield* this.read64(REG.CAP);
    const rawEcap = yield* this.read64(REG.ECAP);
    return { rawCap, rawEcap, cap: CAP.decode([rawCap]), ecap: ECAP.decode([rawEcap]) };
  }

  /** Turns a GCMD level on and waits for its status. Throws GuestError ETIMEDOUT. */
  *enable(bit: number): Task {
    this.#gcmd = (this.#gcmd | bit) >>> 0;
    yield* this.write32(REG.GCMD, this.#gcmd);
    yield* this.#await(bit, true);
  }

  *disable(bit: number): Task {
    this.#gcmd = (this.#gcmd & ~bit) >>> 0;
    yield* this.write32(REG.GCMD, this.#gcmd);
    yield* this.#await(bit, false);
  }

  /** A one-shot command: written once on top of the persistent bits, then waited for. */
  *oneShot(bit: number): Task {
    yield* this.write32(REG.GCMD, (this.#gcmd | bit) >>> 0);
    yield* this.#await(bit, true);
  }

  *#await(bit: number, set: boolean): Task {
    const backoff = new Backoff(100, 10_000);
    for (let poll = 0; poll < MAX_POLLS; poll++) {
      const status = yield* this.read32(REG.GSTS);
      if (((status & bit) !== 0) === set) return;
      yield* sleep(backoff.next());
    }
    throw new GuestError('ETIMEDOUT', `GSTS bit 0x${bit.toString(16)} does not follow GCMD`);
  }

  /** Programs an event's message (data, address, upper address behind `control`) and unmasks it. */
  *programEvent(control: number, message: { address: number; data: number }): Task {
    yield* this.write32(control + 4, message.data);
    yield* this.write32(control + 8, message.address);
    yield* this.write32(control + 12, 0);
    yield* this.write32(control, 0);
  }
}
