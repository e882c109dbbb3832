/** Where things are in the host's physical address space. Bytes. */

/** PCI configuration space of bus 0, memory mapped. */
export const ECAM_BASE = 0xb000_0000;
export const ECAM_BYTES = 1 << 20;

/** I/O APIC, the remapping unit, the interrupt window, the boot ROM: never RAM. */
export const CHIPSET_HOLE = { START: 0xfec0_0000, END: 0x1_0000_0000 } as const;

/** The registers of the remapping unit. */
export const UNIT_BASE = 0xfed9_0000;

/** Where the firmware puts 32-bit memory BARs. */
export const BAR32_WINDOW = { START: 0xff00_0000, END: 0x1_0000_0000 } as const;

/** The firmware's tables; the first MiB belongs to the firmware. */
export const FIRMWARE = { TABLES: 0xe_0000, RSDP: 0xf_0000, END: 0x10_0000 } as const;

/** Ranges below 4 GiB that RAM leaves out, ascending. */
export const HOLES: readonly { readonly start: number; readonly end: number }[] = [
  { start: ECAM_BASE, end: ECAM_BASE + ECAM_BYTES },
  { start: CHIPSET_HOLE.START, end: CHIPSET_HOLE.END },
];
