/** The driver comes up (drivers/iommu/intel/iommu.c: intel_iommu_init, init_dmars). */

import type { Dmar, Drhd } from '../../../devices/spec/dmar.ts';
import { parseDmar } from '../../../devices/spec/dmar.ts';
import {
  CC_GRANULARITY,
  ccDesc,
  IOTLB_GRANULARITY,
  iotlbDesc,
  PASID_CACHE_GRANULARITY,
  pasidCacheDesc,
} from '../../../devices/spec/vtd/invalidation.ts';
import { GCMD } from '../../../devices/spec/vtd/registers.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import { IommuCore } from '../iommu/core.ts';
import type { IommuDev } from '../iommu/ops.ts';
import type { Kernel } from '../kernel.ts';
import type { PciDev } from '../pci.ts';
import { ContextTables } from './context.ts';
import type { IntelDevice } from './device.ts';
import { FaultReporter } from './fault.ts';
import { IntelIommuOps } from './ops.ts';
import type { UnitParts } from './probe.ts';
import { atsAllowed, probeFunction, releaseFunction, scopeNames } from './probe.ts';
import { PageRequestQueue } from './prq.ts';
import { IntelUnit } from './unit.ts';

interface PlacedUnit extends UnitParts {
  readonly drhd: Drhd;
}

/**
 * Finds the units in the DMAR table, brings them up, probes every PCI function and turns DMA
 * remapping on. Sets `kernel.iommu`. Without a DMAR table there is a core and no device.
 *
 * RangeError for a broken table. Errno ENODEV: a unit without scalable mode. ENOMEM, ETIMEDOUT.
 */
export function* intelIommuInit(kernel: Kernel): Task<IommuCore> {
  const core = new IommuCore(kernel);
  kernel.iommu = core;
  const table = kernel.acpi.table('DMAR');
  if (table === null) return core;
  const dmar = parseDmar(table);
  const units: PlacedUnit[] = [];
  const deviceOf = (rid: number): IntelDevice | undefined => ops.devices.get(rid);
  const functions = new PciFunctions(kernel, dmar, units);
  const unitsFound = dmar.drhds.map((drhd) => ({
    drhd,
    unit: new IntelUnit(kernel, drhd.registerBase),
  }));
  const passThrough = unitsFound.every(({ unit }) => unit.ecap.PT === 1);
  const ops = new IntelIommuOps(core.iopf, functions, passThrough);
  for (const { drhd, unit } of unitsFound) {
    units.push({ drhd, ...(yield* bringUp(unit, core, deviceOf)) });
  }
  for (const pci of kernel.pciDevices) {
    if (functions.unitOf(pci.rid) !== undefined) yield* core.addDevice(pci, ops);
  }
  for (const { unit } of units) yield* unit.registers.command(GCMD.TE);
  kernel.addLeftover('pasidEntries', () => ops.livePasidEntries());
  return core;
}

/** Queue, root table, page requests, faults: in this order. Remapping itself comes last. */
function* bringUp(
  unit: IntelUnit,
  core: IommuCore,
  deviceOf: (rid: number) => IntelDevice | undefined,
): Task<UnitParts> {
  yield* unit.queue.enable();
  const context = new ContextTables(unit);
  yield* context.enable();
  if (unit.cap.ESRTPS === 0) {
    yield* unit.queue.submit([
      ccDesc({ granularity: CC_GRANULARITY.GLOBAL }),
      pasidCacheDesc({ granularity: PASID_CACHE_GRANULARITY.GLOBAL, did: 0, pasid: 0 }),
      iotlbDesc({ granularity: IOTLB_GRANULARITY.GLOBAL, drainReads: true, drainWrites: true }),
    ]);
  }
  const takesPageRequests = unit.pasidSupported && unit.ecap.PRS === 1 && unit.ecap.PDS === 1;
  const pageRequests = takesPageRequests ? new PageRequestQueue(unit, core.iopf, deviceOf) : null;
  pageRequests?.enable();
  new FaultReporter(unit).enable();
  return { unit, context, pageRequests };
}

/** PCI functions and the units that translate for them. */
class PciFunctions {
  readonly #kernel: Kernel;
  readonly #dmar: Dmar;
  readonly #units: readonly PlacedUnit[];

  constructor(kernel: Kernel, dmar: Dmar, units: readonly PlacedUnit[]) {
    this.#kernel = kernel;
    this.#dmar = dmar;
    this.#units = units;
  }

  /** The unit that names the function, else the one that takes all others. */
  unitOf(rid: number): PlacedUnit | undefined {
    const names = ({ drhd }: PlacedUnit): boolean =>
      drhd.scopes.some((scope) => scopeNames(scope, rid));
    return this.#units.find(names) ?? this.#units.find(({ drhd }) => drhd.includeAll);
  }

  *probe(dev: IommuDev): Task<IntelDevice> {
    const parts = this.unitOf(dev.rid);
    if (parts === undefined) throw new Errno('ENODEV', `no unit translates for ${dev.name}`);
    return yield* probeFunction(parts, dev, this.#pci(dev), atsAllowed(this.#dmar, dev.rid));
  }

  *release(device: IntelDevice): Task {
    yield* releaseFunction(this.partsOf(device), device, this.#pci(device.dev));
  }

  partsOf(device: IntelDevice): UnitParts {
    return this.#units.find(({ unit }) => unit === device.unit)!;
  }

  #pci(dev: IommuDev): PciDev {
    const pci = this.#kernel.pciDevices.find(({ rid }) => rid === dev.rid);
    if (pci === undefined) throw new Errno('ENODEV', `${dev.name} is no PCI function`);
    return pci;
  }
}
