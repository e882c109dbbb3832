import { FAULT } from '../spec/vtd/faults.ts';

const BY_CODE: Readonly<Record<number, number>> = {
  [FAULT.SS_ROOT_ACCESS]: FAULT.LEGACY_CONTEXT_INVALID,
  [FAULT.SS_ACCESS]: FAULT.LEGACY_SS_ACCESS,
  [FAULT.SS_RESERVED]: FAULT.LEGACY_SS_RESERVED,
  [FAULT.NO_WRITE]: FAULT.LEGACY_NO_WRITE,
  [FAULT.NO_READ]: FAULT.LEGACY_NO_READ,
  [FAULT.ADDRESS_BEYOND_SS]: FAULT.LEGACY_ADDRESS_BEYOND_WIDTH,
  [FAULT.ADDRESS_BEYOND_HAW]: FAULT.LEGACY_ADDRESS_BEYOND_WIDTH,
  [FAULT.OUTPUT_INTERRUPT]: FAULT.LEGACY_OUTPUT_INTERRUPT,
};

/**
 * The code that legacy mode has for a second-stage or pass-through fault. It knows no "not
 * present": such an entry lacks the permission asked for.
 */
export function legacyFault(fault: number, write: boolean): number {
  if (fault === FAULT.SS_NOT_PRESENT) {
    return write ? FAULT.LEGACY_NO_WRITE : FAULT.LEGACY_NO_READ;
  }
  return BY_CODE[fault] ?? fault;
}
