/** What goes into a PASID-table entry (drivers/iommu/intel/pasid.c: the intel_pasid_setup_*). */
import { FSPM, PGTT, pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import type { iommu_hwpt_vtd_s1 } from '../../uapi/iommufd.ts';
import { IOMMU_VTD_S1_EAFE, IOMMU_VTD_S1_SRE, IOMMU_VTD_S1_WPE } from '../../uapi/iommufd.ts';
import type { StructValues } from '../../uapi/struct.ts';
import { Errno } from '../errno.ts';
import { PASS_THROUGH_DID } from './domain-id.ts';
import type { IntelUnit } from './unit.ts';

/** The 512 bits of an entry as eight 64-bit words. */
export type EntryWords = BigUint64Array<ArrayBuffer>;

/** A second-stage table. */
export interface SecondStage {
  /** Physical address of its top-level page. */
  readonly root: number;
  readonly addressWidth: number;
  /** Its dirty bits are kept. */
  readonly dirty: boolean;
  /** No access gets around the caches. */
  readonly forceSnooping: boolean;
}

export type GuestFirstStage = StructValues<typeof iommu_hwpt_vtd_s1>;

/** Input goes out as it came: no table. */
export function passThroughEntry(unit: IntelUnit): EntryWords {
  return pasidEntry.encode({
    P: 1,
    PGTT: PGTT.PASS_THROUGH,
    DID: PASS_THROUGH_DID,
    AW: unit.addressWidth,
    PWSNP: unit.ecap.SMPWCS,
  });
}

export function secondStageEntry(unit: IntelUnit, table: SecondStage, did: number): EntryWords {
  return pasidEntry.encode({
    P: 1,
    PGTT: PGTT.SECOND_STAGE,
    DID: did,
    AW: table.addressWidth,
    SSPTPTR: table.root,
    SSADE: table.dirty,
    PWSNP: unit.ecap.SMPWCS,
  });
}

/**
 * The guest's first stage on the host's second stage. Of what the guest says only these fields are
 * taken; the rest is the host's. Errno EINVAL: a width other than 48 or 57 bits, or a width or flag
 * that the unit has not (vtd.h: IOMMU_VTD_S1_*).
 */
export function nestedEntry(
  unit: IntelUnit,
  guest: GuestFirstStage,
  parent: SecondStage,
  did: number,
): EntryWords {
  const flags = Number(BigInt.asUintN(32, guest.flags));
  const sre = (flags & IOMMU_VTD_S1_SRE) !== 0;
  const eafe = (flags & IOMMU_VTD_S1_EAFE) !== 0;
  const wpe = sre && (flags & IOMMU_VTD_S1_WPE) !== 0;
  const fiveLevels = guest.addr_width === 57;
  if (guest.addr_width !== 48 && !fiveLevels) {
    throw new Errno('EINVAL', `a first stage of ${guest.addr_width} bits: it must be 48 or 57`);
  }
  if (fiveLevels && unit.cap.FS5LP === 0) {
    throw new Errno('EINVAL', 'a first stage of 57 bits needs CAP.FS5LP');
  }
  if (sre && unit.ecap.SRS === 0) throw new Errno('EINVAL', 'flag SRE needs ECAP.SRS');
  if (eafe && unit.ecap.EAFS === 0) throw new Errno('EINVAL', 'flag EAFE needs ECAP.EAFS');
  const root = guest.pgtbl_addr;
  if (root % 4096n !== 0n || root >> 52n !== 0n) {
    throw new Errno('EINVAL', `first-stage table at 0x${root.toString(16)}`);
  }
  return pasidEntry.encode({
    P: 1,
    PGTT: PGTT.NESTED,
    DID: did,
    AW: parent.addressWidth,
    SSPTPTR: parent.root,
    SSADE: parent.dirty,
    FSPM: fiveLevels ? FSPM.LEVELS_5 : FSPM.LEVELS_4,
    FSPTPTR: root,
    SRE: sre,
    WPE: wpe,
    EAFE: eafe,
    PWSNP: unit.ecap.SMPWCS,
    PGSNP: parent.forceSnooping,
  });
}
