/**
 * Page-table entries: the x86 format that CPUs and the VT-d first stage share (SDM volume 3,
 * paging; VT-d specification, first-stage paging entries), and VT-d's second-stage format. Levels
 * count from 1 (PTE) to 5 (PML5E).
 */

import { hex } from '../bits.ts';

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;

/** 8-byte entries in one table page. */
export const ENTRIES_PER_TABLE = 512;

/** First-stage (x86) entry bits. PS is bit 7 at levels 2 and 3; at level 1 that bit is PAT. */
export const FS = {
  P: 1n << 0n,
  RW: 1n << 1n,
  US: 1n << 2n,
  PWT: 1n << 3n,
  PCD: 1n << 4n,
  A: 1n << 5n,
  D: 1n << 6n,
  PS: 1n << 7n,
  G: 1n << 8n,
  EA: 1n << 10n,
  XD: 1n << 63n,
} as const;

/** Second-stage entry bits. R=W=0 means not present; SNP, D and PS belong to leaves. */
export const SS = {
  R: 1n << 0n,
  W: 1n << 1n,
  X: 1n << 2n,
  IPAT: 1n << 6n,
  PS: 1n << 7n,
  A: 1n << 8n,
  D: 1n << 9n,
  SNP: 1n << 11n,
} as const;

/** PAT of a large first-stage leaf. */
const LARGE_PAT = 1n << 12n;

/** Address bits 51:12 of an entry of either format. */
export const ADDRESS_MASK = 0x000f_ffff_ffff_f000n;

/*
 * The same bits for walks that read an entry as two int32 halves, without bigints.
 */

/** First-stage bits of the low half. */
export const FS_LO = {
  P: 0x001,
  RW: 0x002,
  US: 0x004,
  PWT: 0x008,
  PCD: 0x010,
  A: 0x020,
  D: 0x040,
  PS: 0x080,
  G: 0x100,
  EA: 0x400,
} as const;

/** First-stage bits of the high half, as int32. */
export const FS_HI = { XD: 0x8000_0000 | 0 } as const;

/** Second-stage bits of the low half. */
export const SS_LO = {
  R: 0x001,
  W: 0x002,
  X: 0x004,
  EMT: 0x038,
  IPAT: 0x040,
  PS: 0x080,
  A: 0x100,
  D: 0x200,
  SNP: 0x800,
} as const;

/** Address bits 31:12 in the low half, as int32. */
export const ADDRESS_LO = 0xffff_f000 | 0;

/** Address bits 51:32 in the high half. */
export const ADDRESS_HI = 0x000f_ffff;

/** Low-half address bits that must be 0 in a first-stage large leaf: 2 MiB 20:13, 1 GiB 29:13. */
export const FS_LEAF_RESERVED_LO = { SIZE_2M: 0x001f_e000, SIZE_1G: 0x3fff_e000 } as const;

/** Low-half address bits that must be 0 in a second-stage large leaf: 2 MiB 20:12, 1 GiB 29:12. */
export const SS_LEAF_RESERVED_LO = { SIZE_2M: 0x001f_f000, SIZE_1G: 0x3fff_f000 } as const;

/** Lowest address bit a level indexes: 12, 21, 30, 39, 48. */
export function levelShift(level: number): number {
  return PAGE_SHIFT + 9 * (level - 1);
}

/** Bytes that one entry of a level spans: 4 KiB, 2 MiB, 1 GiB, 512 GiB, 256 TiB. */
export function levelBytes(level: number): number {
  return 2 ** levelShift(level);
}

/** 4 KiB pages that one entry of a level spans: 1, 512, 262144, ... */
export function levelPages(level: number): number {
  return 2 ** (9 * (level - 1));
}

/** Table index (0-511) of a page number (address / 4096, up to 52 bits) at a level. */
export function pageIndex(page: number, level: number): number {
  return Math.floor(page / levelPages(level)) % ENTRIES_PER_TABLE;
}

/** Table index (0-511) of a 64-bit byte address at a level. */
export function levelIndex(address: bigint, level: number): number {
  return Number((address >> BigInt(levelShift(level))) & 0x1ffn);
}

/** Address bits that `levels` levels translate: 39, 48 or 57 for 3, 4 or 5. */
export function inputWidth(levels: number): number {
  return PAGE_SHIFT + 9 * levels;
}

/** Whether an address sign-extends from its `width` low bits (48 or 57). */
export function isCanonical(address: bigint, width: number): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(width, address)) === BigInt.asUintN(64, address);
}

/** {@link isCanonical} for a 52-bit page number: address bits 63:width-1 all equal. */
export function isCanonicalPage(page: number, width: number): boolean {
  const half = 2 ** (width - 1 - PAGE_SHIFT);
  return page < half || page >= 2 ** 52 - half;
}

/** Whether an entry maps a page: every level-1 entry, and levels 2 and 3 with PS (bit 7). */
export function isLeaf(entry: bigint, level: number): boolean {
  return level === 1 || (level <= 3 && (entry & FS.PS) !== 0n);
}

/** Byte address an entry points to; a large leaf's low address bits are cleared. */
export function entryAddress(entry: bigint, level: number): number {
  const address = Number(entry & ADDRESS_MASK);
  return isLeaf(entry, level) ? address - (address % levelBytes(level)) : address;
}

function names(entry: bigint, table: Readonly<Record<string, bigint>>): string {
  return Object.entries(table)
    .filter(([, mask]) => (entry & mask) !== 0n)
    .map(([name]) => name)
    .join('|');
}

/** `0x5067 -> 0x5000 P|RW|US|A|D`, or `0x0 not present`. */
export function describeFirstStage(entry: bigint, level: number): string {
  if ((entry & FS.P) === 0n) return `${hex(entry)} not present`;
  // Bit 7 of a PTE is PAT, not a page size.
  const shown = level === 1 ? entry & ~FS.PS : entry;
  const patBit = level === 1 ? FS.PS : isLeaf(entry, level) ? LARGE_PAT : 0n;
  const pat = (entry & patBit) !== 0n ? '|PAT' : '';
  return `${hex(entry)} -> ${hex(entryAddress(entry, level))} ${names(shown, FS)}${pat}`;
}

/** `0x5333 -> 0x5000 R|W|A|D|EMT=6`, or `0x0 not present`; EMT: the memory type, when not 0. */
export function describeSecondStage(entry: bigint, level: number): string {
  if ((entry & (SS.R | SS.W)) === 0n) return `${hex(entry)} not present`;
  const type = Number((entry >> 3n) & 7n);
  const emt = isLeaf(entry, level) && type !== 0 ? `|EMT=${type}` : '';
  return `${hex(entry)} -> ${hex(entryAddress(entry, level))} ${names(entry, SS)}${emt}`;
}
