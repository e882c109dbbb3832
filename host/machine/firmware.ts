import type { PciFunction } from '../../devices/pci/fabric.ts';
import { buildMcfg, buildRsdp, buildXsdt } from '../../devices/spec/acpi.ts';
import { buildDmar, type DeviceScope, ScopeType } from '../../devices/spec/dmar.ts';
import {
  BAR_COUNT,
  findExtCapability,
  PciBar,
  PciExtCap,
  PciHeader,
  ridBus,
  ridDevice,
  ridFunction,
} from '../../devices/spec/pci.ts';
import { BAR32_WINDOW, ECAM_BASE, FIRMWARE, UNIT_BASE } from './memory-map.ts';
import type { Ram } from './ram.ts';

/** A range of bytes, `end` exclusive. */
export interface MemoryRange {
  readonly start: number;
  readonly end: number;
}

/** What the firmware hands to the kernel. */
export interface BootInfo {
  /** Physical address of the ACPI root pointer. */
  readonly rsdp: number;
  /** RAM that the kernel may use, ascending. */
  readonly usable: readonly MemoryRange[];
}

const TABLE_ALIGNMENT = 64;

/**
 * What runs before the kernel: gives every BAR an address (and leaves decoding off, as the kernel
 * enables what it drives), and describes the machine in ACPI tables below 1 MiB.
 *
 * @param haw host address width in bits
 */
export function runFirmware(parts: {
  ram: Ram;
  functions: readonly PciFunction[];
  registerBytes: number;
  haw: number;
}): BootInfo {
  assignBars(parts.functions, parts.haw);
  writeTables(parts);
  const usable = parts.ram.ranges
    .map(({ start, end }) => ({ start: Math.max(start, FIRMWARE.END), end }))
    .filter(({ start, end }) => start < end);
  return { rsdp: FIRMWARE.RSDP, usable };
}

/** 64-bit BARs go to the top eighth of the address space, far above RAM; 32-bit ones below 4 GiB. */
function assignBars(functions: readonly PciFunction[], haw: number): void {
  let next64 = 2 ** haw - 2 ** (haw - 3);
  let next32: number = BAR32_WINDOW.START;
  for (const fn of functions) {
    for (let bar = 0; bar < BAR_COUNT; bar++) {
      const size = fn.barSize(bar);
      if (size === 0) continue;
      const register = PciHeader.BAR0 + 4 * bar;
      const flags = fn.configRead(register, 4);
      if ((flags & PciBar.SPACE_IO) !== 0) continue;
      const is64 = (flags & PciBar.TYPE_MASK) === PciBar.TYPE_64;
      const address = alignUp(is64 ? next64 : next32, size);
      const end = address + alignUp(size, 4096);
      if (end > (is64 ? 2 ** haw : BAR32_WINDOW.END)) {
        throw new RangeError(`no room for BAR ${bar} of function ${fn.rid}, ${size} bytes`);
      }
      fn.configWrite(register, 4, address % 2 ** 32);
      if (is64) fn.configWrite(register + 4, 4, Math.floor(address / 2 ** 32));
      if (is64) next64 = end;
      else next32 = end;
    }
  }
}

function writeTables(parts: {
  ram: Ram;
  functions: readonly PciFunction[];
  registerBytes: number;
  haw: number;
}): void {
  const { ram } = parts;
  const dmar = buildDmar({
    hostAddressWidth: parts.haw,
    drhds: [
      {
        segment: 0,
        registerBase: UNIT_BASE,
        registerBytes: parts.registerBytes,
        includeAll: true,
        scopes: [],
      },
    ],
    atsrs: [{ segment: 0, allPorts: true, scopes: [] }],
    satcs: [{ segment: 0, atcRequired: false, scopes: atsScopes(parts.functions) }],
  });
  const mcfg = buildMcfg([{ base: ECAM_BASE, segment: 0, startBus: 0, endBus: 0 }]);
  let at: number = FIRMWARE.TABLES;
  const place = (table: Uint8Array): number => {
    const address = at;
    if (address + table.length > FIRMWARE.RSDP) throw new RangeError('ACPI tables are too long');
    ram.write(address, table);
    at = alignUp(address + table.length, TABLE_ALIGNMENT);
    return address;
  };
  const xsdt = place(buildXsdt([place(mcfg), place(dmar)]));
  ram.write(FIRMWARE.RSDP, buildRsdp(xsdt));
}

/** The integrated endpoints that cache translations. */
function atsScopes(functions: readonly PciFunction[]): DeviceScope[] {
  return functions
    .filter((fn) => findExtCapability((at) => fn.configRead(at, 4), PciExtCap.ATS) !== 0)
    .map((fn) => ({
      type: ScopeType.ENDPOINT,
      enumerationId: 0,
      startBus: ridBus(fn.rid),
      path: [{ device: ridDevice(fn.rid), fn: ridFunction(fn.rid) }],
    }));
}

function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
