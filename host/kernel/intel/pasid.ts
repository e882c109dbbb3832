/** Entries of the PASID table: set up, replaced and torn down (drivers/iommu/intel/pasid.c). */
import { describePasidEntry, pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import { host } from '../../../trace/catalogue/host.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { IntelDevice } from './device.ts';
import { flushNewEntry, flushOldEntry } from './flush.ts';
import type { EntryWords } from './pasid-entry.ts';
import type { Replacement } from './pasid-table.ts';
import { hasBug } from './platform.ts';

const { P, FPD, SSADE } = pasidEntry.masks;

/** An entry that is not there, and one of which only FPD is left. */
const NO_ENTRY: EntryWords = new BigUint64Array(pasidEntry.words);
const FAULTS_IGNORED: EntryWords = pasidEntry.encode({ FPD: 1 });

/** Whether the PASID has a present entry. */
export function isPresent(device: IntelDevice, pasid: number): boolean {
  return (device.table.read(pasid)[0]! & P) !== 0n;
}

/**
 * Makes an entry present. Errno EBUSY: it is. ENODEV: no memory for its table page. On a throw
 * nothing changed.
 */
export function* setupEntry(device: IntelDevice, pasid: number, entry: EntryWords): Task {
  try {
    device.table.ensure(pasid);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    throw new Errno('ENODEV', `no table for PASID ${pasid} of ${device.name}: ${error.reason}`);
  }
  if (isPresent(device, pasid)) {
    throw new Errno('EBUSY', `the entry of PASID ${pasid} of ${device.name} is present`);
  }
  using _span = span(device, pasid, 'setup', entry, NO_ENTRY);
  device.table.write(pasid, entry);
  yield* flushNewEntry(device, pasid, entry);
}

/**
 * Puts `entry` in the place of the present one without a moment in which the PASID has none or a
 * mixture, then drops what is cached of the old one and waits for its page requests.
 * `replacement` is what `PasidTable.prepareReplace` gave for the same arguments; nothing throws.
 */
export function* replaceEntry(
  device: IntelDevice,
  pasid: number,
  entry: EntryWords,
  replacement: Replacement,
): Task {
  const old = device.table.read(pasid);
  using _span = span(device, pasid, 'replace', entry, old, replacement.address);
  replacement.apply();
  const { platform } = device.unit;
  const flushed = hasBug(platform, 'host-replace-new-did') ? entry : old;
  if (!hasBug(platform, 'host-replace-no-flush')) {
    yield* flushOldEntry(device, pasid, flushed, true);
  }
  replacement.finish();
  yield* device.drain(pasid);
}

/**
 * Takes an entry away: P first, then what is cached of it, then the rest, then its page requests.
 * `faultIgnore` (the process is going, its device still sends): further faults are not recorded
 * until the PASID is torn down for good, and nothing is drained.
 */
export function* teardownEntry(device: IntelDevice, pasid: number, faultIgnore = false): Task {
  const old = device.table.read(pasid);
  const present = (old[0]! & P) !== 0n;
  if (!present && (old[0]! & FPD) === 0n) return;
  using _span = span(device, pasid, 'clear', faultIgnore ? FAULTS_IGNORED : NO_ENTRY, old);
  if (present) {
    device.table.clearPresent(pasid);
    yield* flushOldEntry(device, pasid, old, false);
  }
  device.table.clear(pasid, faultIgnore);
  if (hasBug(device.unit.platform, 'host-teardown-no-drain')) return;
  if (!faultIgnore) yield* device.drain(pasid);
}

/**
 * Changes SSADE of a present entry that has the domain id `did`; nothing happens to another one
 * (intel_pasid_setup_dirty_tracking). Cannot fail.
 */
export function* setDirtyEnable(
  device: IntelDevice,
  pasid: number,
  did: number,
  enable: boolean,
): Task {
  const old = device.table.read(pasid);
  const { P: present, DID, SSADE: before } = pasidEntry.decode(old);
  if (present === 0 || DID !== did || (before === 1) === enable) return;
  const entry = old.slice();
  entry[0] = enable ? old[0]! | SSADE : old[0]! & ~SSADE;
  const replacement = device.table.prepareReplace(pasid, entry);
  const change = enable ? 'dirty on' : 'dirty off';
  using _span = span(device, pasid, change, entry, old, replacement.address);
  replacement.apply();
  yield* flushOldEntry(device, pasid, old, false);
  replacement.finish();
}

/** `entry` and `old`: the words after and before. */
function span(
  device: IntelDevice,
  pasid: number,
  change: 'setup' | 'replace' | 'clear' | 'dirty on' | 'dirty off',
  entry: EntryWords,
  old: EntryWords,
  address = device.table.addressOf(pasid),
): Disposable {
  const { trace } = device.unit.platform;
  return trace.span(host.pasidEntry, {
    device: device.name,
    pasid,
    address,
    change,
    entry: trace.on ? describePasidEntry(change === 'clear' ? old : entry) : '',
    qw0: entry[0]!,
    qw1: entry[1]!,
    qw2: entry[2]!,
    old0: old[0]!,
    old1: old[1]!,
    old2: old[2]!,
  });
}
