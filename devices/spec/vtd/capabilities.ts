/** CAP and ECAP, and the values the model's units report (VT-d specification, CAP/ECAP). */

import { bitStruct } from '../bits.ts';

/** Capability register. */
export const CAP = bitStruct(1, {
  ND: [0, 2, 0],
  RWBF: [0, 4, 4],
  PLMR: [0, 5, 5],
  PHMR: [0, 6, 6],
  CM: [0, 7, 7],
  SAGAW: [0, 12, 8],
  MGAW: [0, 21, 16],
  ZLR: [0, 22, 22],
  FRO: [0, 33, 24],
  SSLPS: [0, 37, 34],
  PSI: [0, 39, 39],
  NFR: [0, 47, 40],
  MAMV: [0, 53, 48],
  DWD: [0, 54, 54],
  DRD: [0, 55, 55],
  FS1GP: [0, 56, 56],
  PI: [0, 59, 59],
  FS5LP: [0, 60, 60],
  ECMDS: [0, 61, 61],
  ESIRTPS: [0, 62, 62],
  ESRTPS: [0, 63, 63],
});

/** Extended capability register. The host-permission-table bits 55, 56 and 59 are not modelled. */
export const ECAP = bitStruct(1, {
  C: [0, 0, 0],
  QI: [0, 1, 1],
  DT: [0, 2, 2],
  IR: [0, 3, 3],
  EIM: [0, 4, 4],
  PT: [0, 6, 6],
  SC: [0, 7, 7],
  IRO: [0, 17, 8],
  MHMV: [0, 23, 20],
  MTS: [0, 25, 25],
  NEST: [0, 26, 26],
  PRS: [0, 29, 29],
  ERS: [0, 30, 30],
  SRS: [0, 31, 31],
  NWFS: [0, 33, 33],
  EAFS: [0, 34, 34],
  PSS: [0, 39, 35],
  PASID: [0, 40, 40],
  DIT: [0, 41, 41],
  PDS: [0, 42, 42],
  SMTS: [0, 43, 43],
  VCS: [0, 44, 44],
  SSADS: [0, 45, 45],
  SSTS: [0, 46, 46],
  FSTS: [0, 47, 47],
  SMPWCS: [0, 48, 48],
  RPS: [0, 49, 49],
  TDXCS: [0, 50, 50],
  PMS: [0, 51, 51],
  ADMS: [0, 52, 52],
  RPRIVS: [0, 53, 53],
  SSIRWS: [0, 57, 57],
  SMS: [0, 58, 58],
  RDTS: [0, 60, 60],
  EIMER: [0, 61, 61],
  IRREQ: [0, 62, 62],
});

export type Cap = ReturnType<typeof CAP.decode>;
export type Ecap = ReturnType<typeof ECAP.decode>;

/** CAP.SAGAW bits: supported second-stage widths. */
export const SAGAW = { BITS_39: 0x2, BITS_48: 0x4, BITS_57: 0x8 } as const;

/** CAP.SSLPS bits: supported second-stage large pages. */
export const SSLPS = { SIZE_2M: 0x1, SIZE_1G: 0x2 } as const;

/** Host silicon that can nest: 16-bit DIDs, 48-bit addresses, one fault record at 600h. */
export const HOST_CAP: bigint = CAP.encode({
  ND: 6,
  SAGAW: SAGAW.BITS_39 | SAGAW.BITS_48,
  MGAW: 47,
  FRO: 0x60,
  SSLPS: SSLPS.SIZE_2M | SSLPS.SIZE_1G,
  PSI: 1,
  NFR: 0,
  MAMV: 18,
  DWD: 1,
  DRD: 1,
  FS1GP: 1,
  ESRTPS: 1,
})[0]!;

/** Host silicon that can nest: first and second stage, 20-bit PASIDs, ATS, page requests. */
export const HOST_ECAP: bigint = ECAP.encode({
  C: 1,
  QI: 1,
  DT: 1,
  IR: 1,
  EIM: 1,
  PT: 1,
  SC: 1,
  IRO: 0x50,
  MHMV: 15,
  NEST: 1,
  PRS: 1,
  SRS: 1,
  NWFS: 1,
  EAFS: 1,
  PSS: 19,
  PASID: 1,
  PDS: 1,
  SMTS: 1,
  SSADS: 1,
  SSTS: 1,
  FSTS: 1,
  SMPWCS: 1,
  RPS: 1,
})[0]!;

