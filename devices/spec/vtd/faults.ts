/** Fault reasons and fault records (VT-d specification, fault conditions). */

import { bitStruct } from '../bits.ts';

/**
 * Answer to an ATS translation request: Unsupported Request; Completer Abort; success without
 * permissions (`ok0`: not recorded, recoverable through a page request); success with the
 * effective permissions (`eff`); `none` where the condition cannot arise.
 */
export type TranslationReply = 'UR' | 'CA' | 'ok0' | 'eff' | 'none';

/** Answer to a page request that needs one: Invalid Request, or the condition cannot arise. */
export type PageRequestReply = 'IR' | 'none';

type Row = readonly [
  code: number,
  qualified: boolean,
  tr: TranslationReply,
  pr: PageRequestReply,
  meaning: string,
];

const Q = true;
const N = false;

/** Untranslated requests always end in Unsupported Request, whatever the row says. */
const ROWS = {
  LEGACY_ROOT_NOT_PRESENT: [0x01, N, 'UR', 'none', 'legacy root entry not present'],
  LEGACY_CONTEXT_NOT_PRESENT: [0x02, Q, 'UR', 'none', 'legacy context entry not present'],
  LEGACY_CONTEXT_INVALID: [0x03, Q, 'CA', 'none', 'legacy context entry invalid'],
  LEGACY_ADDRESS_BEYOND_WIDTH: [0x04, Q, 'ok0', 'none', 'address beyond the supported width'],
  LEGACY_NO_WRITE: [0x05, Q, 'eff', 'none', 'no write permission'],
  LEGACY_NO_READ: [0x06, Q, 'eff', 'none', 'no read permission'],
  LEGACY_SS_ACCESS: [0x07, Q, 'CA', 'none', 'second-stage entry not accessible'],
  LEGACY_ROOT_ACCESS: [0x08, N, 'CA', 'none', 'legacy root entry not accessible'],
  LEGACY_CONTEXT_ACCESS: [0x09, N, 'CA', 'none', 'legacy context entry not accessible'],
  LEGACY_ROOT_RESERVED: [0x0a, N, 'CA', 'none', 'reserved bit in legacy root entry'],
  LEGACY_CONTEXT_RESERVED: [0x0b, Q, 'CA', 'none', 'reserved bit in legacy context entry'],
  LEGACY_SS_RESERVED: [0x0c, Q, 'CA', 'none', 'reserved bit in second-stage entry'],
  LEGACY_TT_FORBIDS_ATS: [0x0d, Q, 'UR', 'none', 'translation type forbids ATS'],
  LEGACY_OUTPUT_INTERRUPT: [0x0e, Q, 'CA', 'none', 'output address in the interrupt window'],

  IR_REQUEST_RESERVED: [0x20, N, 'none', 'none', 'reserved field in interrupt request'],
  IR_INDEX_BEYOND_TABLE: [0x21, N, 'none', 'none', 'interrupt index beyond the table'],
  IR_ENTRY_NOT_PRESENT: [0x22, Q, 'none', 'none', 'interrupt remapping entry not present'],
  IR_ENTRY_ACCESS: [0x23, N, 'none', 'none', 'interrupt remapping entry not accessible'],
  IR_ENTRY_RESERVED: [0x24, Q, 'none', 'none', 'reserved bit in interrupt remapping entry'],
  IR_COMPATIBILITY_BLOCKED: [0x25, N, 'none', 'none', 'compatibility-format interrupt blocked'],
  IR_SOURCE_ID: [0x26, Q, 'none', 'none', 'interrupt source-id validation failed'],
  IR_POSTED_ACCESS: [0x27, Q, 'none', 'none', 'posted-interrupt descriptor not accessible'],
  IR_POSTED_RESERVED: [0x28, Q, 'none', 'none', 'reserved bit in posted-interrupt descriptor'],
  IR_NOT_AN_INTERRUPT: [0x29, N, 'none', 'none', 'interrupt window access is no interrupt'],
  IR_EIME_REQUIRED: [0x2a, N, 'none', 'none', 'extended interrupt mode required'],
  IR_REQUIRED: [0x2b, N, 'none', 'none', 'interrupt remapping required'],

  RTADDR_INVALID: [0x30, N, 'CA', 'IR', 'root table address register invalid'],
  LEGACY_WITH_PASID: [0x31, N, 'UR', 'none', 'request with PASID in legacy mode'],
  LEGACY_PAGE_REQUEST: [0x32, N, 'none', 'IR', 'page request in legacy mode'],
  ABORT_DMA: [0x33, N, 'UR', 'IR', 'abort-DMA mode'],
  EXECUTE_REQUESTED: [0x34, N, 'UR', 'none', 'execute requested'],
  SM_ROOT_ACCESS: [0x38, N, 'CA', 'IR', 'root entry not accessible'],
  SM_ROOT_NOT_PRESENT: [0x39, N, 'UR', 'IR', 'root entry not present'],
  SM_ROOT_RESERVED: [0x3a, N, 'CA', 'IR', 'reserved bit in root entry'],
  SM_CONTEXT_ACCESS: [0x40, N, 'CA', 'IR', 'context entry not accessible'],
  SM_CONTEXT_NOT_PRESENT: [0x41, Q, 'UR', 'IR', 'context entry not present'],
  SM_CONTEXT_RESERVED: [0x42, Q, 'CA', 'IR', 'reserved bit in context entry'],
  SM_CONTEXT_INVALID: [0x43, Q, 'CA', 'IR', 'context entry invalid'],
  DTE_CLEAR: [0x44, Q, 'UR', 'none', 'device-TLB disabled in context entry'],
  PASIDE_CLEAR: [0x45, Q, 'UR', 'IR', 'PASID disabled in context entry'],
  PASID_BEYOND_PDTS: [0x46, Q, 'UR', 'IR', 'PASID beyond the directory'],
  PRE_CLEAR: [0x47, Q, 'none', 'IR', 'page requests disabled in context entry'],
  PASID_IS_RID_PASID: [0x48, Q, 'UR', 'IR', 'PASID equals RID_PASID'],
  EPTR_CLEAR: [0x49, Q, 'none', 'none', 'translated request with PASID not enabled'],

  PASID_DIR_ACCESS: [0x50, N, 'CA', 'IR', 'PASID directory entry not accessible'],
  PASID_DIR_NOT_PRESENT: [0x51, Q, 'ok0', 'IR', 'PASID directory entry not present'],
  PASID_DIR_RESERVED: [0x52, Q, 'CA', 'IR', 'reserved bit in PASID directory entry'],
  PASID_ENTRY_ACCESS: [0x58, N, 'CA', 'IR', 'PASID entry not accessible'],
  PASID_ENTRY_NOT_PRESENT: [0x59, Q, 'ok0', 'IR', 'PASID entry not present'],
  PASID_ENTRY_RESERVED: [0x5a, Q, 'CA', 'IR', 'reserved bit in PASID entry'],
  PASID_ENTRY_INVALID: [0x5b, Q, 'CA', 'IR', 'PASID entry invalid'],
  ERE_CLEAR: [0x5c, Q, 'ok0', 'none', 'execute requested but not enabled'],
  SRE_CLEAR: [0x5d, Q, 'ok0', 'none', 'supervisor request not enabled'],
  HPT_BEYOND_SIZE: [0x60, Q, 'none', 'none', 'translated address beyond the permission table'],

  FS_ACCESS: [0x70, Q, 'ok0', 'none', 'first-stage entry not accessible'],
  FS_NOT_PRESENT: [0x71, Q, 'ok0', 'none', 'first-stage entry not present'],
  FS_RESERVED: [0x72, Q, 'ok0', 'none', 'reserved bit in first-stage entry'],
  FS_ROOT_ACCESS: [0x73, Q, 'ok0', 'none', 'first-stage root not accessible'],
  NESTED_ADDRESS_BEYOND_WIDTH: [0x74, Q, 'ok0', 'none', 'guest address beyond second-stage width'],
  NESTED_FS_ROOT_NO_READ: [0x75, Q, 'ok0', 'none', 'second stage denies read of first-stage root'],
  NESTED_FS_NO_READ: [0x76, Q, 'ok0', 'none', 'second stage denies read of first-stage table'],
  NESTED_FS_NO_WRITE: [0x77, Q, 'ok0', 'none', 'second stage denies accessed/dirty update'],
  SS_ACCESS: [0x78, Q, 'CA', 'none', 'second-stage entry not accessible'],
  SS_NOT_PRESENT: [0x79, Q, 'ok0', 'none', 'second-stage entry without read and write'],
  SS_RESERVED: [0x7a, Q, 'CA', 'none', 'reserved bit in second-stage entry'],
  SS_ROOT_ACCESS: [0x7b, Q, 'CA', 'none', 'second-stage root not accessible'],
  SS_AD_NOT_SNOOPED: [0x7c, Q, 'CA', 'none', 'second-stage accessed/dirty needs snooping'],
  SS_AD_FAILED: [0x7d, Q, 'CA', 'none', 'second-stage accessed/dirty update failed'],

  NOT_CANONICAL: [0x80, Q, 'ok0', 'none', 'address not canonical'],
  USER_TO_SUPERVISOR: [0x81, Q, 'ok0', 'none', 'user request to supervisor page'],
  ADDRESS_BEYOND_HAW: [0x83, Q, 'ok0', 'none', 'address beyond the host address width'],
  ADDRESS_BEYOND_SS: [0x84, Q, 'ok0', 'none', 'address beyond the second-stage width'],
  NO_WRITE: [0x85, Q, 'eff', 'none', 'no write permission'],
  NO_READ: [0x86, Q, 'eff', 'none', 'no read permission'],
  OUTPUT_INTERRUPT: [0x87, Q, 'CA', 'none', 'output address in the interrupt window'],
  PASID_TOO_WIDE: [0x89, Q, 'UR', 'none', 'PASID wider than supported'],
  FS_AD_NOT_SNOOPED: [0x90, Q, 'ok0', 'none', 'first-stage accessed/dirty needs snooping'],
  FS_AD_FAILED: [0x91, Q, 'ok0', 'none', 'first-stage accessed/dirty update failed'],

  HPT_A0: [0xa0, Q, 'none', 'none', 'host permission table fault'],
  HPT_A1: [0xa1, Q, 'none', 'none', 'host permission table fault'],
  HPT_A2: [0xa2, Q, 'none', 'none', 'host permission table fault'],
  HPT_A3: [0xa3, Q, 'none', 'none', 'host permission table fault'],
  HPT_A4: [0xa4, Q, 'none', 'none', 'host permission table fault'],
  HPT_A5: [0xa5, Q, 'none', 'none', 'host permission table fault'],
} as const satisfies Readonly<Record<string, Row>>;

