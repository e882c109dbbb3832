/**
 * Which domain a PASID of a function has (drivers/iommu/intel/nested.c: intel_nested_set_dev_pasid,
 * iommu.c: intel_iommu_set_dev_pasid). PASID 0 is the RID: requests without PASID.
 */
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { IopfQueue } from '../iommu/io-pgfault.ts';
import { Undo } from '../undo.ts';
import type { IntelDevice } from './device.ts';
import type { IntelDomain } from './domain.ts';
import { isPresent, replaceEntry, setupEntry, teardownEntry } from './pasid.ts';
import type { EntryWords } from './pasid-entry.ts';

/**
 * Attaches `domain` to a PASID, in the place of `old` if there is one.
 *
 * Errno EOPNOTSUPP: the function or the unit has no PASIDs. EINVAL: the domain does not fit the
 * unit. ENODEV: the domain takes faults and the function sends none; no memory for a table.
 * ENOSPC, ENOMEM. On a throw everything is as it was, with one exception: with the kernel option
 * `replace: 'break-before-make'` the old entry is torn down before the new one is set up (Linux 7.0).
 */
export function* attachPasid(
  device: IntelDevice,
  faults: IopfQueue,
  domain: IntelDomain,
  pasid: number,
  old: IntelDomain | null,
): Task {
  if (pasid !== 0 && !(device.unit.pasidSupported && device.pasidEnabled)) {
    throw new Errno('EOPNOTSUPP', `${device.name} has no PASIDs`);
  }
  const undo = new Undo();
  try {
    device.unit.platform.failpoints.point('intel:dev-pasid');
    domain.acquire(device, pasid);
    undo.defer(() => {
      domain.release(device, pasid);
      return undefined;
    });
    if (domain.faultHandler !== null) {
      device.unit.platform.failpoints.point('intel:iopf');
      device.enableFaults(faults);
      undo.defer(() => device.disableFaults(faults));
    }
    yield* changeEntry(device, pasid, () => domain.entry(device.unit));
    undo.commit();
  } finally {
    yield* undo.unwind();
  }
  if (old !== null) yield* release(device, faults, old, pasid);
}

/** Takes the domain of a PASID away; its requests are faults from then on. Cannot fail. */
export function* detachPasid(
  device: IntelDevice,
  faults: IopfQueue,
  old: IntelDomain | null,
  pasid: number,
): Task {
  yield* teardownEntry(device, pasid);
  if (old !== null) yield* release(device, faults, old, pasid);
}

/** @param entryNow the new entry as of the moment: dirty tracking of its domain may be toggled */
function* changeEntry(device: IntelDevice, pasid: number, entryNow: () => EntryWords): Task {
  const { platform } = device.unit;
  const entry = entryNow();
  platform.failpoints.point('intel:pasid-entry');
  if (!isPresent(device, pasid)) {
    yield* setupEntry(device, pasid, entry);
    return;
  }
  if (platform.options.replace === 'hitless') {
    const replacement = device.table.prepareReplace(pasid, entry);
    yield* replaceEntry(device, pasid, entry, replacement);
    return;
  }
  yield* teardownEntry(device, pasid);
  platform.failpoints.point('intel:pasid-entry-setup');
  yield* setupEntry(device, pasid, entryNow());
}

function* release(device: IntelDevice, faults: IopfQueue, old: IntelDomain, pasid: number): Task {
  if (old.faultHandler !== null) yield* device.disableFaults(faults);
  old.release(device, pasid);
}
