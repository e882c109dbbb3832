/** Fault records and queue errors (drivers/iommu/intel/dmar.c: dmar_fault). */
import { ridToSysfsName } from '../../../devices/spec/pci.ts';
import { describeFault, FAULT_TYPE, FRCD } from '../../../devices/spec/vtd/faults.ts';
import { FSTS, faultRecordOffset, REG } from '../../../devices/spec/vtd/registers.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { WaitQueue } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { INTEL_NS } from './costs.ts';
import { EVENT, enableEvent } from './event.ts';
import type { IntelUnit } from './unit.ts';

const RECORD_BYTES = 16;
/** F is bit 127; the upper 32 bits are written alone. */
const F_OFFSET = 12;
const F = 0x8000_0000;

const REQUEST_NAMES: Readonly<Record<number, string>> = {
  [FAULT_TYPE.WRITE]: 'write',
  [FAULT_TYPE.PAGE_REQUEST]: 'page request',
  [FAULT_TYPE.READ]: 'read',
  [FAULT_TYPE.ATOMIC]: 'atomic',
};
const ADDRESS_TYPE_NAMES = ['untranslated', 'translation', 'translated', 'reserved'] as const;

/** Takes the unit's fault events: reads and clears the records, and gets its queue going again. */
export class FaultReporter {
  readonly #unit: IntelUnit;
  readonly #wake = new WaitQueue();
  #pending = false;

  constructor(unit: IntelUnit) {
    this.#unit = unit;
  }

  enable(): void {
    this.#unit.platform.machine.scheduler.spawn('irq/dmar', this.#thread());
    enableEvent(this.#unit, EVENT.FAULT, 'dmar', () => {
      this.#pending = true;
      this.#wake.wake();
    });
  }

  *#thread(): Task<never> {
    for (;;) {
      while (!this.#pending) yield this.#wake;
      this.#pending = false;
      yield INTEL_NS.THREAD;
      this.handle();
    }
  }

  /** One pass: every valid record once, from the oldest on. */
  handle(): void {
    const { registers, queue } = this.#unit;
    queue.recover();
    const fsts = registers.read32(REG.FSTS);
    const records = registers.cap.NFR + 1;
    let index = (fsts & FSTS.FRI) >>> FSTS.FRI_SHIFT;
    if ((fsts & FSTS.PPF) !== 0) {
      for (let seen = 0; seen < records; seen++) {
        this.#record(faultRecordOffset(registers.cap, index));
        index = (index + 1) % records;
      }
    }
    registers.write32(REG.FSTS, FSTS.PFO | FSTS.ICE);
  }

  #record(offset: number): void {
    const { registers, platform } = this.#unit;
    const words = [registers.read64(offset), registers.read64(offset + RECORD_BYTES / 2)];
    const record = FRCD.decode(words);
    if (record.F === 0) return;
    if (platform.trace.on) {
      const type = REQUEST_NAMES[record.T1 * 2 + record.T2] ?? '';
      platform.trace.emit(host.dmarFault, {
        device: ridToSysfsName(record.SID),
        pasid: record.PP === 1 ? record.PV : -1,
        address: record.FI,
        code: record.FR,
        reason: describeFault(record.FR),
        request: `${ADDRESS_TYPE_NAMES[record.AT]!} ${type}`,
      });
    }
    registers.write32(offset + F_OFFSET, F);
  }
}
