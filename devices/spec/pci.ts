/**
 * PCI and PCI Express configuration space: header, BARs, capabilities, requester ids and ECAM
 * addresses. Offsets are bytes; masks and bits are of the register at that offset.
 */

/** Size of a function's configuration space in bytes (PCI Express). */
export const CONFIG_SPACE_BYTES = 4096;
/** Size of the part that conventional PCI defines; extended capabilities start here. */
export const CONVENTIONAL_CONFIG_BYTES = 256;
/** What a read of a function that is not there returns. */
export const NO_DEVICE = 0xffff_ffff;

/** Offsets in the type 0 configuration header. */
export const PciHeader = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION: 0x08,
  /** 24 bits: programming interface, subclass, class. A 32-bit read at REVISION has it in 31:8. */
  CLASS: 0x09,
  CACHE_LINE_SIZE: 0x0c,
  LATENCY_TIMER: 0x0d,
  HEADER_TYPE: 0x0e,
  BIST: 0x0f,
  BAR0: 0x10,
  BAR1: 0x14,
  BAR2: 0x18,
  BAR3: 0x1c,
  BAR4: 0x20,
  BAR5: 0x24,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  ROM_BAR: 0x30,
  CAP_PTR: 0x34,
  INT_LINE: 0x3c,
  INT_PIN: 0x3d,
} as const;

/** Number of base address registers in a type 0 header. */
export const BAR_COUNT = 6;

/** Bits of the COMMAND register (16 bits). */
export const PciCommand = {
  IO: 1 << 0,
  MEMORY: 1 << 1,
  BUS_MASTER: 1 << 2,
  PARITY: 1 << 6,
  SERR: 1 << 8,
  INTX_DISABLE: 1 << 10,
} as const;

/** Bits of the STATUS register (16 bits). */
export const PciStatus = {
  INTERRUPT: 1 << 3,
  CAP_LIST: 1 << 4,
  RECEIVED_TARGET_ABORT: 1 << 12,
  RECEIVED_MASTER_ABORT: 1 << 13,
} as const;

/** Bits of the HEADER_TYPE register (8 bits). */
export const PciHeaderType = { TYPE_MASK: 0x7f, MULTI_FUNCTION: 0x80 } as const;

/** Low bits of a base address register. */
export const PciBar = {
  SPACE_IO: 1 << 0,
  TYPE_MASK: 3 << 1,
  TYPE_32: 0 << 1,
  TYPE_64: 2 << 1,
  PREFETCHABLE: 1 << 3,
  MEMORY_FLAGS_MASK: 0xf,
} as const;

/** Conventional capability ids. Header: +0 id (8 bits), +1 next (8 bits). */
export const PciCap = { PM: 0x01, MSI: 0x05, PCIE: 0x10, MSIX: 0x11 } as const;

/** Extended capability ids. Header: 15:0 id, 19:16 version, 31:20 next. */
export const PciExtCap = {
  AER: 0x0001,
  ACS: 0x000d,
  ATS: 0x000f,
  PRI: 0x0013,
  PASID: 0x001b,
} as const;

/** Power management capability, 8 bytes. */
export const PmCap = {
  BYTES: 8,
  CAPABILITIES: 2,
  CONTROL: 4,
  CONTROL_STATE_MASK: 3,
  CONTROL_NO_SOFT_RESET: 1 << 3,
} as const;

/** MSI capability; CONTROL decides which of the two data offsets holds. */
export const MsiCap = {
  CONTROL: 2,
  CONTROL_ENABLE: 1 << 0,
  CONTROL_64BIT: 1 << 7,
  CONTROL_PER_VECTOR_MASK: 1 << 8,
  ADDRESS_LOW: 4,
  ADDRESS_HIGH: 8,
  DATA_32: 8,
  DATA_64: 12,
} as const;

/** MSI-X capability, 12 bytes. TABLE and PBA: 2:0 BAR index, 31:3 offset (8-byte units as is). */
export const MsixCap = {
  BYTES: 12,
  CONTROL: 2,
  CONTROL_SIZE_MASK: 0x7ff,
  CONTROL_FUNCTION_MASK: 1 << 14,
  CONTROL_ENABLE: 1 << 15,
  TABLE: 4,
  PBA: 8,
  BIR_MASK: 7,
} as const;

/** One MSI-X table entry, 16 bytes. Entries come out of reset masked. */
export const MsixEntry = {
  BYTES: 16,
  ADDRESS_LOW: 0,
  ADDRESS_HIGH: 4,
  DATA: 8,
  VECTOR_CONTROL: 12,
  VECTOR_CONTROL_MASK: 1 << 0,
} as const;

