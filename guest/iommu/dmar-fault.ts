/** Recorded DMA faults: read, reported, cleared (drivers/iommu/intel/dmar.c: dmar_fault). */
import { ridToString } from '../../devices/spec/pci.ts';
import { describeFault, FAULT_TYPE, FRCD } from '../../devices/spec/vtd/faults.ts';
import { type Cap, FSTS, faultRecordOffset, REG } from '../../devices/spec/vtd/registers.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { Signal, type Task } from '../task.ts';
import type { UnitRegisters } from './registers.ts';

/** Programs the fault event and starts the thread that serves it. GuestError ENOSPC. */
export function* enableFaultReporting(core: Core, registers: UnitRegisters, cap: Cap): Task {
  const interrupted = new Signal();
  const line = core.interrupts.allocate('dmar', () => {
    interrupted.raise();
  });
  yield* registers.programEvent(REG.FECTL, line);
  core.sched.spawn('irq/dmar', serve(core, registers, cap, interrupted));
}

function* serve(core: Core, registers: UnitRegisters, cap: Cap, interrupted: Signal): Task {
  while (true) {
    yield* interrupted.wait();
    const status = yield* registers.read32(REG.FSTS);
    const first = (status & FSTS.FRI) >>> FSTS.FRI_SHIFT;
    const count = cap.NFR + 1;
    for (let i = 0; i < count; i++) {
      if (!(yield* readRecord(core, registers, faultRecordOffset(cap, (first + i) % count)))) break;
    }
    yield* registers.write32(REG.FSTS, FSTS.PFO);
  }
}

function* readRecord(core: Core, registers: UnitRegisters, offset: number): Task<boolean> {
  const high = yield* registers.read64(offset + 8);
  if ((high & FRCD.masks.F) === 0n) return false;
  const record = FRCD.decode([yield* registers.read64(offset), high]);
  yield* registers.write32(offset + 12, 0x8000_0000);
  const type = record.T1 * 2 + record.T2;
  core.trace.emit(guest.dmarFault, {
    vm: core.vm,
    rid: ridToString(record.SID),
    pasid: record.PP === 1 ? record.PV : 0,
    address: record.FI,
    type: TYPE_NAMES[type] ?? 'request',
    reason: describeFault(record.FR),
  });
  return true;
}

const TYPE_NAMES: Readonly<Partial<Record<number, string>>> = {
  [FAULT_TYPE.WRITE]: 'write',
  [FAULT_TYPE.PAGE_REQUEST]: 'page request',
  [FAULT_TYPE.READ]: 'read',
  [FAULT_TYPE.ATOMIC]: 'atomic',
};
