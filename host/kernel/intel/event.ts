/** The unit's own interrupts: three sources with the same four registers. */
import { REG } from '../../../devices/spec/vtd/registers.ts';
import type { IntelUnit } from './unit.ts';

/** Offset of the control register of each source. */
export const EVENT = { FAULT: REG.FECTL, PAGE_REQUEST: REG.PECTL } as const;

/** Where the message's data and address lie, from the control register on. */
const DATA = 4;
const ADDRESS = 8;
const UPPER_ADDRESS = 12;

/**
 * Gives a source an interrupt vector and unmasks it. What was pending is delivered then.
 * `handler` must not block.
 */
export function enableEvent(
  unit: IntelUnit,
  control: (typeof EVENT)[keyof typeof EVENT],
  name: string,
  handler: () => void,
): void {
  const { registers, platform } = unit;
  const message = platform.machine.interrupts.allocate(name, handler);
  registers.write32(control + DATA, message.data);
  registers.write32(control + ADDRESS, message.address);
  registers.write32(control + UPPER_ADDRESS, 0);
  registers.write32(control, 0);
}
