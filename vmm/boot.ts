import { BOOT_PARAMS_GPA, encodeBootParams } from '../devices/spec/boot.ts';
import type { AcpiOptions, PlacedTable } from './acpi.ts';
import { buildAcpi } from './acpi.ts';
import type { GuestMemory } from './guest-memory.ts';
import { LAYOUT, ramRanges } from './layout.ts';

export interface BootOptions extends AcpiOptions {
  readonly ramBytes: number;
  readonly commandLine: string;
}

/**
 * Writes what the guest finds in memory when it starts: the ACPI tables and the boot page.
 *
 * @throws RangeError when the command line is too long or not ASCII
 */
export function writeFirmware(memory: GuestMemory, options: BootOptions): void {
  const tables: readonly PlacedTable[] = buildAcpi(options);
  for (const table of tables) memory.write(table.address, table.bytes);
  const ranges = ramRanges(options.ramBytes).map(({ start, bytes }) => {
    const from = Math.max(start, LAYOUT.USABLE_RAM);
    return { start: from, bytes: start + bytes - from };
  });
  const page = encodeBootParams({ rsdp: LAYOUT.ACPI, ranges, commandLine: options.commandLine });
  memory.write(BOOT_PARAMS_GPA, page);
}
