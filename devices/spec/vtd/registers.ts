/** VT-d register file: offsets, widths, access and bits (VT-d specification, register chapter). */

import { bitStruct } from '../bits.ts';

/** Byte offsets in the unit's register page. */
export const REG = {
  VER: 0x000,
  CAP: 0x008,
  ECAP: 0x010,
  GCMD: 0x018,
  GSTS: 0x01c,
  RTADDR: 0x020,
  CCMD: 0x028,
  FSTS: 0x034,
  FECTL: 0x038,
  FEDATA: 0x03c,
  FEADDR: 0x040,
  FEUADDR: 0x044,
  PMEN: 0x064,
  IQH: 0x080,
  IQT: 0x088,
  IQA: 0x090,
  ICS: 0x09c,
  IECTL: 0x0a0,
  IEDATA: 0x0a4,
  IEADDR: 0x0a8,
  IEUADDR: 0x0ac,
  IQERCD: 0x0b0,
  IRTA: 0x0b8,
  PQH: 0x0c0,
  PQT: 0x0c8,
  PQA: 0x0d0,
  PRS: 0x0dc,
  PECTL: 0x0e0,
  PEDATA: 0x0e4,
  PEADDR: 0x0e8,
  PEUADDR: 0x0ec,
} as const;

export type RegisterName = keyof typeof REG;

/** `mixed`: read-only and write-1-to-clear bits side by side. */
export type RegisterAccess = 'ro' | 'rw' | 'wo' | 'w1c' | 'mixed';

export interface RegisterDefinition {
  readonly name: RegisterName;
  readonly offset: number;
  readonly width: 32 | 64;
  readonly access: RegisterAccess;
  readonly note: string;
}

function register(
  name: RegisterName,
  width: 32 | 64,
  access: RegisterAccess,
  note: string,
): RegisterDefinition {
  return { name, offset: REG[name], width, access, note };
}

/** Every register at a fixed offset, in address order. */
export const REGISTERS: readonly RegisterDefinition[] = [
  register('VER', 32, 'ro', 'architecture version: major 7:4, minor 3:0'),
  register('CAP', 64, 'ro', 'capabilities'),
  register('ECAP', 64, 'ro', 'extended capabilities'),
  register('GCMD', 32, 'wo', 'global command: one change per write'),
  register('GSTS', 32, 'ro', 'global status'),
  register('RTADDR', 64, 'rw', 'root table and translation mode; latched by GCMD.SRTP'),
  register('CCMD', 64, 'rw', 'register-based context invalidation; legacy mode without a queue'),
  register('FSTS', 32, 'mixed', 'fault status: PPF and FRI read-only, the rest write-1-to-clear'),
  register('FECTL', 32, 'rw', 'fault event control; IP read-only'),
  register('FEDATA', 32, 'rw', 'fault event MSI data'),
  register('FEADDR', 32, 'rw', 'fault event MSI address'),
  register('FEUADDR', 32, 'rw', 'fault event MSI upper address'),
  register('PMEN', 32, 'rw', 'protected memory enable; needs CAP.PLMR or CAP.PHMR'),
  register('IQH', 64, 'ro', 'invalidation queue head: next descriptor to process'),
  register('IQT', 64, 'rw', 'invalidation queue tail'),
  register('IQA', 64, 'rw', 'invalidation queue base, descriptor width and size'),
  register('ICS', 32, 'w1c', 'invalidation completion status'),
  register('IECTL', 32, 'rw', 'invalidation event control; IP read-only'),
  register('IEDATA', 32, 'rw', 'invalidation event MSI data'),
  register('IEADDR', 32, 'rw', 'invalidation event MSI address'),
  register('IEUADDR', 32, 'rw', 'invalidation event MSI upper address'),
  register('IQERCD', 64, 'ro', 'invalidation queue error record'),
  register('IRTA', 64, 'rw', 'interrupt remapping table; latched by GCMD.SIRTP'),
  register('PQH', 64, 'rw', 'page-request queue head, moved by software'),
  register('PQT', 64, 'rw', 'page-request queue tail, moved by hardware'),
  register('PQA', 64, 'rw', 'page-request queue base and size'),
  register('PRS', 32, 'w1c', 'page-request status'),
  register('PECTL', 32, 'rw', 'page-request event control; IP read-only'),
  register('PEDATA', 32, 'rw', 'page-request event MSI data'),
  register('PEADDR', 32, 'rw', 'page-request event MSI address'),
  register('PEUADDR', 32, 'rw', 'page-request event MSI upper address'),
];

/*
 * 32-bit registers: masks as unsigned numbers. `value & MASK` is a signed int32, so test it
 * against 0, or apply `>>> 0` before comparing with a mask.
 */

/** Global command. SRTP, WBF and SIRTP are one-shot; the others are levels. */
export const GCMD = {
  TE: 0x8000_0000,
  SRTP: 0x4000_0000,
  SFL: 0x2000_0000,
  EAFL: 0x1000_0000,
  WBF: 0x0800_0000,
  QIE: 0x0400_0000,
  IRE: 0x0200_0000,
  SIRTP: 0x0100_0000,
  CFI: 0x0080_0000,
} as const;

