import type { UnitConfig } from './config.ts';
import type { RegisterFile } from './registers.ts';

/** MTRR registers (VT-d spec 10.4, ECAP.MTS): capability, default type, fixed and variable ranges. */
const MTRR = { CAPABILITY: 0x100, DEFAULT: 0x108, FIXED: 0x120, VARIABLE: 0x180 } as const;
const FIXED_RANGES = 11;
const VARIABLE_RANGES = 10;
/** Capability: so many variable ranges, fixed ranges, and write-combining. */
const CAPABILITY = BigInt(VARIABLE_RANGES) | 0x500n;
/** Type, fixed ranges enabled, all enabled. */
const DEFAULT_MASK = 0xcffn;
const TYPE_MASK = 0xffn;
const VALID_MASK = 0x800n;
const ALL = 0xffff_ffff_ffff_ffffn;

/**
 * The memory-type registers of a unit with ECAP.MTS. They hold what software writes and change
 * nothing: memory has one type here, and what a PASID entry says of types (CD, EMTE, PAT) is
 * accepted, shown and without effect too.
 */
export function addMemoryTypes(registers: RegisterFile, config: UnitConfig): void {
  if (config.ecap.MTS === 0) return;
  registers.set64(MTRR.CAPABILITY, CAPABILITY);
  registers.writable64(MTRR.DEFAULT, DEFAULT_MASK);
  for (let i = 0; i < FIXED_RANGES; i++) registers.writable64(MTRR.FIXED + 8 * i, ALL);
  const address = ((1n << BigInt(config.haw)) - 1n) & ~0xfffn;
  for (let i = 0; i < VARIABLE_RANGES; i++) {
    registers.writable64(MTRR.VARIABLE + 16 * i, address | TYPE_MASK);
    registers.writable64(MTRR.VARIABLE + 16 * i + 8, address | VALID_MASK);
  }
}
