/**
 * What an IOAS is, said as simply as possible: lists that are searched from the front. It shares no
 * code with the kernel; addresses are numbers, and an area knows which bytes of what it maps.
 */

export const PAGE = 4096;
const HIGHEST = Number.MAX_SAFE_INTEGER;
const HUGE = 2 << 20;

/** A refused call: the error's name. With `partly` the model has changed all the same. */
export class Refusal extends Error {
  readonly partly: boolean;

  constructor(code: string, partly = false) {
    super(code);
    this.partly = partly;
  }
}

export function refuseIf(condition: boolean, code: string): void {
  if (condition) throw new Refusal(code);
}

export interface Range {
  readonly start: number;
  readonly last: number;
}

export const READ = 1;
export const WRITE = 2;

/** `from`: byte of the program's memory, or of its file, that `start` maps. */
export interface AreaModel {
  readonly start: number;
  readonly last: number;
  readonly kind: 'memory' | 'file';
  readonly from: number;
  readonly prot: number;
  /** Whether the pages were first mapped with WRITE: what every copy of the area can have. */
  readonly writable: boolean;
}

export interface IoasModel {
  /** Ascending. */
  areas: AreaModel[];
  reserved: (Range & { readonly owner: string })[];
  allowed: Range[];
  huge: boolean;
}

/** What a program's memory and file are like, by page. */
export interface Backing {
  /** Address of the first page of memory. */
  readonly address: number;
  /** Of memory; behind them there is nothing. */
  readonly memoryPages: number;
  readonly filePages: number;
}

export const emptyIoas = (): IoasModel => ({ areas: [], reserved: [], allowed: [], huge: true });

const meet = (a: Range, b: Range): boolean => a.start <= b.last && b.start <= a.last;
const ascending = (a: Range, b: Range): number => a.start - b.start;

/** The areas behind a range as far as it is mapped without a hole, each cut to the range. */
export function slices(ioas: IoasModel, range: Range): { list: AreaModel[]; whole: boolean } {
  const list: AreaModel[] = [];
  let next = range.start;
  for (const area of ioas.areas) {
    if (area.last < next || area.start > range.last) continue;
    if (area.start > next) break;
    const last = Math.min(area.last, range.last);
    list.push({ ...area, start: next, last, from: area.from + (next - area.start) });
    next = last + 1;
  }
  return { list, whole: next > range.last };
}

/** Names of the pages behind an area. */
export function pagesOf(area: AreaModel): string[] {
  const last = Math.floor((area.from + (area.last - area.start)) / PAGE);
  const pages: string[] = [];
  for (let page = Math.floor(area.from / PAGE); page <= last; page++) {
    pages.push(`${area.kind} ${page}`);
  }
  return pages;
}

/** What pinning an area is refused with, if it is. */
export function pinError(area: AreaModel, backing: Backing): string | null {
  const last = Math.floor((area.from + (area.last - area.start)) / PAGE);
  if (area.kind === 'file') return last < backing.filePages ? null : 'EINVAL';
  return last < backing.memoryPages ? null : 'EFAULT';
}

/** The holes between the reserved ranges, up to 2^64 - 1. */
export function holes(ioas: IoasModel): { start: bigint; last: bigint }[] {
  const found: { start: bigint; last: bigint }[] = [];
  let from = 0n;
  for (const { start, last } of [...ioas.reserved].sort(ascending)) {
    if (BigInt(start) > from) found.push({ start: from, last: BigInt(start) - 1n });
    const end = last === HIGHEST ? 1n << 64n : BigInt(last) + 1n;
    if (end > from) from = end;
  }
  if (from < 1n << 64n) found.push({ start: from, last: (1n << 64n) - 1n });
  return found;
}

/** Reserves all ranges or none. */
export function reserve(ioas: IoasModel, owner: string, ranges: readonly Range[]): void {
  for (const range of ranges) {
    const taken = [...ioas.areas, ...ioas.allowed].some((one) => meet(one, range));
    refuseIf(taken, 'EADDRINUSE');
  }
  ioas.reserved.push(...ranges.map((range) => ({ ...range, owner })));
}

