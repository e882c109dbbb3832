/** Model-specific registers that shared virtual addressing uses. */

import { bitStruct } from './bits.ts';

/** IA32_PASID: the PASID that ENQCMD puts into a descriptor; per thread. */
export const IA32_PASID = 0xd93;

/** IA32_PASID's fields; every other bit is reserved. ENQCMD raises #GP(0) while VALID is 0. */
export const ia32Pasid = bitStruct(1, { PASID: [0, 19, 0], VALID: [0, 31, 31] });

/** Value of IA32_PASID that enables ENQCMD with `pasid` (20 bits; RangeError beyond). */
export function encodeIa32Pasid(pasid: number): bigint {
  return ia32Pasid.encode({ PASID: pasid, VALID: 1 })[0]!;
}

/** The PASID that an IA32_PASID value enables, or undefined when it is not valid. */
export function decodeIa32Pasid(value: bigint): number | undefined {
  const { PASID, VALID } = ia32Pasid.decode([value]);
  return VALID === 1 ? PASID : undefined;
}
