/** Message-signalled interrupts: compatibility format and MSI-X table entries (SDM, PCI). */

import { bitStruct } from './bits.ts';

/** Byte addresses FEE0_0000h to FEEF_FFFFh are the interrupt window. */
export const INTERRUPT_WINDOW = { BASE: 0xfee0_0000, LIMIT: 0xfeef_ffff } as const;

/** Page numbers of the interrupt window, first and last. */
export const INTERRUPT_WINDOW_PAGES = { FIRST: 0xfee00, LAST: 0xfeeff } as const;

/** Delivery mode of an interrupt message. */
export const DELIVERY_MODE = { FIXED: 0, LOWEST: 1, SMI: 2, NMI: 4, INIT: 5, EXTINT: 7 } as const;

/** Address of a compatibility-format message. Bit 4 (FORMAT) set means remappable format. */
export const msiAddress = bitStruct(1, {
  WINDOW: [0, 31, 20],
  DESTINATION: [0, 19, 12],
  FORMAT: [0, 4, 4],
  REDIRECTION_HINT: [0, 3, 3],
  DESTINATION_MODE: [0, 2, 2],
});

/** Data of a compatibility-format message. */
export const msiData = bitStruct(1, {
  VECTOR: [0, 7, 0],
  DELIVERY_MODE: [0, 10, 8],
  LEVEL: [0, 14, 14],
  TRIGGER: [0, 15, 15],
});

/** A compatibility-format interrupt message. */
export interface Msi {
  /** 8-bit APIC id or logical destination. */
  readonly destination: number;
  readonly vector: number;
  /** One of DELIVERY_MODE. */
  readonly deliveryMode: number;
  readonly redirectionHint: boolean;
  /** Destination mode: logical rather than physical. */
  readonly logical: boolean;
  /** Level asserted; meaningful with level triggering. */
  readonly level: boolean;
  /** Trigger mode: level rather than edge. */
  readonly levelTriggered: boolean;
}

/** Address and data of a DWORD write that raises an interrupt. */
export interface MsiMessage {
  readonly address: number;
  readonly data: number;
}

/** Encodes a message; fields left out are 0 (fixed, physical, edge). RangeError if out of range. */
export function encodeMsi(msi: Pick<Msi, 'destination' | 'vector'> & Partial<Msi>): MsiMessage {
  const address = msiAddress.encode({
    WINDOW: 0xfee,
    DESTINATION: msi.destination,
    REDIRECTION_HINT: msi.redirectionHint,
    DESTINATION_MODE: msi.logical,
  });
  const data = msiData.encode({
    VECTOR: msi.vector,
    DELIVERY_MODE: msi.deliveryMode,
    LEVEL: msi.level,
    TRIGGER: msi.levelTriggered,
  });
  return { address: Number(address[0]!), data: Number(data[0]!) };
}

/** Whether a byte address lies in the interrupt window. */
export function isInterruptAddress(address: number): boolean {
  return address >= INTERRUPT_WINDOW.BASE && address <= INTERRUPT_WINDOW.LIMIT;
}

/** Whether a message address asks for remapping (bit 4). */
export function isRemappable(address: number): boolean {
  return isInterruptAddress(address) && (address & 0x10) !== 0;
}

/**
 * Decodes a write of `data` (32 bits) to `address`; undefined when it is outside the window or in
 * remappable format.
 */
export function decodeMsi(address: number, data: number): Msi | undefined {
  if (!isInterruptAddress(address) || isRemappable(address)) return undefined;
  const a = msiAddress.decode([BigInt(address)]);
  const d = msiData.decode([BigInt(data >>> 0)]);
  return {
    destination: a.DESTINATION,
    vector: d.VECTOR,
    deliveryMode: d.DELIVERY_MODE,
    redirectionHint: a.REDIRECTION_HINT === 1,
    logical: a.DESTINATION_MODE === 1,
    level: d.LEVEL === 1,
    levelTriggered: d.TRIGGER === 1,
  };
}

/** MSI-X table entry: size and byte offsets of its 32-bit words; CONTROL bit 0 masks the vector. */
export const MSIX_ENTRY = {
  BYTES: 16,
  ADDRESS_LO: 0,
  ADDRESS_HI: 4,
  DATA: 8,
  CONTROL: 12,
  CONTROL_MASK: 0x1,
} as const;
