import { CAP, ECAP, GUEST_CAP, GUEST_ECAP } from '../../devices/spec/vtd/registers.ts';
import type { HwInfo } from '../iommufd.ts';

export interface GuestCapabilities {
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Width of the PASIDs the guest may use; 0: none. */
  readonly pasidBits: number;
}

/**
 * Capabilities of the virtual unit: those of the model's guest unit, as far as the host's unit has
 * them beneath (what the guest programs ends in host tables), and five-level first-stage tables where
 * the host walks them.
 */
export function guestCapabilities(hw: HwInfo): GuestCapabilities {
  const hostCap = CAP.decode([hw.cap]);
  const host = ECAP.decode([hw.ecap]);
  const guestCap = CAP.decode([GUEST_CAP]);
  const guest = ECAP.decode([GUEST_ECAP]);
  const hasPasid = host.PASID === 1 && guest.PASID === 1 && hw.maxPasidLog2 > 0;
  const pasidBits = hasPasid ? Math.min(hw.maxPasidLog2, guest.PSS + 1, host.PSS + 1) : 0;
  const dt = guest.DT & host.DT;
  const cap = CAP.encode({
    ...guestCap,
    FS1GP: guestCap.FS1GP & hostCap.FS1GP,
    FS5LP: hostCap.FS5LP,
  });
  const ecap = ECAP.encode({
    ...guest,
    C: guest.C & host.C,
    DT: dt,
    PRS: guest.PRS & host.PRS & dt,
    PDS: guest.PDS & host.PDS & dt,
    NWFS: guest.NWFS & host.NWFS & dt,
    PASID: hasPasid,
    PSS: hasPasid ? pasidBits - 1 : 0,
    SMPWCS: guest.SMPWCS & host.SMPWCS,
  });
  return { cap: cap[0]!, ecap: ecap[0]!, pasidBits };
}