export function unreserve(ioas: IoasModel, owner: string): void {
  ioas.reserved = ioas.reserved.filter((range) => range.owner !== owner);
}

export function outside(aperture: Range): Range[] {
  const below = { start: 0, last: aperture.start - 1 };
  const above = { start: aperture.last + 1, last: HIGHEST };
  return aperture.start === 0 ? [above] : [below, above];
}

export function allow(ioas: IoasModel, ranges: readonly Range[]): void {
  refuseIf(
    ranges.some((range) => range.start >= range.last),
    'EINVAL',
  );
  const overlap = ranges.some((range, n) => ranges.slice(0, n).some((one) => meet(one, range)));
  refuseIf(overlap, 'EINVAL');
  const taken = ranges.some((range) => ioas.reserved.some((one) => meet(one, range)));
  refuseIf(taken, 'EADDRINUSE');
  ioas.allowed = [...ranges];
}

/** Whether areas of another alignment than `alignment` are there. */
export function misaligned(ioas: IoasModel, alignment: number): boolean {
  return ioas.areas.some(({ start, last, from }) =>
    [start, last + 1 - start, from % PAGE].some((value) => value % alignment !== 0),
  );
}

/**
 * Puts slices of what is mapped elsewhere, or of memory or file, one after the other at `iova`, or
 * where there is room. Returns where.
 */
export function place(
  ioas: IoasModel,
  alignment: number,
  parts: readonly AreaModel[],
  prot: number,
  iova: number | null,
  backing: Backing,
): number {
  const length = parts.reduce((sum, { start, last }) => sum + (last - start + 1), 0);
  refuseIf(length % alignment !== 0, 'EINVAL');
  const first = parts[0]!;
  const address = first.kind === 'memory' ? backing.address + first.from : first.from;
  const at = iova ?? room(ioas, alignment, length, address);
  refuseIf(at % alignment !== 0, 'EINVAL');
  const range = { start: at, last: at + length - 1 };
  refuseIf(
    ioas.reserved.some((one) => meet(one, range)),
    'EINVAL',
  );
  refuseIf(
    ioas.areas.some((one) => meet(one, range)),
    'EEXIST',
  );
  let next = at;
  for (const part of parts) {
    refuseIf((prot & WRITE) !== 0 && !part.writable, 'EPERM');
    refuseIf((part.from % PAGE) % alignment !== 0, 'EINVAL');
    const last = next + (part.last - part.start);
    ioas.areas.push({ ...part, start: next, last, prot });
    next = last + 1;
  }
  ioas.areas.sort(ascending);
  return at;
}

/** The lowest IOVA that is free and aligned like the length and the address, never 0. */
function room(ioas: IoasModel, alignment: number, length: number, address: number): number {
  let step = 1;
  while (step < length && step < HUGE) step *= 2;
  while (address % step !== 0) step /= 2;
  refuseIf(step < alignment, 'EINVAL');
  const taken = [...ioas.reserved, ...ioas.areas];
  for (const window of windowsOf(ioas.allowed)) {
    for (let at = window.start; ; ) {
      const aligned = Math.ceil(at / step) * step;
      // The offset in the page is or-ed in, not added.
      const start = aligned - (aligned % PAGE) + ((aligned % PAGE) | (address % PAGE));
      const range = { start, last: start + length - 1 };
      if (range.last > window.last) break;
      const hit = taken.find((one) => meet(one, range));
      if (hit === undefined && start > 0) return start;
      at = hit === undefined ? 1 : hit.last + 1;
    }
  }
  throw new Refusal('ENOSPC');
}

/** Where room is looked for: never in the first page, and over the seams of what is allowed. */
function windowsOf(allowed: readonly Range[]): Range[] {
  if (allowed.length === 0) return [{ start: PAGE, last: HIGHEST }];
  const windows: Range[] = [];
  for (const { start, last } of [...allowed].sort(ascending)) {
    const before = windows.at(-1);
    if (before?.last === start - 1) windows[windows.length - 1] = { ...before, last };
    else windows.push({ start: Math.max(start, PAGE), last });
  }
  return windows;
}