export type FaultName = keyof typeof ROWS;

const rows = Object.entries<Row>(ROWS) as readonly (readonly [FaultName, Row])[];

/** Fault reason codes by name. */
export const FAULT = Object.fromEntries(rows.map(([name, row]) => [name, row[0]])) as {
  readonly [K in FaultName]: (typeof ROWS)[K][0];
};

export interface FaultInfo {
  readonly name: FaultName;
  readonly code: number;
  readonly meaning: string;
  /** Suppressed when a structure walked so far has FPD set; the request is blocked all the same. */
  readonly qualified: boolean;
  readonly tr: TranslationReply;
  readonly pr: PageRequestReply;
}

/** The whole fault table by code, in ascending order. */
export const FAULTS: ReadonlyMap<number, FaultInfo> = new Map(
  rows.map(([name, [code, qualified, tr, pr, meaning]]) => [
    code,
    { name, code, meaning, qualified, tr, pr },
  ]),
);

/** `FS_NOT_PRESENT (0x71): first-stage entry not present`; unknown codes print the number. */
export function describeFault(code: number): string {
  const hex = `0x${code.toString(16).padStart(2, '0')}`;
  const info = FAULTS.get(code);
  return info === undefined ? `fault ${hex}` : `${info.name} (${hex}): ${info.meaning}`;
}

