/** A function comes under a unit, and leaves it (drivers/iommu/intel/iommu.c: intel_iommu_probe_device). */

import type { DeviceScope, Dmar } from '../../../devices/spec/dmar.ts';
import { ridBus, ridDevice, ridFunction } from '../../../devices/spec/pci.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { IommuDev } from '../iommu/ops.ts';
import type { PciDev } from '../pci.ts';
import { Undo } from '../undo.ts';
import type { ContextTables } from './context.ts';
import { IntelDevice } from './device.ts';
import { teardownEntry } from './pasid.ts';
import { PasidTable } from './pasid-table.ts';
import type { PageRequestQueue } from './prq.ts';
import type { IntelUnit } from './unit.ts';

/** Page requests a function may have outstanding. */
const MAX_PAGE_REQUESTS = 2048;

/** A unit with what hangs on it. */
export interface UnitParts {
  readonly unit: IntelUnit;
  readonly context: ContextTables;
  /** Null: the unit takes no page requests. */
  readonly pageRequests: PageRequestQueue | null;
}

/**
 * Gives a function its PASID table, enables PASID, then ATS, then PRI on it (the order that PCIe
 * demands), and presents it to the unit. Errno ENOMEM; on a throw the function is as it was.
 */
export function* probeFunction(
  parts: UnitParts,
  dev: IommuDev,
  pci: PciDev,
  atsAllowed: boolean,
): Task<IntelDevice> {
  const { unit, context, pageRequests } = parts;
  const undo = new Undo();
  try {
    const width = unit.pasidSupported ? pci.maxPasidBits : 0;
    const maxPasids = width > 0 ? Math.min(2 ** width, unit.maxPasids) : 0;
    const table = new PasidTable(unit.platform, maxPasids);
    undo.defer(() => {
      table.free();
      return undefined;
    });
    const device = new IntelDevice(dev, unit, table);
    undo.defer(() => disableFeatures(device, pci));
    enableFeatures(device, pci, atsAllowed, pageRequests !== null);
    if (pageRequests !== null && device.priEnabled) {
      device.drain = (pasid) => pageRequests.drain(device, pasid);
    }
    yield* context.setup(device);
    dev.maxPasids = device.pasidEnabled ? maxPasids : 0;
    undo.commit();
    return device;
  } finally {
    yield* undo.unwind();
  }
}

/** The reverse. Nothing may be attached to a PASID of the function. */
export function* releaseFunction(parts: UnitParts, device: IntelDevice, pci: PciDev): Task {
  yield* teardownEntry(device, 0);
  yield* parts.context.teardown(device);
  disableFeatures(device, pci);
  device.table.free();
}

function enableFeatures(
  device: IntelDevice,
  pci: PciDev,
  atsAllowed: boolean,
  takesPageRequests: boolean,
): void {
  const { unit } = device;
  device.pasidEnabled = unit.pasidSupported && pci.hasPasid && enabled(() => pci.enablePasid());
  device.atsEnabled =
    unit.ecap.DT === 1 && atsAllowed && pci.hasAts && enabled(() => pci.enableAts(0));
  device.responsePasid = pci.prgResponsePasid;
  device.priEnabled =
    takesPageRequests &&
    device.atsEnabled &&
    device.pasidEnabled &&
    device.responsePasid &&
    pci.hasPri &&
    enabled(() => {
      pci.resetPri();
      pci.enablePri(MAX_PAGE_REQUESTS);
    });
}

/** A feature that a function refuses to turn on is one it has not. */
function enabled(enable: () => void): boolean {
  try {
    enable();
    return true;
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    return false;
  }
}

function disableFeatures(device: IntelDevice, pci: PciDev): undefined {
  if (device.priEnabled) pci.disablePri();
  if (device.atsEnabled) pci.disableAts();
  if (device.pasidEnabled) pci.disablePasid();
  return undefined;
}

/** Whether a scope entry names the function itself (paths behind bridges are not followed). */
export function scopeNames(scope: DeviceScope, rid: number): boolean {
  const [first, ...rest] = scope.path;
  return (
    first !== undefined &&
    rest.length === 0 &&
    scope.startBus === ridBus(rid) &&
    first.device === ridDevice(rid) &&
    first.fn === ridFunction(rid)
  );
}

/**
 * Whether the platform lets a function use ATS: it is listed (SATC), or integrated in the root
 * complex (bus 0), or below root ports that all may (drivers/iommu/intel/iommu.c: dmar_ats_supported).
 */
export function atsAllowed(dmar: Dmar, rid: number): boolean {
  const listed = dmar.satcs.some((satc) => satc.scopes.some((scope) => scopeNames(scope, rid)));
  return listed || ridBus(rid) === 0 || dmar.atsrs.some((atsr) => atsr.allPorts);
}
