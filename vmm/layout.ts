/** Where things are in the guest's physical address space, as bytes. */
export const LAYOUT = {
  /** Below: the boot page and the ACPI tables. From here on the guest may use RAM as it likes. */
  USABLE_RAM: 0x10_0000,
  ACPI: 0xe_0000,
  ACPI_BYTES: 0x2_0000,
  /** RAM below 4 GiB ends here at the latest; the rest of it continues at 4 GiB. */
  LOW_RAM_LIMIT: 0x8000_0000,
  HIGH_RAM: 0x1_0000_0000,
  /** Configuration space of bus 0. */
  ECAM: 0xb000_0000,
  /** BARs as the firmware places them. */
  BAR_WINDOW: 0xc000_0000,
  BAR_WINDOW_END: 0xfe00_0000,
  /** Registers of the virtual VT-d unit. */
  VTD: 0xfed9_0000,
} as const;

/** Physical address bits of the guest. */
export const GUEST_ADDRESS_BITS = 46;

/** Smallest machine that boots: what the firmware takes and as much again. */
export const MIN_RAM_BYTES = 2 * LAYOUT.USABLE_RAM;

/** Requester ids on the guest's bus 0. */
export const GUEST_RID = { HOST_BRIDGE: 0x00, DEVICE: 0x08, FILE_SHARE: 0x10 } as const;

export interface RamRange {
  readonly start: number;
  readonly bytes: number;
}

/** The guest's RAM: below 4 GiB, and what does not fit there from 4 GiB on. */
export function ramRanges(ramBytes: number): readonly RamRange[] {
  const low = Math.min(ramBytes, LAYOUT.LOW_RAM_LIMIT);
  const ranges = [{ start: 0, bytes: low }];
  if (ramBytes > low) ranges.push({ start: LAYOUT.HIGH_RAM, bytes: ramBytes - low });
  return ranges;
}
