/** The invalidations that changes of a PASID-table entry owe (VT-d specification, 6.5.3.3). */
import {
  devTlbDesc,
  IOTLB_GRANULARITY,
  iotlbDesc,
  PASID_CACHE_GRANULARITY,
  PASID_IOTLB_GRANULARITY,
  pasidCacheDesc,
  pasidDevTlbDesc,
  pasidIotlbDesc,
} from '../../../devices/spec/vtd/invalidation.ts';
import { PGTT, pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { IntelDevice } from './device.ts';
import type { EntryWords } from './pasid-entry.ts';
import { hasBug } from './platform.ts';
import type { DescriptorWords, SubmitOptions } from './qi.ts';
import type { IntelUnit } from './unit.ts';

/** The PASID-cache entry of (did, pasid). */
export function pasidCache(did: number, pasid: number): DescriptorWords {
  return pasidCacheDesc({ granularity: PASID_CACHE_GRANULARITY.PASID, did, pasid });
}

/** All first-stage and nested translations of (did, pasid). */
export function pasidIotlbAll(did: number, pasid: number): DescriptorWords {
  return pasidIotlbDesc({ granularity: PASID_IOTLB_GRANULARITY.ALL, did, pasid });
}

/** All translations of a domain id. */
export function iotlbDomain(did: number): DescriptorWords {
  return iotlbDesc({
    granularity: IOTLB_GRANULARITY.DOMAIN,
    did,
    drainReads: true,
    drainWrites: true,
  });
}

/**
 * A range of the function's device-TLB: of requests without PASID where `pasid` is 0.
 * `sizeLog2` in bytes, 12 to 63, or 'all'.
 */
export function deviceTlb(
  rid: number,
  pasid: number,
  address: number,
  sizeLog2: number | 'all',
): DescriptorWords {
  return pasid === 0
    ? devTlbDesc({ sid: rid, address, sizeLog2 })
    : pasidDevTlbDesc({ sid: rid, pasid, address, sizeLog2 });
}

/**
 * Submits and waits. An invalidation that a device does not answer leaves nothing to undo, so the
 * error ends here, as it does in the kernel's flush functions.
 */
export function* flush(
  unit: IntelUnit,
  descriptors: readonly DescriptorWords[],
  options?: SubmitOptions,
): Task {
  if (options === undefined && hasBug(unit.platform, 'host-flush-no-wait')) {
    for (const descriptor of descriptors) yield* unit.queue.post(descriptor);
    return;
  }
  try {
    yield* unit.queue.submit(descriptors, options);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
  }
}

/** An entry became present: only caching mode may have cached that it was not. */
export function* flushNewEntry(device: IntelDevice, pasid: number, entry: EntryWords): Task {
  if (!device.unit.cachingMode) return;
  const { DID } = pasidEntry.decode(entry);
  yield* flush(device.unit, [pasidCache(DID, pasid), pasidIotlbAll(DID, pasid)]);
}

/**
 * `old` is not in force any more, because it was torn down or because another entry took its place:
 * PASID cache, then IOTLB, then device-TLB, all under the old domain id.
 */
export function* flushOldEntry(
  device: IntelDevice,
  pasid: number,
  old: EntryWords,
  replaced: boolean,
): Task {
  const { platform } = device.unit;
  if (hasBug(platform, 'host-teardown-wrong-pasid')) pasid++;
  const { DID, PGTT: kind } = pasidEntry.decode(old);
  const secondStage = kind === PGTT.SECOND_STAGE || kind === PGTT.NESTED;
  const skipsPasid = hasBug(platform, 'host-teardown-no-pasid-cache');
  const descriptors = skipsPasid ? [] : [pasidCache(DID, pasid)];
  if (replaced || !secondStage) descriptors.push(pasidIotlbAll(DID, pasid));
  // The id may be given to another domain next, so nothing of it may stay in the caches.
  if (secondStage) descriptors.push(iotlbDomain(DID));
  if (hasBug(platform, 'host-teardown-no-iotlb')) descriptors.length = 1;
  const skipsDevice = hasBug(platform, 'host-teardown-no-device-tlb');
  if (device.atsEnabled && !skipsDevice) {
    descriptors.push(deviceTlb(device.rid, pasid, 0, 'all'));
  }
  yield* flush(device.unit, descriptors);
}
