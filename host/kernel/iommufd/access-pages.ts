/** What access objects do with the areas of an IOAS: pin, unpin, copy (iommufd's pages.c). */
import { Errno } from '../errno.ts';
import type { FailPoints } from '../failpoint.ts';
import { PROT } from '../iommu/ops.ts';
import type { Kernel } from '../kernel.ts';
import type { Mm } from '../mm.ts';
import type { Area } from './area.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { IoptPages } from './pages.ts';
import { hex, PAGE_SIZE } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);

/** Part of a contiguously mapped range: what of it lies in one area. */
interface Slice {
  readonly area: Area;
  readonly iova: bigint;
  /** Inclusive. */
  readonly last: bigint;
}

/** Bytes to copy at an IOVA. */
export interface CopyRequest {
  readonly iova: bigint;
  /** Where to, or where from with `write`. */
  readonly data: Uint8Array;
  readonly write: boolean;
  /** Not by the CPU's own access to the process that calls, but page by page. */
  readonly slow: boolean;
  /** Of the caller. */
  readonly mm: Mm;
}

/** Byte of the area's pages behind `iova`. */
const byteOf = (area: Area, iova: bigint): bigint => area.pagesByte + (iova - area.start);
const pageOf = (area: Area, iova: bigint): number => Number(byteOf(area, iova) / PAGE);

/** Pins a mapped range; all or nothing. See access.ts for the errors. */
export function pinAreas(iopt: IoPagetable, iova: bigint, last: bigint, write: boolean): number[] {
  const pfns: number[] = [];
  const pinned: Slice[] = [];
  try {
    for (const slice of contiguous(iopt, iova, last)) {
      checkGoing(slice.area);
      checkWholePages(slice, last);
      checkProtection(slice.area, write);
      hold(iopt.failpoints, slice, write);
      pinned.push(slice);
      const end = pageOf(slice.area, slice.last);
      for (let page = pageOf(slice.area, slice.iova); page <= end; page++) {
        pfns.push(slice.area.pages.pfn(page));
      }
    }
  } catch (error) {
    for (const slice of pinned) release(slice);
    throw error;
  }
  return pfns;
}

export function unpinAreas(iopt: IoPagetable, iova: bigint, last: bigint): void {
  for (const slice of contiguous(iopt, iova, last)) release(slice);
}

/** Copies, in ascending order, until something is in the way. */
export function copyPages(
  kernel: Kernel,
  iopt: IoPagetable,
  last: bigint,
  request: CopyRequest,
): void {
  let done = 0;
  for (const slice of contiguous(iopt, request.iova, last)) {
    checkGoing(slice.area);
    checkProtection(slice.area, request.write);
    if (request.write && !slice.area.pages.writable) throw notWritable(slice.area);
    checkCpuMemory(slice.area);
    const data = request.data.subarray(done, done + Number(slice.last - slice.iova) + 1);
    copySlice(kernel, slice, { ...request, data });
    done += data.length;
  }
}

/** The areas behind a range, ascending. @throws Errno ENOENT, after the areas before the hole */
function* contiguous(iopt: IoPagetable, iova: bigint, last: bigint): Generator<Slice> {
  let next = iova;
  for (const area of iopt.areas.allIn(iova, last)) {
    if (area.start > next || !area.ready) break;
    const end = area.last < last ? area.last : last;
    yield { area, iova: next, last: end };
    next = end + 1n;
  }
  if (next <= last) throw new Errno('ENOENT', `IOVA 0x${hex(next)} is not mapped`);
}

function checkGoing(area: Area): void {
  if (area.preventAccess) {
    throw new Errno('EINVAL', `the area at 0x${hex(area.start)} is being unmapped`);
  }
}

function checkProtection(area: Area, write: boolean): void {
  if ((area.prot & (write ? PROT.WRITE : PROT.READ)) === 0) {
    const access = write ? 'write' : 'read';
    throw new Errno('EPERM', `the area at 0x${hex(area.start)} does not allow to ${access}`);
  }
}

/** A range may begin and end inside pages, but goes from area to area only between pages. */
function checkWholePages({ area, iova, last }: Slice, rangeLast: bigint): void {
  const starts = byteOf(area, iova) % PAGE === 0n;
  const ends = last === rangeLast || byteOf(area, area.last) % PAGE === PAGE - 1n;
  if (starts && ends) return;
  throw new Errno('EINVAL', `0x${hex(iova)} to 0x${hex(last)} does not consist of whole pages`);
}

function hold(failpoints: FailPoints, { area, iova, last }: Slice, write: boolean): void {
  const { pages } = area;
  if (write && !pages.writable) throw notWritable(area);
  checkCpuMemory(area);
  failpoints.point('iommufd:iopt_pages_access');
  const first = pageOf(area, iova);
  const count = pageOf(area, last) - first + 1;
  pages.hold(first, count, count);
  try {
    failpoints.point('iommufd:pages_xarray', 'EINVAL');
  } catch (error) {
    pages.release(first, count);
    throw error;
  }
  area.accessPins++;
}

function release({ area, iova, last }: Slice): void {
  const first = pageOf(area, iova);
  area.pages.release(first, pageOf(area, last) - first + 1);
  area.accessPins--;
}

function checkCpuMemory(area: Area): void {
  if (area.pages.source.exported === undefined) return;
  throw new Errno('EINVAL', `the area at 0x${hex(area.start)} maps a dma-buf: no CPU memory`);
}

function notWritable(area: Area): Errno {
  return new Errno('EPERM', `the pages at 0x${hex(area.start)} were mapped without WRITEABLE`);
}

/** iopt_pages_rw_access. */
function copySlice(kernel: Kernel, slice: Slice, request: CopyRequest): void {
  const { area, iova } = slice;
  const { pages } = area;
  const byte = byteOf(area, iova);
  const { mm } = pages.source;
  const first = pageOf(area, iova);
  const count = pageOf(area, slice.last) - first + 1;
  if (mm === null) {
    // A file: it must have the pages, for as long as the copy takes.
    kernel.failpoints.point('iommufd:rw_slow');
    const pfns = pages.source.pin(first, count, request.write);
    copyAt(pages, byte, request);
    pages.source.unpin(pfns);
    return;
  }
  const onePage = count === 1;
  if (mm.alive && mm === request.mm && !request.slow) {
    copyAt(pages, byte, request);
    return;
  }
  if (onePage && mm.alive) {
    kernel.failpoints.point('iommufd:rw_page', 'EINVAL');
    copyAt(pages, byte, request);
    return;
  }
  kernel.failpoints.point('iommufd:rw_slow');
  for (let done = 0; done < request.data.length; ) {
    const at = byte + BigInt(done);
    const count = Math.min(PAGE_SIZE - Number(at % PAGE), request.data.length - done);
    copyPage(kernel, pages, at, { ...request, data: request.data.subarray(done, done + count) });
    done += count;
  }
}

/** Bytes of one page: of the frame it is pinned to, else of the process as it is now. */
function copyPage(kernel: Kernel, pages: IoptPages, byte: bigint, request: CopyRequest): void {
  const pfn = pages.pfn(Number(byte / PAGE));
  if (pfn < 0) {
    copyAt(pages, byte, request);
    return;
  }
  const { ram } = kernel.machine;
  const address = pfn * PAGE_SIZE + Number(byte % PAGE);
  if (request.write) ram.write(address, request.data);
  else ram.read(address, request.data);
}

function copyAt(pages: IoptPages, byte: bigint, { write, data }: CopyRequest): void {
  if (write) pages.writeBytes(byte, data);
  else data.set(pages.readBytes(byte, data.length));
}
