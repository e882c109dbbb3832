import { FRCD } from '../spec/vtd/faults.ts';
import { FSTS, faultRecordOffset, REG } from '../spec/vtd/registers.ts';
import type { UnitConfig } from './config.ts';
import type { EventSource } from './event-source.ts';
import { REGISTER_BYTES, type RegisterFile } from './registers.ts';

/** What a fault record says (VT-d spec 10.4.14). */
export interface FaultRecord {
  readonly sid: number;
  /** -1: the request had none. */
  readonly pasid: number;
  readonly priv: boolean;
  /** Page number; of an interrupt fault, the interrupt index in bits 51:36. */
  readonly page: number;
  readonly code: number;
  /** One of FAULT_TYPE. */
  readonly type: number;
  /** Address type of the request: one of ADDRESS_TYPE. */
  readonly at: number;
}

const F = 0x8000_0000;

/** Primary fault logging: the ring of fault recording registers (VT-d spec 7.2.1). */
export class FaultLog {
  readonly #registers: RegisterFile;
  readonly #event: EventSource;
  /** Offsets of the records that lie in the window. */
  readonly #records: readonly number[];
  #next = 0;

  constructor(config: UnitConfig, registers: RegisterFile, event: EventSource) {
    this.#registers = registers;
    this.#event = event;
    this.#records = Array.from({ length: config.cap.NFR + 1 }, (_, i) =>
      faultRecordOffset(config.cap, i),
    ).filter((offset) => offset + FRCD.bytes <= REGISTER_BYTES);
    for (const offset of this.#records) {
      registers.onWrite(offset + 12, (value) => {
        if ((value & F) !== 0) this.#release(offset);
      });
    }
  }

  /** Records a fault. False: dropped, because the log has overflowed. */
  record(fault: FaultRecord): boolean {
    const registers = this.#registers;
    const status = registers.get(REG.FSTS);
    const offset = this.#records[this.#next];
    if ((status & FSTS.PFO) !== 0 || offset === undefined) return false;
    if ((registers.get(offset + 12) & F) !== 0) {
      this.#event.raise(FSTS.PFO);
      return false;
    }
    const words = FRCD.encode({
      FI: fault.page * 4096,
      SID: fault.sid & 0xffff,
      T1: fault.type >> 1,
      T2: fault.type & 1,
      PP: fault.pasid >= 0,
      PRIV: fault.pasid >= 0 && fault.priv,
      PV: Math.max(fault.pasid, 0) & 0xf_ffff,
      FR: fault.code,
      AT: fault.at,
      F: 1,
    });
    registers.set64(offset, words[0]!);
    registers.set64(offset + 8, words[1]!);
    if ((status & FSTS.PPF) === 0) {
      registers.set(REG.FSTS, (status & ~FSTS.FRI) | (this.#next << FSTS.FRI_SHIFT));
      this.#event.raise(FSTS.PPF);
    }
    this.#next = (this.#next + 1) % this.#records.length;
    return true;
  }

  /** Remapping of DMA and of interrupts is off: the next record is the first again. */
  restart(): void {
    this.#next = 0;
  }

  /** Software has read the record. */
  #release(offset: number): void {
    const registers = this.#registers;
    registers.set(offset + 12, registers.get(offset + 12) & ~F);
    const pending = this.#records.some((record) => (registers.get(record + 12) & F) !== 0);
    if (!pending) this.#event.clear(FSTS.PPF);
  }
}
