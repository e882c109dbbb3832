/** PASID directory and PASID table (VT-d specification, scalable-mode PASID structures). */

import { bitStruct, hex, type Words } from '../bits.ts';

/** PASID directory entry, 8 bytes; index is PASID bits 19:6. */
export const pasidDirEntry = bitStruct(1, {
  P: [0, 0, 0],
  FPD: [0, 1, 1],
  SMPTBLPTR: [0, 63, 12, 'address'],
});

/**
 * PASID table entry, 64 bytes; index is PASID bits 5:0. The fields stand in the order in which one
 * reads an entry. FSPTPTR is a host physical address under PGTT first-stage and a guest physical
 * one under nested. NXE and SMEP are ignored by hardware; FPD is honoured even when P is 0.
 */
export const pasidEntry = bitStruct(8, {
  P: [0, 0, 0],
  FPD: [0, 1, 1],
  PGTT: [0, 8, 6],
  DID: [1, 15, 0],
  AW: [0, 4, 2],
  SSADE: [0, 9, 9],
  SSPTPTR: [0, 63, 12, 'address'],
  FSPM: [2, 3, 2],
  FSPTPTR: [2, 63, 12, 'address'],
  SRE: [2, 0, 0],
  WPE: [2, 4, 4],
  NXE: [2, 5, 5],
  SMEP: [2, 6, 6],
  EAFE: [2, 7, 7],
  PWSNP: [1, 23, 23],
  PGSNP: [1, 24, 24],
  CD: [1, 25, 25],
  EMTE: [1, 26, 26],
  PAT: [1, 63, 32],
});

export type PasidEntry = ReturnType<typeof pasidEntry.decode>;

/** PASID granular translation type; any other value is fault 5Bh. */
export const PGTT = {
  FIRST_STAGE: 1,
  SECOND_STAGE: 2,
  NESTED: 3,
  PASS_THROUGH: 4,
} as const;

/** Second-stage address width (AW): 3, 4 or 5 levels. */
export const AW = { BITS_39: 1, BITS_48: 2, BITS_57: 3 } as const;

/** First-stage paging mode (FSPM). */
export const FSPM = { LEVELS_4: 0, LEVELS_5: 1 } as const;

/** Highest PASID value plus one: PASIDs are 20 bits. */
export const PASID_LIMIT = 0x100000;

/** Entries in one PASID table page. */
export const PASID_TABLE_ENTRIES = 64;

/** Capabilities that decide which PASID-entry fields are reserved (0 or 1 each). */
export interface PasidCapabilities {
  readonly SSADS: number;
  readonly SMPWCS: number;
  readonly SC: number;
  readonly MTS: number;
  readonly SRS: number;
  readonly EAFS: number;
}

/** Reserved bits per word of a PASID entry on a unit with these capabilities: fault 5Ah. */
export function pasidEntryReserved(ecap: PasidCapabilities): readonly bigint[] {
  const { masks } = pasidEntry;
  const without = (capability: number, mask: bigint): bigint => (capability === 0 ? mask : 0n);
  const reserved = [...pasidEntry.reserved];
  reserved[0] = reserved[0]! | without(ecap.SSADS, masks.SSADE);
  reserved[1] =
    reserved[1]! |
    without(ecap.SMPWCS, masks.PWSNP) |
    without(ecap.SC, masks.PGSNP) |
    without(ecap.MTS, masks.CD | masks.EMTE);
  reserved[2] = reserved[2]! | without(ecap.SRS, masks.SRE) | without(ecap.EAFS, masks.EAFE);
  return reserved;
}

/** Levels of the second-stage table for AW 1 to 3 (3, 4, 5). */
export function secondStageLevels(aw: number): number {
  return aw + 2;
}

/** Input width in bits of the second-stage table for AW 1 to 3 (39, 48, 57). */
export function secondStageWidth(aw: number): number {
  return 30 + 9 * aw;
}

/** Levels of the first-stage table for FSPM 0 or 1 (4, 5). */
export function firstStageLevels(fspm: number): number {
  return fspm + 4;
}

/** Index into the PASID directory: PASID bits 19:6. */
export function pasidDirIndex(pasid: number): number {
  return pasid >>> 6;
}

/** Index into the PASID table: PASID bits 5:0. */
export function pasidTableIndex(pasid: number): number {
  return pasid & 0x3f;
}

/** Byte address of the directory entry of `pasid`. */
export function pasidDirEntryAddress(directory: number, pasid: number): number {
  return directory + pasidDirIndex(pasid) * pasidDirEntry.bytes;
}

/** Byte address of the table entry of `pasid`. */
export function pasidEntryAddress(table: number, pasid: number): number {
  return table + pasidTableIndex(pasid) * pasidEntry.bytes;
}

const PGTT_NAMES: Readonly<Record<number, string>> = {
  [PGTT.FIRST_STAGE]: 'first-stage',
  [PGTT.SECOND_STAGE]: 'second-stage',
  [PGTT.NESTED]: 'nested',
  [PGTT.PASS_THROUGH]: 'pass-through',
};

/** Name of a translation type: `nested`, or `invalid(6)`. */
export function pgttName(pgtt: number): string {
  return PGTT_NAMES[pgtt] ?? `invalid(${pgtt})`;
}

/**
 * `P PGTT=nested DID=5 AW=48-bit SSPTPTR=0x1234000 FSPM=4-level FSPTPTR=0x5678000`: the non-zero
 * fields, with the paging set-up by name where the translation type uses it.
 */
export function describePasidEntry(words: Words): string {
  const entry = pasidEntry.decode(words);
  const usesSecondStage = entry.PGTT === PGTT.SECOND_STAGE || entry.PGTT === PGTT.NESTED;
  const usesFirstStage = entry.PGTT === PGTT.FIRST_STAGE || entry.PGTT === PGTT.NESTED;
  const named: readonly string[] = [
    ...(entry.P === 1 ? ['P'] : []),
    ...(entry.FPD === 1 ? ['FPD'] : []),
    ...(entry.P === 1 || entry.PGTT !== 0 ? [`PGTT=${pgttName(entry.PGTT)}`] : []),
    ...(entry.P === 1 || entry.DID !== 0 ? [`DID=${entry.DID}`] : []),
    ...(usesSecondStage
      ? [`AW=${secondStageWidth(entry.AW)}-bit`, `SSPTPTR=${hex(entry.SSPTPTR)}`]
      : []),
    ...(usesFirstStage
      ? [`FSPM=${firstStageLevels(entry.FSPM)}-level`, `FSPTPTR=${hex(entry.FSPTPTR)}`]
      : []),
  ];
  const flags = (['SSADE', 'SRE', 'WPE', 'EAFE', 'PWSNP', 'PGSNP', 'CD', 'EMTE'] as const).filter(
    (name) => entry[name] === 1,
  );
  const types = entry.EMTE === 1 ? [`PAT=${hex(entry.PAT)}`] : [];
  const shown = [...named, ...flags, ...types];
  return shown.length === 0 ? '0' : shown.join(' ');
}
