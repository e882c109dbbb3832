/** The invalidation sequences that table changes owe (vtd specification, 6.5.3; Linux pasid.c). */
import {
  CC_GRANULARITY,
  ccDesc,
  devTlbDesc,
  IOTLB_GRANULARITY,
  iotlbDesc,
  PASID_CACHE_GRANULARITY,
  PASID_IOTLB_GRANULARITY,
  pasidCacheDesc,
  pasidDevTlbDesc,
  pasidIotlbDesc,
} from '../../devices/spec/vtd/invalidation.ts';
import { PAGE_SHIFT, PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import type { Task } from '../task.ts';
import type { IommuDevice, Unit } from './unit.ts';

/** The MIP field: 32 is written as 0. */
function mip(device: IommuDevice): number {
  return device.queueDepth & 0x1f;
}

function pasidCache(did: number, pasid: number): BigUint64Array {
  return pasidCacheDesc({ granularity: PASID_CACHE_GRANULARITY.PASID, did, pasid });
}

function pasidIotlbAll(did: number, pasid: number): BigUint64Array {
  return pasidIotlbDesc({ granularity: PASID_IOTLB_GRANULARITY.ALL, did, pasid });
}

/** Everything the device cached under a PASID; for PASID 0 what it cached without one. */
function deviceTlbAll(device: IommuDevice, pasid: number): BigUint64Array {
  const sid = device.rid;
  return pasid === 0
    ? devTlbDesc({ sid, sizeLog2: 'all', mip: mip(device) })
    : pasidDevTlbDesc({ sid, pasid, sizeLog2: 'all', mip: mip(device) });
}

/** After a new root pointer on a unit without ESRTPS: context, PASID cache, IOTLB, all of them. */
export function* flushEverything(unit: Unit): Task {
  yield* unit.qi.submit([ccDesc({ granularity: CC_GRANULARITY.GLOBAL })]);
  yield* unit.qi.submit([pasidCacheDesc({ granularity: PASID_CACHE_GRANULARITY.GLOBAL })]);
  const drain = { drainReads: true, drainWrites: true };
  yield* unit.qi.submit([iotlbDesc({ granularity: IOTLB_GRANULARITY.GLOBAL, ...drain })]);
}

/** A context entry became present: caching mode may have cached its absence under DID 0. */
export function* flushNewContext(unit: Unit, rid: number): Task {
  if (!unit.cachingMode) return;
  yield* unit.qi.submit([ccDesc({ granularity: CC_GRANULARITY.DEVICE, sid: rid })]);
  const drain = { drainReads: true, drainWrites: true };
  yield* unit.qi.submit([iotlbDesc({ granularity: IOTLB_GRANULARITY.DOMAIN, did: 0, ...drain })]);
}

/** A present context entry changed (PRE): device-selective, then the device's own cache. */
export function* flushChangedContext(device: IommuDevice): Task {
  const { qi } = device.unit;
  yield* qi.submit([ccDesc({ granularity: CC_GRANULARITY.DEVICE, sid: device.rid })]);
  if (device.atsEnabled) yield* qi.submit([deviceTlbAll(device, 0)]);
}

/** A PASID entry became present: owed in caching mode only. */
export function* flushNewPasid(device: IommuDevice, did: number, pasid: number): Task {
  const { unit } = device;
  if (!unit.cachingMode) return;
  yield* unit.qi.submit([pasidCache(did, pasid)]);
  yield* unit.qi.submit([pasidIotlbAll(did, pasid)]);
}

/** A present PASID entry changed or went away. */
export function* flushChangedPasid(device: IommuDevice, did: number, pasid: number): Task {
  const { qi, core } = device.unit;
  if (core.bugs?.has('guest-teardown-no-pasid-cache') !== true) {
    yield* qi.submit([pasidCache(did, pasid)]);
  }
  if (core.bugs?.has('guest-teardown-no-iotlb') !== true) {
    yield* qi.submit([pasidIotlbAll(did, pasid)]);
  }
  if (device.atsEnabled) yield* qi.submit([deviceTlbAll(device, pasid)]);
}

/** log2 of the pages of the smallest aligned block that holds pages `first` to `last`. */
export function coverOrder(first: number, last: number): number {
  let order = 0;
  while (Math.floor(first / 2 ** order) !== Math.floor(last / 2 ** order)) order++;
  return order;
}

/**
 * First-stage entries of [start, end) were removed: p_iotlb with address mask and paging-structure
 * caches (IH 0), then the device-TLB, in one batch.
 */
export function* flushRange(
  device: IommuDevice,
  did: number,
  pasid: number,
  start: number,
  end: number,
): Task {
  const { bugs } = device.unit.core;
  const first = Math.floor(start / PAGE_SIZE);
  let am = coverOrder(first, Math.max(first, Math.ceil(end / PAGE_SIZE) - 1));
  if (bugs?.has('guest-flush-too-narrow') === true) am = Math.max(0, am - 1);
  if (bugs?.has('guest-flush-wrong-pasid') === true) pasid++;
  if (bugs?.has('guest-flush-wrong-did') === true) did++;
  const address = Math.floor(first / 2 ** am) * 2 ** am * PAGE_SIZE;
  const granularity = PASID_IOTLB_GRANULARITY.PAGE;
  const batch: BigUint64Array[] = [pasidIotlbDesc({ granularity, did, pasid, address, am })];
  if (device.atsEnabled && bugs?.has('guest-flush-no-device-tlb') !== true) {
    const sizeLog2 = am + PAGE_SHIFT;
    batch.push(pasidDevTlbDesc({ sid: device.rid, pasid, address, sizeLog2, mip: mip(device) }));
  }
  if (bugs?.has('guest-flush-device-first') === true) batch.reverse();
  yield* device.unit.qi.submit(batch);
}

/** The body of a page-request drain: what follows its leading fence, before the draining wait. */
export function drainDescriptors(device: IommuDevice, pasid: number): BigUint64Array[] {
  const did = pasid === 0 ? device.domainDid : 1;
  const drain = { drainReads: true, drainWrites: true };
  const iotlb =
    pasid === 0
      ? iotlbDesc({ granularity: IOTLB_GRANULARITY.DOMAIN, did, ...drain })
      : pasidIotlbAll(did, pasid);
  if (device.unit.core.bugs?.has('guest-teardown-no-iotlb') === true) {
    return [deviceTlbAll(device, pasid)];
  }
  return [iotlb, deviceTlbAll(device, pasid)];
}
