/** Bringing a remapping unit and its devices up (drivers/iommu/intel/iommu.c). */

import type { Dmar } from '../../devices/spec/dmar.ts';
import { PciExtCap } from '../../devices/spec/pci.ts';
import { AW } from '../../devices/spec/vtd/pasid.ts';
import {
  type Cap,
  type Ecap,
  GCMD,
  REG,
  RTADDR,
  SAGAW,
  TTM,
} from '../../devices/spec/vtd/registers.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { GuestError } from '../errno.ts';
import type { PciFunction } from '../pci.ts';
import type { Task } from '../task.ts';
import { contextAddress, enablePageRequests, writeContext } from './context.ts';
import { enableFaultReporting } from './dmar-fault.ts';
import { flushEverything, flushNewContext } from './flush.ts';
import { IoPageFaults } from './io-pgfault.ts';
import { IommuSva } from './iommu-sva.ts';
import { setupFirstStage, setupPassThrough } from './pasid.ts';
import { PasidTable } from './pasid-table.ts';
import { PageRequestQueue } from './prq.ts';
import { InvalidationQueue } from './qi.ts';
import { UnitRegisters } from './registers.ts';
import { FIRST_DOMAIN_DID, FLPT_DEFAULT_DID, type IommuDevice, type Unit } from './unit.ts';

/** Page requests a device is allowed to have outstanding, at most (PRQ_DEPTH). */
const PRQ_DEPTH = 2048;

export interface IommuOptions {
  /** Requests without a PASID pass through instead of being confined to an empty DMA domain. */
  readonly passThrough: boolean;
}

export class IntelIommu {
  readonly unit: Unit;
  readonly sva: IommuSva;
  readonly #options: IommuOptions;
  readonly #devices: Map<number, IommuDevice>;
  readonly #prq: PageRequestQueue | null;
  #nextDid = FIRST_DOMAIN_DID;

  constructor(
    parts: { unit: Unit; sva: IommuSva; prq: PageRequestQueue | null },
    devices: Map<number, IommuDevice>,
    options: IommuOptions,
  ) {
    this.unit = parts.unit;
    this.sva = parts.sva;
    this.#prq = parts.prq;
    this.#devices = devices;
    this.#options = options;
  }

  /**
   * Probes a device: PASID capability on, PASID directory and context entry, default DMA domain,
   * then ATS. All functions are integrated endpoints, for which ATS needs no ATSR or SATC entry.
   * GuestError ENOMEM, EINVAL, ETIMEDOUT.
   */
  *probeDevice(pci: PciFunction): Task<IommuDevice> {
    const { unit } = this;
    const { core, ecap } = unit;
    const pasidBits = unit.pasidSupported ? yield* pci.pasidBits() : 0;
    const queueDepth = ecap.DT === 1 ? yield* pci.atsQueueDepth() : null;
    const atsSupported = queueDepth !== null;
    const pri = pci.extCap(PciExtCap.PRI) !== 0;
    if (pasidBits > 0) yield* pci.enablePasid();
    const pasids = Math.min(2 ** pasidBits, 2 ** (ecap.PSS + 1));
    const pasidTable = new PasidTable(core, pasids);
    const context = contextAddress(core, unit.root, pci.rid);
    const device: IommuDevice = {
      unit,
      pci,
      rid: pci.rid,
      pasids,
      pasidTable,
      context,
      pasidEnabled: pasidBits > 0,
      atsSupported,
      priSupported: atsSupported && ecap.PRS === 1 && ecap.PDS === 1 && pri,
      queueDepth: queueDepth ?? 1,
      domainDid: FLPT_DEFAULT_DID,
      atsEnabled: false,
      priEnabled: false,
    };
    yield* this.#installContext(device);
    this.#devices.set(pci.rid, device);
    yield* this.#attachDefaultDomain(device);
    if (atsSupported) {
      yield* pci.enableAts();
      device.atsEnabled = true;
    }
    return device;
  }