/** A guest's virtual unit: caching mode, 48-bit addresses, one fault record at 220h. */
export const GUEST_CAP: bigint = CAP.encode({
  ND: 6,
  CM: 1,
  SAGAW: SAGAW.BITS_48,
  MGAW: 47,
  FRO: 0x22,
  SSLPS: SSLPS.SIZE_2M | SSLPS.SIZE_1G,
  PSI: 1,
  NFR: 0,
  MAMV: 18,
  DWD: 1,
  DRD: 1,
  FS1GP: 1,
  ESRTPS: 1,
})[0]!;

/** A guest's virtual unit: first stage only, since the host uses the second stage beneath it. */
export const GUEST_ECAP: bigint = ECAP.encode({
  C: 1,
  QI: 1,
  DT: 1,
  IR: 1,
  PT: 1,
  IRO: 0xf,
  MHMV: 15,
  PRS: 1,
  NWFS: 1,
  PSS: 19,
  PASID: 1,
  PDS: 1,
  SMTS: 1,
  FSTS: 1,
  SMPWCS: 1,
})[0]!;

/**
 * What a `VtdUnit` models, as masks: the other bits stand for features that it lacks (protected
 * memory, posted interrupts, enhanced commands, host permission tables, virtual commands,
 * performance monitoring and the like) and read 0 whatever it was made with.
 */
export const MODELLED_CAP: bigint = CAP.encode({
  ND: 7,
  RWBF: 1,
  CM: 1,
  SAGAW: SAGAW.BITS_39 | SAGAW.BITS_48 | SAGAW.BITS_57,
  MGAW: 0x3f,
  ZLR: 1,
  FRO: 0x3ff,
  SSLPS: SSLPS.SIZE_2M | SSLPS.SIZE_1G,
  PSI: 1,
  NFR: 0xff,
  MAMV: 0x3f,
  DWD: 1,
  DRD: 1,
  FS1GP: 1,
  FS5LP: 1,
  ESIRTPS: 1,
  ESRTPS: 1,
})[0]!;

/** As `MODELLED_CAP`, for ECAP. */
export const MODELLED_ECAP: bigint = ECAP.encode({
  C: 1,
  QI: 1,
  DT: 1,
  IR: 1,
  EIM: 1,
  PT: 1,
  SC: 1,
  IRO: 0x3ff,
  MHMV: 15,
  MTS: 1,
  NEST: 1,
  PRS: 1,
  SRS: 1,
  NWFS: 1,
  EAFS: 1,
  PSS: 0x1f,
  PASID: 1,
  DIT: 1,
  PDS: 1,
  SMTS: 1,
  SSADS: 1,
  SSTS: 1,
  FSTS: 1,
  SMPWCS: 1,
  RPS: 1,
  ADMS: 1,
  RPRIVS: 1,
  SMS: 1,
  EIMER: 1,
  IRREQ: 1,
})[0]!;

/** Byte offset of fault record `index`, 0 to CAP.NFR; records are 16 bytes from CAP.FRO * 16. */
export function faultRecordOffset(cap: Cap, index: number): number {
  return (cap.FRO + index) * 16;
}

/** Byte offset of the IVA register; IOTLB_REG follows 8 bytes later. */
export function ivaOffset(ecap: Ecap): number {
  return ecap.IRO * 16;
}

/**
 * The first dependency the specification puts between capabilities that these values break, as
 * text, or undefined when they are consistent.
 */
export function capabilityConflict(cap: Cap, ecap: Ecap): string | undefined {
  const { NEST, SMTS, FSTS, SSTS, PRS, DT, PDS, NWFS, DIT, PASID, RPS, SMPWCS } = ecap;
  const requires = (name: string, has: number, ...needs: readonly number[]): string[] =>
    has === 1 && needs.includes(0) ? [name] : [];
  return [
    ...requires('NEST needs SMTS, FSTS and SSTS', NEST, SMTS, FSTS, SSTS),
    ...requires('PRS needs DT and SMTS', PRS, DT, SMTS),
    ...requires('PDS needs DT', PDS, DT),
    ...requires('NWFS needs DT', NWFS, DT),
    ...requires('DIT needs DT', DIT, DT),
    ...requires('PASID needs SMTS', PASID, SMTS),
    ...requires('RPS needs SMTS', RPS, SMTS),
    ...requires('SMPWCS needs SMTS', SMPWCS, SMTS),
    ...requires('FSTS needs SMTS', FSTS, SMTS),
    ...requires('EAFS needs FSTS and SMPWCS', ecap.EAFS, FSTS, SMPWCS),
    ...requires('SSADS needs SMPWCS', ecap.SSADS, SMPWCS),
    ...requires('SMTS needs QI and no RWBF', SMTS, ecap.QI, 1 - cap.RWBF),
  ][0];
}
