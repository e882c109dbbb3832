/** Root and context tables (VT-d specification, root-table and context-table entries). */

import { bitStruct } from '../bits.ts';

/** Legacy root entry, 16 bytes, one per bus. CTP: the context table. */
export const legacyRootEntry = bitStruct(2, {
  P: [0, 0, 0],
  CTP: [0, 63, 12, 'address'],
});

/** Scalable-mode root entry, 16 bytes, one per bus: lower table devfn 0-7Fh, upper 80h-FFh. */
export const rootEntry = bitStruct(2, {
  LP: [0, 0, 0],
  LCTP: [0, 63, 12, 'address'],
  UP: [1, 0, 0],
  UCTP: [1, 63, 12, 'address'],
});

/** Legacy context entry, 16 bytes. Bits 6:3 of the second word are ignored by hardware. */
export const legacyContextEntry = bitStruct(2, {
  P: [0, 0, 0],
  FPD: [0, 1, 1],
  TT: [0, 3, 2],
  SSPTPTR: [0, 63, 12, 'address'],
  AW: [1, 2, 0],
  IGNORED: [1, 6, 3],
  DID: [1, 23, 8],
});

/** Translation type (TT) of a legacy context entry. */
export const LEGACY_TT = {
  /** Second stage; untranslated requests only. */
  UNTRANSLATED: 0,
  /** Second stage; ATS allowed. */
  DEVICE_TLB: 1,
  PASS_THROUGH: 2,
} as const;

/** Scalable-mode context entry, 32 bytes. FPD is honoured even when P is 0. */
export const contextEntry = bitStruct(4, {
  P: [0, 0, 0],
  FPD: [0, 1, 1],
  DTE: [0, 2, 2],
  PASIDE: [0, 3, 3],
  PRE: [0, 4, 4],
  HPTE: [0, 5, 5],
  EPTR: [0, 6, 6],
  PDTS: [0, 11, 9],
  PASIDDIRPTR: [0, 63, 12, 'address'],
  RID_PASID: [1, 19, 0],
  RID_PRIV: [1, 20, 20],
});

export type ContextEntry = ReturnType<typeof contextEntry.decode>;

/** Extended capabilities that decide which context-entry fields are reserved (0 or 1 each). */
export interface ContextCapabilities {
  readonly RPS: number;
  readonly RPRIVS: number;
  readonly SRS: number;
}

/**
 * Reserved bits per word of a scalable context entry on a unit with these capabilities; any of
 * them set is fault 42h. Host permission tables (HPTE, EPTR) are not modelled: always reserved.
 * RID_PASID is reserved without RPS, RID_PRIV without RPRIVS and SRS.
 */
export function contextEntryReserved(ecap: ContextCapabilities): readonly bigint[] {
  const { masks, reserved } = contextEntry;
  const [qw0, qw1, qw2, qw3] = reserved;
  const noPrivilege = ecap.RPRIVS === 0 || ecap.SRS === 0;
  return [
    qw0! | masks.HPTE | masks.EPTR,
    qw1! | (ecap.RPS === 0 ? masks.RID_PASID : 0n) | (noPrivilege ? masks.RID_PRIV : 0n),
    qw2!,
    qw3!,
  ];
}

/** PASIDs the directory of a context entry covers: 2^(PDTS+13), i.e. 0 to that minus one. */
export function pasidCount(pdts: number): number {
  return 2 ** (pdts + 13);
}

/** Byte address of the root entry of `bus` (0-255); both root-table formats use 16 bytes. */
export function rootEntryAddress(rta: number, bus: number): number {
  return rta + bus * rootEntry.bytes;
}

/**
 * Byte address of the scalable context entry of `devfn` (0-255) in the context table `ctp`: the
 * caller takes LCTP for devfn below 80h and UCTP from there on.
 */
export function contextEntryAddress(ctp: number, devfn: number): number {
  return ctp + (devfn & 0x7f) * contextEntry.bytes;
}

/** Byte address of the legacy context entry of `devfn` (0-255). */
export function legacyContextEntryAddress(ctp: number, devfn: number): number {
  return ctp + devfn * legacyContextEntry.bytes;
}

/** The half of a scalable root entry that serves `devfn`: presence and context table. */
export function contextTableOf(
  root: ReturnType<typeof rootEntry.decode>,
  devfn: number,
): { readonly present: boolean; readonly ctp: number } {
  return devfn < 0x80
    ? { present: root.LP === 1, ctp: root.LCTP }
    : { present: root.UP === 1, ctp: root.UCTP };
}