  *#installContext(device: IommuDevice): Task {
    const { unit, rid, pasidTable: table } = device;
    const options = { table, ats: device.atsSupported, pasid: unit.pasidSupported };
    using _span = writeContext(unit.core, rid, device.context, options);
    yield* flushNewContext(unit, rid);
  }

  /** Requests without a PASID use PASID 0: an empty first-stage table, or pass-through. */
  *#attachDefaultDomain(device: IommuDevice): Task {
    const { core, ecap } = this.unit;
    if (this.#options.passThrough && ecap.PT === 1) {
      yield* setupPassThrough(device, 0);
      return;
    }
    device.domainDid = this.#nextDid++;
    const root = core.pages.alloc();
    yield* setupFirstStage(device, 0, { root, did: device.domainDid, levels: 4 });
  }

  /**
   * Lets a device send page requests (IOMMU_DEV_FEAT_IOPF): PRI reset, PRE in the context entry and
   * its flush, PRI enable. GuestError EOPNOTSUPP when device or unit cannot; EBUSY.
   */
  *enablePageRequests(device: IommuDevice): Task {
    if (!device.atsEnabled || !device.priSupported || this.#prq === null) {
      throw new GuestError('EOPNOTSUPP', `${device.pci.name}: no page requests`);
    }
    if (device.pasidEnabled && !(yield* device.pci.prgResponseNeedsPasid())) {
      throw new GuestError('EOPNOTSUPP', `${device.pci.name}: page responses without PASID`);
    }
    yield* device.pci.resetPri();
    yield* enablePageRequests(device);
    yield* device.pci.enablePri(PRQ_DEPTH);
    device.priEnabled = true;
  }

  /** At power-off: translation off. */
  *shutdown(): Task {
    yield* this.unit.registers.disable(GCMD.TE);
  }
}

/**
 * Brings the unit of the DMAR table up: queue, root table, page requests, fault events, and
 * translation on. Throws GuestError ENODEV when there is no unit or it cannot do scalable mode with
 * queued invalidation; ENOMEM, ETIMEDOUT.
 */
export function* startIommu(
  core: Core,
  dmar: Dmar | null,
  options: IommuOptions,
): Task<IntelIommu> {
  const drhd = dmar?.drhds[0];
  if (dmar === null || drhd === undefined) throw new GuestError('ENODEV', 'no DMAR unit');
  const ats = dmar.atsrs.some((a) => a.allPorts) || dmar.satcs.length > 0;
  const { trace, vm } = core;
  trace.emit(guest.dmarFound, { vm, base: drhd.registerBase, ats: ats ? 1 : 0 });
  const registers = new UnitRegisters(drhd.registerBase);
  const { rawCap, rawEcap, cap, ecap } = yield* registers.capabilities();
  if (ecap.QI === 0 || ecap.SMTS === 0 || ecap.FSTS === 0) {
    throw new GuestError('ENODEV', `ECAP 0x${rawEcap.toString(16)}: no QI, SMTS or FSTS`);
  }
  const unit = yield* startUnit(core, registers, cap, ecap);
  const devices = new Map<number, IommuDevice>();
  const faults = new IoPageFaults(core);
  let prq: PageRequestQueue | null = null;
  if (unit.pasidSupported && ecap.PRS === 1) {
    prq = new PageRequestQueue(core, registers, faults, devices);
    yield* prq.enable();
    faults.start();
  }
  yield* enableFaultReporting(core, registers, cap);
  yield* registers.enable(GCMD.TE);
  trace.emit(guest.iommuEnabled, { vm, root: unit.root, cap: rawCap, ecap: rawEcap });
  const sva = new IommuSva(core, faults, prq);
  return new IntelIommu({ unit, sva, prq }, devices, options);
}

function* startUnit(core: Core, registers: UnitRegisters, cap: Cap, ecap: Ecap): Task<Unit> {
  const qi = new InvalidationQueue(core, registers);
  yield* qi.enable();
  const root = core.pages.alloc();
  const pasidSupported = ecap.PASID === 1;
  const unit: Unit = {
    core,
    registers,
    cap,
    ecap,
    qi,
    root,
    cachingMode: cap.CM === 1,
    pasidSupported,
    svmCapable: pasidSupported && ecap.SMPWCS === 1 && sharesPaging(core, cap),
    addressWidth: widthCode(cap),
  };
  const [rtaddr] = RTADDR.encode({ RTA: root, TTM: TTM.SCALABLE });
  yield* registers.write64(REG.RTADDR, rtaddr!);
  yield* registers.oneShot(GCMD.SRTP);
  if (cap.ESRTPS === 0) yield* flushEverything(unit);
  return unit;
}

/** The unit must understand every table the CPU may use (intel_svm_check). */
function sharesPaging(core: Core, cap: Cap): boolean {
  if (core.cpu.features.gbpages && cap.FS1GP === 0) return false;
  return core.pagingLevels === 4 || cap.FS5LP === 1;
}

function widthCode(cap: Cap): number {
  if ((cap.SAGAW & SAGAW.BITS_48) !== 0) return AW.BITS_48;
  return (cap.SAGAW & SAGAW.BITS_57) !== 0 ? AW.BITS_57 : AW.BITS_39;
}
