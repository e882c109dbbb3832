/** Finding the platform: RSDP, XSDT, DMAR and MCFG in guest memory (drivers/acpi/tables.c). */
import {
  type EcamWindow,
  parseMcfg,
  parseRsdp,
  parseSdtHeader,
  parseXsdt,
  RSDP_BYTES,
  SDT_HEADER_BYTES,
} from '../devices/spec/acpi.ts';
import { type Dmar, parseDmar } from '../devices/spec/dmar.ts';
import type { Cpu } from './cpu.ts';
import { GuestError } from './errno.ts';
import type { MemoryRange } from './mm/page-alloc.ts';

export interface Platform {
  /** null when firmware describes no remapping unit. */
  readonly dmar: Dmar | null;
  readonly ecam: readonly EcamWindow[];
  /** Memory the tables lie in; the page allocator leaves it alone. */
  readonly reserved: readonly MemoryRange[];
}

/** Tables of an XSDT that are looked at. */
const MAX_TABLES = 64;

/** Reads the tables the RSDP leads to. Throws GuestError ENODEV when they are malformed. */
export function readPlatform(cpu: Cpu, rsdp: number): Platform {
  try {
    return parsePlatform(cpu, rsdp);
  } catch (error) {
    if (error instanceof RangeError) throw new GuestError('ENODEV', `ACPI: ${error.message}`);
    throw error;
  }
}

function parsePlatform(cpu: Cpu, rsdp: number): Platform {
  const reserved: MemoryRange[] = [{ start: rsdp, bytes: RSDP_BYTES }];
  const { xsdt } = parseRsdp(readMemory(cpu, rsdp, RSDP_BYTES));
  const root = readTable(cpu, xsdt);
  reserved.push({ start: xsdt, bytes: root.length });
  const tables = new Map<string, Uint8Array>();
  for (const address of parseXsdt(root).slice(0, MAX_TABLES)) {
    const table = readTable(cpu, address);
    reserved.push({ start: address, bytes: table.length });
    tables.set(parseSdtHeader(table).signature, table);
  }
  const dmar = tables.get('DMAR');
  const mcfg = tables.get('MCFG');
  return {
    dmar: dmar === undefined ? null : parseDmar(dmar),
    ecam: mcfg === undefined ? [] : parseMcfg(mcfg),
    reserved,
  };
}

function readTable(cpu: Cpu, address: number): Uint8Array {
  const { length } = parseSdtHeader(readMemory(cpu, address, SDT_HEADER_BYTES));
  return readMemory(cpu, address, length);
}

function readMemory(cpu: Cpu, address: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  cpu.readBytes(address, bytes);
  return bytes;
}