/** Global status: each bit reports the command of the same position. */
export const GSTS = {
  TES: 0x8000_0000,
  RTPS: 0x4000_0000,
  FLS: 0x2000_0000,
  AFLS: 0x1000_0000,
  WBFS: 0x0800_0000,
  QIES: 0x0400_0000,
  IRES: 0x0200_0000,
  IRTPS: 0x0100_0000,
  CFIS: 0x0080_0000,
} as const;

/** What software keeps of GSTS when it builds a GCMD value: everything but the one-shot bits. */
export const GSTS_PERSISTENT = 0x96ff_ffff;

/** Fault status. PPF is the OR of all FRCD.F; FRI is the first record since PPF rose. */
export const FSTS = {
  PFO: 0x01,
  PPF: 0x02,
  IQE: 0x10,
  ICE: 0x20,
  ITE: 0x40,
  /** Write-1-to-clear bits: PFO, IQE, ICE, ITE. */
  W1C: 0x71,
  FRI: 0xff00,
  FRI_SHIFT: 8,
} as const;

/** FECTL, IECTL and PECTL alike: interrupt mask (reset 1) and interrupt pending (read-only). */
export const EVENT_CONTROL = { IM: 0x8000_0000, IP: 0x4000_0000 } as const;

/** Invalidation completion status: a wait descriptor with IF completed. */
export const ICS = { IWC: 0x1 } as const;

/** Page-request status: a request is pending; the queue overflowed. */
export const PRS = { PPR: 0x1, PRO: 0x2 } as const;

/** Protected memory: enable, and its status. */
export const PMEN = { EPM: 0x8000_0000, PRS: 0x1 } as const;

/** Root table address; TTM is one of the TTM constants. */
export const RTADDR = bitStruct(1, {
  RTA: [0, 63, 12, 'address'],
  TTM: [0, 11, 10],
  SSIRWE: [0, 7, 7],
});

/** Translation table mode. Value 2 is reserved: fault 30h. */
export const TTM = { LEGACY: 0, SCALABLE: 1, ABORT_DMA: 3 } as const;

/** Context command: CIRG requests, CAIG reports 1 global, 2 domain, 3 device (0 ignored). */
export const CCMD = bitStruct(1, {
  ICC: [0, 63, 63],
  CIRG: [0, 62, 61],
  CAIG: [0, 60, 59],
  FM: [0, 33, 32],
  SID: [0, 31, 16],
  DID: [0, 15, 0],
});

/** Invalidation queue address: DW 1 means 256-bit descriptors; 2^QS pages. */
export const IQA = bitStruct(1, {
  BASE: [0, 63, 12, 'address'],
  DW: [0, 11, 11],
  QS: [0, 2, 0],
});

/** Invalidation queue error record: IQEI is one of the IQEI constants. */
export const IQERCD = bitStruct(1, {
  IQEI: [0, 3, 0],
  ITESID: [0, 47, 32],
  ICESID: [0, 63, 48],
});

/** Why the invalidation queue stopped (IQERCD.IQEI). */
export const IQEI = {
  NONE: 0,
  TAIL_OUT_OF_RANGE: 1,
  FETCH_ERROR: 2,
  BAD_TYPE: 3,
  RESERVED_FIELD: 4,
  BAD_WIDTH: 5,
  TAIL_MISALIGNED: 6,
  BAD_TTM: 7,
} as const;

/** Interrupt remapping table: 2^(S+1) entries; EIME selects x2APIC ids. */
export const IRTA = bitStruct(1, {
  BASE: [0, 63, 12, 'address'],
  EIME: [0, 11, 11],
  S: [0, 3, 0],
});

/** Page-request queue address: 2^PQS pages of 128 descriptors. */
export const PQA = bitStruct(1, {
  BASE: [0, 63, 12, 'address'],
  PQS: [0, 2, 0],
});

/** Register-based IOTLB invalidation, at ECAP.IRO * 16. */
export const IVA = bitStruct(1, { ADDR: [0, 63, 12, 'address'], IH: [0, 6, 6], AM: [0, 5, 0] });

/** Register-based IOTLB invalidation command, 8 bytes after IVA. */
export const IOTLB_REG = bitStruct(1, {
  IVT: [0, 63, 63],
  IIRG: [0, 61, 60],
  IAIG: [0, 58, 57],
  DR: [0, 49, 49],
  DW: [0, 48, 48],
  DID: [0, 47, 32],
});

/** Offset bits of IQH and IQT (18:4). */
export const IQ_OFFSET_MASK = 0x7fff0;

/** Offset bits of PQH and PQT (18:5). */
export const PQ_OFFSET_MASK = 0x7ffe0;

/** Size of the invalidation queue in bytes: 2^QS pages. */
export function invalidationQueueBytes(qs: number): number {
  return 4096 * 2 ** qs;
}

/** Size of the page-request queue in bytes: 2^PQS pages. */
export function pageRequestQueueBytes(pqs: number): number {
  return 4096 * 2 ** pqs;
}

export {
  CAP,
  type Cap,
  capabilityConflict,
  ECAP,
  type Ecap,
  faultRecordOffset,
  GUEST_CAP,
  GUEST_ECAP,
  HOST_CAP,
  HOST_ECAP,
  ivaOffset,
  MODELLED_CAP,
  MODELLED_ECAP,
  SAGAW,
  SSLPS,
} from './capabilities.ts';