/** PCI Express capability (version 2), 60 bytes. */
export const PcieCap = {
  BYTES: 60,
  FLAGS: 2,
  FLAGS_VERSION_MASK: 0xf,
  FLAGS_TYPE_SHIFT: 4,
  FLAGS_TYPE_MASK: 0xf0,
  DEVCAP: 4,
  DEVCAP_FLR: 1 << 28,
  DEVCTL: 8,
  DEVCTL_INITIATE_FLR: 1 << 15,
  DEVSTA: 10,
  DEVSTA_TRANSACTIONS_PENDING: 1 << 5,
  DEVCAP2: 0x24,
  /** Linux refuses to enable PASID unless this is set. */
  DEVCAP2_END_END_TLP_PREFIX: 1 << 21,
  DEVCTL2: 0x28,
} as const;

/** Device/port type in PcieCap.FLAGS. */
export const PcieType = { ENDPOINT: 0, ROOT_PORT: 4, RC_ENDPOINT: 9 } as const;

/** ATS extended capability, 8 bytes. */
export const AtsCap = {
  BYTES: 8,
  VERSION: 1,
  CAPABILITY: 4,
  /** Invalidate queue depth; 0 means 32. */
  CAPABILITY_QUEUE_DEPTH_MASK: 0x1f,
  CAPABILITY_PAGE_ALIGNED: 1 << 5,
  CAPABILITY_GLOBAL_INVALIDATE: 1 << 6,
  CONTROL: 6,
  /** Smallest translation unit: 2^(STU + 12) bytes. */
  CONTROL_STU_MASK: 0x1f,
  CONTROL_ENABLE: 1 << 15,
} as const;

/** Page request interface extended capability, 16 bytes. */
export const PriCap = {
  BYTES: 16,
  VERSION: 1,
  CONTROL: 4,
  CONTROL_ENABLE: 1 << 0,
  CONTROL_RESET: 1 << 1,
  STATUS: 6,
  /** Write 1 to clear. */
  STATUS_RESPONSE_FAILURE: 1 << 0,
  /** Unexpected page request group index; write 1 to clear. */
  STATUS_UNEXPECTED_PRGI: 1 << 1,
  STATUS_STOPPED: 1 << 8,
  /** Page group responses must carry the PASID. */
  STATUS_PRG_RESPONSE_PASID: 1 << 15,
  /** u32, read only: most outstanding requests the function can have. */
  MAX_REQUESTS: 8,
  /** u32: outstanding requests software allows. */
  ALLOCATION: 12,
} as const;

/** PASID extended capability, 8 bytes. */
export const PasidCap = {
  BYTES: 8,
  VERSION: 1,
  CAPABILITY: 4,
  CAPABILITY_EXEC: 1 << 1,
  CAPABILITY_PRIVILEGED: 1 << 2,
  CAPABILITY_WIDTH_SHIFT: 8,
  CAPABILITY_WIDTH_MASK: 0x1f00,
  CONTROL: 6,
  CONTROL_ENABLE: 1 << 0,
  CONTROL_EXEC: 1 << 1,
  CONTROL_PRIVILEGED: 1 << 2,
} as const;

/** Access control services extended capability, 8 bytes. CAPABILITY and CONTROL share the bits. */
export const AcsCap = {
  BYTES: 8,
  VERSION: 1,
  CAPABILITY: 4,
  CONTROL: 6,
  SOURCE_VALIDATION: 1 << 0,
  TRANSLATION_BLOCKING: 1 << 1,
  REQUEST_REDIRECT: 1 << 2,
  COMPLETION_REDIRECT: 1 << 3,
  UPSTREAM_FORWARDING: 1 << 4,
  EGRESS_CONTROL: 1 << 5,
  DIRECT_TRANSLATED: 1 << 6,
} as const;

/** A PASID has 20 bits. */
export const PASID_BITS = 20;
export const PASID_MAX = 0xf_ffff;

/** Requester id: 15:8 bus, 7:3 device, 2:0 function. Higher bits of the arguments are dropped. */
export function rid(bus: number, device: number, fn: number): number {
  return ((bus & 0xff) << 8) | ((device & 0x1f) << 3) | (fn & 7);
}

export function ridBus(id: number): number {
  return (id >>> 8) & 0xff;
}

export function ridDevice(id: number): number {
  return (id >>> 3) & 0x1f;
}

export function ridFunction(id: number): number {
  return id & 7;
}

/** Device and function in one byte, as context tables and PCI core index them. */
export function ridDevfn(id: number): number {
  return id & 0xff;
}

/** `00:01.0`. */
export function ridToString(id: number): string {
  return `${hex(ridBus(id), 2)}:${hex(ridDevice(id), 2)}.${ridFunction(id).toString(16)}`;
}

/** `0000:00:01.0`, the name sysfs uses. `domain` is the PCI segment, 0 to 0xffff. */
export function ridToSysfsName(id: number, domain = 0): string {
  return `${hex(domain & 0xffff, 4)}:${ridToString(id)}`;
}

/**
 * Reads `00:01.0` or `0000:00:01.0` back.
 *
 * @returns null if the text is neither, or names a device or function that cannot exist.
 */
