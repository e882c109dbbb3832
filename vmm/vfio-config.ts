import {
  AtsCap,
  CONFIG_SPACE_BYTES,
  CONVENTIONAL_CONFIG_BYTES,
  extCapHeader,
  findCapability,
  listExtCapabilities,
  MsixCap,
  PasidCap,
  PciCap,
  PciExtCap,
  PcieCap,
  PciHeader,
  PriCap,
} from '../devices/spec/pci.ts';
import { EmulatedConfig } from './pci-config.ts';

/** What the synthesised PASID capability offers. */
export interface PasidOffer {
  /** Max PASID width; 0: no capability. */
  readonly bits: number;
  readonly exec: boolean;
  readonly priv: boolean;
}

/** Where the interesting capabilities are; 0 for one that is missing. */
export interface CapabilityOffsets {
  readonly msix: number;
  readonly pcie: number;
  readonly ats: number;
  readonly pri: number;
  readonly pasid: number;
}

const BAR_REGISTERS = 6;
const NEXT_MASK = 0xfff0_0000;
const PRI_ENABLE_AND_RESET = PriCap.CONTROL_ENABLE | PriCap.CONTROL_RESET;
/** A capability of unknown length is taken to end before this many bytes (AER has 0x48). */
const LONGEST_CAPABILITY = 0x48;

/**
 * Config space of an assigned function on top of what vfio-pci shows: emulated BARs, MSI-X control,
 * ATS and PRI control (the host owns the real ones) and a PASID capability, which VFIO hides, in free
 * extended config space (QEMU's x-vpasid).
 *
 * @param initial all 4096 bytes as the device has them
 */
export function overlayConfig(
  config: EmulatedConfig,
  initial: Uint8Array,
  offer: PasidOffer,
): CapabilityOffsets {
  const view = new DataView(initial.buffer, initial.byteOffset, initial.byteLength);
  const read8 = (offset: number): number => view.getUint8(offset);
  const read32 = (offset: number): number => view.getUint32(offset, true);
  const extended = listExtCapabilities(read32);
  const find = (id: number): number => extended.find((cap) => cap.id === id)?.offset ?? 0;

  config.define(PciHeader.BAR0, 4 * BAR_REGISTERS, 0);
  config.define(PciHeader.ROM_BAR, 4, 0);
  config.define(PciHeader.INT_PIN, 1, 0);
  const msix = findCapability(read8, PciCap.MSIX);
  if (msix !== 0) {
    const size = view.getUint16(msix + MsixCap.CONTROL, true) & MsixCap.CONTROL_SIZE_MASK;
    const writable = MsixCap.CONTROL_ENABLE | MsixCap.CONTROL_FUNCTION_MASK;
    config.define(msix + MsixCap.CONTROL, 2, size, { writable });
  }
  const ats = find(PciExtCap.ATS);
  if (ats !== 0) {
    const writable = AtsCap.CONTROL_STU_MASK | AtsCap.CONTROL_ENABLE;
    config.define(ats + AtsCap.CONTROL, 2, 0, { writable });
  }
  const pri = find(PciExtCap.PRI);
  if (pri !== 0) {
    const always = view.getUint16(pri + PriCap.STATUS, true) & PriCap.STATUS_PRG_RESPONSE_PASID;
    config.define(pri + PriCap.CONTROL, 2, 0, { writable: PriCap.CONTROL_ENABLE });
    config.define(pri + PriCap.STATUS, 2, always | PriCap.STATUS_STOPPED);
    config.define(pri + PriCap.ALLOCATION, 4, 0, { writable: 0xffff_ffff });
  }
  const pasid = offer.bits === 0 ? 0 : addPasid(config, offer, extended, read32);
  return { msix, pcie: findCapability(read8, PciCap.PCIE), ats, pri, pasid };
}

/** Follows a guest write of `value` (already in `config`) to the PRI control register. */
export function settlePri(config: EmulatedConfig, pri: number, value: number): void {
  if ((value & PRI_ENABLE_AND_RESET) === PriCap.CONTROL_RESET)
    config.set(pri + PriCap.CONTROL, 2, 0);
  const enabled = (config.get(pri + PriCap.CONTROL, 2) & PriCap.CONTROL_ENABLE) !== 0;
  const status = config.get(pri + PriCap.STATUS, 2) & ~PriCap.STATUS_STOPPED;
  config.set(pri + PriCap.STATUS, 2, enabled ? status : status | PriCap.STATUS_STOPPED);
}

/** Back to what a function level reset leaves: controls off, BARs 0. */
export function resetConfig(config: EmulatedConfig, at: CapabilityOffsets): void {
  for (let bar = 0; bar < BAR_REGISTERS; bar++) {
    config.write(PciHeader.BAR0 + 4 * bar, 4, 0);
  }
  if (at.msix !== 0) config.write(at.msix + MsixCap.CONTROL, 2, 0);
  if (at.ats !== 0) config.write(at.ats + AtsCap.CONTROL, 2, 0);
  if (at.pasid !== 0) config.write(at.pasid + PasidCap.CONTROL, 2, 0);
  if (at.pri === 0) return;
  config.write(at.pri + PriCap.CONTROL, 2, 0);
  config.write(at.pri + PriCap.ALLOCATION, 4, 0);
  settlePri(config, at.pri, 0);
}

/** Whether a write of `size` bytes at `offset` asks for a function level reset. */
export function asksForReset(pcie: number, offset: number, size: number, value: number): boolean {
  const at = pcie + PcieCap.DEVCTL - offset;
  if (pcie === 0 || at < 0 || at + 2 > size) return false;
  return ((value >>> (8 * at)) & PcieCap.DEVCTL_INITIATE_FLR) !== 0;
}

function addPasid(
  config: EmulatedConfig,
  offer: PasidOffer,
  extended: readonly { readonly offset: number }[],
  read32: (offset: number) => number,
): number {
  const at = freeSpace(extended.map((cap) => cap.offset));
  if (at === 0) return 0;
  const features =
    (offer.exec ? PasidCap.CAPABILITY_EXEC : 0) | (offer.priv ? PasidCap.CAPABILITY_PRIVILEGED : 0);
  config.define(at, 4, extCapHeader(PciExtCap.PASID, PasidCap.VERSION, 0));
  const capability = features | (offer.bits << PasidCap.CAPABILITY_WIDTH_SHIFT);
  config.define(at + PasidCap.CAPABILITY, 2, capability);
  // Exec and privileged have the same bits in both registers.
  config.define(at + PasidCap.CONTROL, 2, 0, { writable: features | PasidCap.CONTROL_ENABLE });
  const last = extended.at(-1);
  if (last !== undefined) {
    const header = (read32(last.offset) & ~NEXT_MASK) | (at << 20);
    config.define(last.offset, 4, header, { emulated: NEXT_MASK });
  }
  return at;
}

/** The highest 8 bytes that no capability can reach; the first ones where there is none; 0: full. */
function freeSpace(taken: readonly number[]): number {
  if (taken.length === 0) return CONVENTIONAL_CONFIG_BYTES;
  const isFree = (at: number): boolean =>
    taken.every((cap) => cap + LONGEST_CAPABILITY <= at || cap >= at + PasidCap.BYTES);
  for (let at = CONFIG_SPACE_BYTES - PasidCap.BYTES; at > CONVENTIONAL_CONFIG_BYTES; at -= 8) {
    if (isFree(at)) return at;
  }
  return 0;
}
