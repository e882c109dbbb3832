/** PASID entries: set-up, replace, teardown, each with its flushes (drivers/iommu/intel/pasid.c). */
import { describePasidEntry, FSPM, PGTT, pasidEntry } from '../../devices/spec/vtd/pasid.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import { GuestError } from '../errno.ts';
import type { Task } from '../task.ts';
import { flushChangedPasid, flushNewPasid } from './flush.ts';
import { FLPT_DEFAULT_DID, type IommuDevice } from './unit.ts';

/** A first-stage table for a PASID: its root, tag and depth. */
export interface FirstStage {
  readonly root: number;
  readonly did: number;
  readonly levels: 4 | 5;
}

/** Word of FSPTPTR and FSPM. */
const FIRST_STAGE_WORD = 2;

/** An entry that is not there. */
const NO_ENTRY = new BigUint64Array(pasidEntry.words);

/** The 512 bits of a first-stage entry. */
export function firstStageEntry(device: IommuDevice, fs: FirstStage): BigUint64Array {
  return pasidEntry.encode({
    P: 1,
    AW: device.unit.addressWidth,
    PGTT: PGTT.FIRST_STAGE,
    DID: fs.did,
    PWSNP: device.unit.ecap.SMPWCS,
    FSPM: fs.levels === 5 ? FSPM.LEVELS_5 : FSPM.LEVELS_4,
    FSPTPTR: fs.root,
  });
}

/** The 512 bits of a pass-through entry. */
function passThroughEntry(device: IommuDevice): BigUint64Array {
  return pasidEntry.encode({
    P: 1,
    AW: device.unit.addressWidth,
    PGTT: PGTT.PASS_THROUGH,
    DID: FLPT_DEFAULT_DID,
    PWSNP: device.unit.ecap.SMPWCS,
  });
}

/** Sets an entry up for a first-stage table. GuestError EBUSY if it is in use; ENOMEM. */
export function* setupFirstStage(device: IommuDevice, pasid: number, fs: FirstStage): Task {
  yield* setup(device, pasid, firstStageEntry(device, fs), fs.did);
}

/** Sets an entry up for pass-through. GuestError EBUSY, ENOMEM. */
export function* setupPassThrough(device: IommuDevice, pasid: number): Task {
  yield* setup(device, pasid, passThroughEntry(device), FLPT_DEFAULT_DID);
}

function* setup(device: IommuDevice, pasid: number, words: BigUint64Array, did: number): Task {
  if (device.pasidTable.read(pasid).some((word) => word !== 0n)) {
    throw new GuestError('EBUSY', `the entry of PASID ${pasid} is in use`);
  }
  const address = device.pasidTable.write(pasid, words);
  using _span = changed(device, pasid, address, 'set', words, NO_ENTRY);
  try {
    yield* flushNewPasid(device, did, pasid);
  } catch (error) {
    device.pasidTable.write(pasid, new BigUint64Array(pasidEntry.words));
    throw error;
  }
}

/**
 * Points a present first-stage entry at another root. Only one 16-byte half changes, in one store,
 * so there is no moment without a translation or with a mixed one.
 */
export function* replaceFirstStage(device: IommuDevice, pasid: number, fs: FirstStage): Task {
  const words = firstStageEntry(device, fs);
  const old = device.pasidTable.read(pasid);
  const address = device.pasidTable.update(pasid, FIRST_STAGE_WORD, words[FIRST_STAGE_WORD]!);
  using _span = changed(device, pasid, address, 'replace', device.pasidTable.read(pasid), old);
  if (device.unit.core.bugs?.has('guest-replace-no-flush') === true) return;
  yield* flushChangedPasid(device, fs.did, pasid);
}

/**
 * Takes an entry down: P first, then the caches, then the rest. An entry that only ignores faults was
 * flushed when its address space ended and is just cleared. With `ignoreFaults` FPD stays, so
 * that stale DMA of a dying process is blocked without fault records.
 */
export function* tearDown(device: IommuDevice, pasid: number, ignoreFaults: boolean): Task {
  const words = device.pasidTable.read(pasid);
  const last = pasidEntry.encode({ FPD: ignoreFaults ? 1 : 0 });
  const { P, DID } = pasidEntry.decode(words);
  if (P === 1) {
    const address = device.pasidTable.update(pasid, 0, words[0]! & ~pasidEntry.masks.P);
    using _span = changed(device, pasid, address, 'clear', last, words);
    yield* flushChangedPasid(device, DID, pasid);
  }
  device.pasidTable.write(pasid, last);
}

/** `words` and `old`: what is there after the change, and what was before. */
function changed(
  device: IommuDevice,
  pasid: number,
  address: number,
  change: string,
  words: BigUint64Array,
  old: BigUint64Array,
): Disposable {
  const { trace, vm } = device.unit.core;
  const entry = trace.on ? describePasidEntry(change === 'clear' ? old : words) : '';
  const values = { vm, pasid, address, change, entry };
  return trace.span(guest.pasidEntry, {
    ...values,
    qw0: words[0]!,
    qw1: words[1]!,
    qw2: words[2]!,
    old0: old[0]!,
    old1: old[1]!,
    old2: old[2]!,
  });
}