export function parsePciAddress(text: string): { domain: number; rid: number } | null {
  const pattern = /^(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/i;
  const match = pattern.exec(text);
  if (match === null) return null;
  const [bus, device, fn] = [match[2]!, match[3]!, match[4]!].map((part) => parseInt(part, 16));
  return { domain: parseInt(match[1] ?? '0', 16), rid: rid(bus!, device!, fn!) };
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

/** The part of an ECAM window that belongs to one bus: 32 devices of 8 functions of 4096 bytes. */
export const ECAM_BUS_BYTES = 1 << 20;

/**
 * Offset of a configuration register from MCFG's base address, which is where bus 0 would be even
 * if the window starts at a later bus.
 */
export function ecamOffset(id: number, register: number): number {
  return ((id & 0xffff) << 12) + (register & 0xfff);
}

/** Physical address of a configuration register. `base` is MCFG's base address (below 2^53). */
export function ecamAddress(base: number, id: number, register: number): number {
  return base + ecamOffset(id, register);
}

/** What an offset inside an ECAM window names. The offset is below 2^28 (256 buses). */
export function ecamDecode(offset: number): { rid: number; register: number } {
  return { rid: (offset >>> 12) & 0xffff, register: offset & 0xfff };
}

/**
 * What a base address register of `size` bytes (a power of two, 16 or more) reads after all ones
 * were written, as [low, high] 32-bit words; `high` counts only for a 64-bit BAR.
 */
export function barSizeMask(size: number, flags: number): readonly [low: number, high: number] {
  const mask = -BigInt(size);
  const low = (Number(mask & 0xffff_fff0n) | flags) >>> 0;
  return [low, Number((mask >> 32n) & 0xffff_ffffn)];
}

/**
 * Size of a memory BAR from the words read back after writing all ones.
 *
 * @returns 0 if the BAR does not exist or cannot be sized as a power of two.
 */
export function barSizeFromMask(low: number, high: number): number {
  const is64 = (low & PciBar.TYPE_MASK) === PciBar.TYPE_64;
  const address = BigInt((low & ~PciBar.MEMORY_FLAGS_MASK) >>> 0);
  if (address === 0n && (!is64 || high >>> 0 === 0)) return 0;
  const mask = is64 ? (BigInt(high >>> 0) << 32n) | address : address | 0xffff_ffff_0000_0000n;
  const size = BigInt.asUintN(64, -mask);
  return (size & (size - 1n)) === 0n ? Number(size) : 0;
}

/** A capability found in configuration space. */
export interface Capability {
  readonly id: number;
  readonly offset: number;
}

export interface ExtCapability extends Capability {
  readonly version: number;
}

const FIRST_CAP_OFFSET = 0x40;
const MAX_CAPS = (CONVENTIONAL_CONFIG_BYTES - FIRST_CAP_OFFSET) / 4;
const MAX_EXT_CAPS = (CONFIG_SPACE_BYTES - CONVENTIONAL_CONFIG_BYTES) / 8;

/**
 * The conventional capabilities in chain order. Configuration space may be hostile: a chain that
 * loops or leaves 0x40..0xff ends; at most 48 entries are read.
 */
export function listCapabilities(read8: (offset: number) => number): Capability[] {
  const found: Capability[] = [];
  if ((read8(PciHeader.STATUS) & PciStatus.CAP_LIST) === 0) return found;
  let offset = read8(PciHeader.CAP_PTR) & 0xfc;
  while (offset >= FIRST_CAP_OFFSET && found.length < MAX_CAPS) {
    const id = read8(offset) & 0xff;
    if (id === 0xff || found.some((cap) => cap.offset === offset)) break;
    found.push({ id, offset });
    offset = read8(offset + 1) & 0xfc;
  }
  return found;
}

/** Offset of the first conventional capability with that id, or 0 if there is none. */
export function findCapability(read8: (offset: number) => number, id: number): number {
  return listCapabilities(read8).find((cap) => cap.id === id)?.offset ?? 0;
}

/**
 * The extended capabilities in chain order, from 0x100. A chain that loops, goes below 0x100 or
 * reads as absent ends; at most 480 entries are read.
 */
export function listExtCapabilities(read32: (offset: number) => number): ExtCapability[] {
  const found: ExtCapability[] = [];
  const seen = new Set<number>();
  let offset = CONVENTIONAL_CONFIG_BYTES;
  while (offset >= CONVENTIONAL_CONFIG_BYTES && found.length < MAX_EXT_CAPS) {
    const header = read32(offset) >>> 0;
    if (header === 0 || header === NO_DEVICE || seen.has(offset)) break;
    seen.add(offset);
    found.push({ id: header & 0xffff, version: (header >>> 16) & 0xf, offset });
    offset = (header >>> 20) & 0xffc;
  }
  return found;
}

/** Offset of the first extended capability with that id, or 0 if there is none. */
export function findExtCapability(read32: (offset: number) => number, id: number): number {
  return listExtCapabilities(read32).find((cap) => cap.id === id)?.offset ?? 0;
}

/** Header word of an extended capability; `next` 0 ends the chain. */
export function extCapHeader(id: number, version: number, next: number): number {
  return (((next & 0xffc) << 20) | ((version & 0xf) << 16) | (id & 0xffff)) >>> 0;
}
