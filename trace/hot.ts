/**
 * Packing of the 16 bytes that a hot event tells: a text and a `sid`, `pasid` with `perm`, and an
 * address. Each gives one 32-bit word for `Tracer.emitHot`; trace/wire lays records out the same way.
 */

/** A PASID (-1: none) and permission bits. */
export const pasidAndPerm = (pasid: number, perm: number): number =>
  (pasid & 0xff_ffff) | (perm << 24);

/** Low and high word of the address of a page, from the halves of its 52-bit number. */
export const pageLow = (lo: number): number => lo << 12;
export const pageHigh = (lo: number, hi: number): number => (lo >>> 20) | (hi << 12);
