/** BARs of a VFIO PCI device: what is told of them, loads, stores and mappings (vfio_pci_rdwr.c). */

import { CONFIG_SPACE_BYTES } from '../../../devices/spec/pci.ts';
import type { Task } from '../../syscall.ts';
import { MAP_SHARED, MAP_SHARED_VALIDATE, MAP_TYPE } from '../../uapi/poll.ts';
import {
  VFIO_PCI_BAR5_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_OFFSET_SHIFT,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  vfio_info_cap_header,
} from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { MmapRequest, MmapResult } from '../file.ts';
import type { PciBus, PciDev } from '../pci.ts';

const PAGE_SIZE = 4096;
const REGION_BYTES = 2 ** VFIO_PCI_OFFSET_SHIFT;
/** One load or store of the CPU that reaches the device. */
const MMIO_NS = 100;

export interface Region {
  readonly flags: number;
  /** Bytes; 0 for a region that is not there. */
  readonly size: number;
  /** Capability chain without the structure it follows; empty for none. */
  readonly caps: Uint8Array;
}

const NO_CAPS = new Uint8Array(0);
const READ_WRITE = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;

/** File offset at which region `index` begins. */
export function regionOffset(index: number): bigint {
  return BigInt(index) << BigInt(VFIO_PCI_OFFSET_SHIFT);
}

/** Region and byte that a file offset names. */
export function decodePosition(position: number): { index: number; offset: number } {
  return { index: Math.floor(position / REGION_BYTES), offset: position % REGION_BYTES };
}

/** What GET_REGION_INFO says of region `index`. @throws Errno EINVAL */
export function regionOf(pdev: PciDev, index: number): Region {
  if (index === VFIO_PCI_CONFIG_REGION_INDEX) {
    return { flags: READ_WRITE, size: CONFIG_SPACE_BYTES, caps: NO_CAPS };
  }
  if (index === VFIO_PCI_ROM_REGION_INDEX) return { flags: 0, size: 0, caps: NO_CAPS };
  const bar = pdev.bars[index];
  if (bar === undefined) throw new Errno('EINVAL', `there is no region ${index}`);
  if (bar.size === 0) return { flags: 0, size: 0, caps: NO_CAPS };
  const mappable = isMappable(bar) ? VFIO_REGION_INFO_FLAG_MMAP : 0;
  const cap = vfio_info_cap_header.encode({ id: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version: 1 });
  const caps = mappable !== 0 && pdev.msix?.bar === index ? cap : NO_CAPS;
  return { flags: READ_WRITE | mappable, size: bar.size, caps };
}

/** Loads `count` bytes of a BAR, fewer at its end. @throws Errno EINVAL, EIO */
export function* readBar(
  pdev: PciDev,
  bus: PciBus,
  bar: number,
  offset: number,
  count: number,
): Task<Uint8Array> {
  const { address, length } = window(pdev, bar, offset, count);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  for (const { at, size, table } of accesses(pdev, bar, offset, length)) {
    if (table) {
      bytes.fill(0xff, at, at + size);
      continue;
    }
    const value = bus.read(address + at, size);
    if (size === 8) view.setBigUint64(at, value, true);
    else if (size === 4) view.setUint32(at, Number(value), true);
    else if (size === 2) view.setUint16(at, Number(value), true);
    else view.setUint8(at, Number(value));
    yield MMIO_NS;
  }
  return bytes;
}

/** Stores bytes into a BAR, fewer at its end; their number. @throws Errno EINVAL, EIO */
export function* writeBar(
  pdev: PciDev,
  bus: PciBus,
  bar: number,
  offset: number,
  bytes: Uint8Array,
): Task<number> {
  const { address, length } = window(pdev, bar, offset, bytes.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const { at, size, table } of accesses(pdev, bar, offset, length)) {
    if (table) continue;
    let value: bigint;
    if (size === 8) value = view.getBigUint64(at, true);
    else if (size === 4) value = BigInt(view.getUint32(at, true));
    else if (size === 2) value = BigInt(view.getUint16(at, true));
    else value = BigInt(view.getUint8(at));
    bus.write(address + at, size, value);
    yield MMIO_NS;
  }
  return length;
}

/**
 * mmap of a BAR, uncached; a touch while memory decoding is off is a SIGBUS.
 *
 * @throws Errno EINVAL: not shared, not a mappable BAR, beyond its end
 */
export function mapBar(pdev: PciDev, request: MmapRequest): MmapResult {
  const { length, flags } = request;
  const { index, offset } = decodePosition(request.offset);
  const type = flags & MAP_TYPE;
  if (type !== MAP_SHARED && type !== MAP_SHARED_VALIDATE) {
    throw new Errno('EINVAL', `mmap flags 0x${flags.toString(16)}: MAP_SHARED is required`);
  }
  const bar = index > VFIO_PCI_BAR5_REGION_INDEX ? undefined : pdev.bars[index];
  if (bar === undefined || bar.size === 0 || !isMappable(bar)) {
    throw new Errno('EINVAL', `region ${index} cannot be mapped`);
  }
  const size = Math.ceil(bar.size / PAGE_SIZE) * PAGE_SIZE;
  if (offset + length > size) {
    const what = `0x${offset.toString(16)} + 0x${length.toString(16)}`;
    throw new Errno('EINVAL', `${what} is beyond the 0x${size.toString(16)} bytes of BAR ${index}`);
  }
  return { physicalAddress: bar.address + offset, accessible: () => pdev.memoryEnabled };
}

function isMappable(bar: { readonly address: number; readonly size: number }): boolean {
  return bar.size >= PAGE_SIZE || bar.address % PAGE_SIZE === 0;
}

function window(
  pdev: PciDev,
  bar: number,
  offset: number,
  count: number,
): { address: number; length: number } {
  const resource = pdev.bars[bar];
  if (resource === undefined || offset >= resource.size) {
    throw new Errno('EINVAL', `offset 0x${offset.toString(16)} is beyond region ${bar}`);
  }
  if (!pdev.memoryEnabled) throw new Errno('EIO', `${pdev.name} does not decode memory`);
  const length = Math.min(count, resource.size - offset);
  return { address: resource.address + offset, length };
}

interface Access {
  /** Byte from the start of the transfer. */
  readonly at: number;
  readonly size: number;
  /** In the MSI-X table, which is the kernel's: reads all ones, writes nothing. */
  readonly table: boolean;
}

/** Splits a transfer into naturally aligned accesses of 8, 4, 2 and 1 bytes, and the table's part. */
function* accesses(pdev: PciDev, bar: number, from: number, length: number): Generator<Access> {
  const msix = pdev.msix?.bar === bar ? pdev.msix : null;
  const tableStart = msix?.offset ?? Infinity;
  const tableEnd = msix === null ? Infinity : msix.offset + msix.bytes;
  for (let at = 0; at < length; ) {
    const offset = from + at;
    const left = length - at;
    if (offset >= tableStart && offset < tableEnd) {
      const size = Math.min(left, tableEnd - offset);
      yield { at, size, table: true };
      at += size;
      continue;
    }
    const room = offset < tableStart ? Math.min(left, tableStart - offset) : left;
    const size = [8, 4, 2].find((bytes) => room >= bytes && offset % bytes === 0) ?? 1;
    yield { at, size, table: false };
    at += size;
  }
}