/**
 * Whether a translation request that meets this condition leaves a fault record: those answered
 * UR or CA do, and so does a failed accessed/dirty update although its answer is success.
 */
export function recordsOnTranslationRequest(code: number): boolean {
  const tr = FAULTS.get(code)?.tr;
  return tr === 'UR' || tr === 'CA' || code === FAULT.FS_AD_FAILED;
}

const TRANSLATED_ABORTS: ReadonlySet<number> = new Set([0x50, 0x52, 0x58, 0x5a, 0x5b]);

/** Answer to a translated request that meets this condition: CA for table errors, else UR. */
export function translatedReply(code: number): 'UR' | 'CA' {
  return TRANSLATED_ABORTS.has(code) ? 'CA' : 'UR';
}

/**
 * Fault record, 16 bytes. FI is the faulting page (for interrupt faults the interrupt index in
 * bits 63:48). PRIV and PV are valid with PP. AT: 0 untranslated, 1 translation, 2 translated.
 */
export const FRCD = bitStruct(2, {
  FI: [0, 63, 12, 'address'],
  SID: [1, 15, 0],
  T2: [1, 28, 28],
  PRIV: [1, 29, 29],
  EXE: [1, 30, 30],
  PP: [1, 31, 31],
  FR: [1, 39, 32],
  PV: [1, 59, 40],
  AT: [1, 61, 60],
  T1: [1, 62, 62],
  F: [1, 63, 63],
});

/** What the blocked request was: the two type bits T1 (high) and T2 of a fault record. */
export const FAULT_TYPE = { WRITE: 0, PAGE_REQUEST: 1, READ: 2, ATOMIC: 3 } as const;

/** Address type of a request, as in FRCD.AT and in PCIe. */
export const ADDRESS_TYPE = { UNTRANSLATED: 0, TRANSLATION: 1, TRANSLATED: 2 } as const;
