import { AtsCap, PasidCap, PcieCap, PciHeader, PriCap } from '../../devices/spec/pci.ts';

/** Configuration accesses to one function. */
export interface ConfigSpace {
  read16(offset: number): number;
  read32(offset: number): number;
  write16(offset: number, value: number): void;
  write32(offset: number, value: number): void;
}

/** Offsets of the capabilities whose controls are kept; 0 for one it has not. */
export interface KeptCapabilities {
  readonly pasid: number;
  readonly ats: number;
  readonly pri: number;
  readonly pcie: number;
}

/** The configuration of a function as it is kept over a reset (pci_save_state). */
export interface PciState {
  /** The 16 dwords of the header. */
  readonly header: readonly number[];
  readonly pasidControl: number;
  readonly atsControl: number;
  readonly priControl: number;
  readonly priAllocation: number;
  readonly deviceControl: number;
  readonly deviceControl2: number;
  readonly msixEnabled: boolean;
}

const HEADER_DWORDS = 16;

export function savePciState(
  space: ConfigSpace,
  caps: KeptCapabilities,
  msixEnabled: boolean,
): PciState {
  const word = (cap: number, at: number): number => (cap === 0 ? 0 : space.read16(cap + at));
  return {
    header: Array.from({ length: HEADER_DWORDS }, (_, i) => space.read32(4 * i)),
    pasidControl: word(caps.pasid, PasidCap.CONTROL),
    atsControl: word(caps.ats, AtsCap.CONTROL),
    priControl: word(caps.pri, PriCap.CONTROL) & PriCap.CONTROL_ENABLE,
    priAllocation: caps.pri === 0 ? 0 : space.read32(caps.pri + PriCap.ALLOCATION),
    deviceControl: word(caps.pcie, PcieCap.DEVCTL) & ~PcieCap.DEVCTL_INITIATE_FLR,
    deviceControl2: word(caps.pcie, PcieCap.DEVCTL2),
    msixEnabled,
  };
}

/** PASID before ATS before PRI (PASID controls must not change while ATS is on); COMMAND last. */
export function restorePciState(space: ConfigSpace, caps: KeptCapabilities, state: PciState): void {
  const word = (cap: number, at: number, value: number): void => {
    if (cap !== 0) space.write16(cap + at, value);
  };
  word(caps.pcie, PcieCap.DEVCTL, state.deviceControl);
  word(caps.pcie, PcieCap.DEVCTL2, state.deviceControl2);
  word(caps.pasid, PasidCap.CONTROL, state.pasidControl);
  word(caps.ats, AtsCap.CONTROL, state.atsControl);
  if (caps.pri !== 0) space.write32(caps.pri + PriCap.ALLOCATION, state.priAllocation);
  word(caps.pri, PriCap.CONTROL, state.priControl);
  for (let i = HEADER_DWORDS - 1; i >= 0; i--) {
    if (i !== PciHeader.COMMAND / 4) space.write32(4 * i, state.header[i]!);
  }
  // The upper half of this dword is STATUS, whose bits clear when ones are written.
  space.write16(PciHeader.COMMAND, state.header[PciHeader.COMMAND / 4]! & 0xffff);
}
