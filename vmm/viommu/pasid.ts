import type { CcDescriptor, PasidCacheDescriptor } from '../../devices/spec/vtd/invalidation.ts';
import { CC_GRANULARITY, PASID_CACHE_GRANULARITY } from '../../devices/spec/vtd/invalidation.ts';
import { describePasidEntry, FSPM, PGTT } from '../../devices/spec/vtd/pasid.ts';
import type { Task } from '../../host/syscall.ts';
import { IOMMU_VTD_S1_EAFE, IOMMU_VTD_S1_SRE, IOMMU_VTD_S1_WPE } from '../../host/uapi/iommufd.ts';
import { vmm as ev } from '../../trace/catalogue/vmm.ts';
import type { Stage1 } from '../iommufd.ts';
import type { Faults } from './faults.ts';
import type { GuestEntry, GuestTables } from './guest-tables.ts';
import type { HostSide } from './host-side.ts';
import { attempt, report } from './host-side.ts';

/** What the host has for a PASID (0: the function's requests without PASID). */
export interface Attached {
  /** The guest entry it was made from; null for the RID on the parent while the unit is off. */
  readonly entry: GuestEntry | null;
  readonly hwpt: number;
  /** The HWPT is this PASID's own and goes with it; else it is the parent. */
  readonly nested: boolean;
}

/** PASIDs one guest may have attached at a time: its tables must not fill the host's memory. */
export const MAX_ATTACHED = 4096;

/** Who must hear that the host has answered the page requests of an attachment that went. */
export type StaleFaults = Pick<Faults, 'groupsOf' | 'hostAnswered' | 'forget'>;

const NOTHING = new BigUint64Array(8);

/**
 * Keeps the host's attachments equal to the guest's PASID table (vtd.md 6.2, 6.3; QEMU's
 * intel_iommu_accel.c): a guest entry that appeared becomes a nested HWPT and an attach, one that
 * changed a replace, one that went a detach. When the host refuses a new table the old one goes too:
 * the guest has left it and may free it, so its requests are blocked until an invalidation asks
 * again (QEMU keeps the old table and logs).
 */
export class PasidAttachments {
  readonly #host: HostSide;
  readonly #tables: GuestTables;
  readonly #faults: StaleFaults;
  readonly #attached = new Map<number, Attached>();
  #enabled = false;

  /** The function's RID is on the parent HWPT already. */
  constructor(host: HostSide, tables: GuestTables, faults: StaleFaults) {
    this.#host = host;
    this.#tables = tables;
    this.#faults = faults;
    this.#attached.set(0, { entry: null, hwpt: host.parent, nested: false });
  }

  /** By PASID. */
  get attached(): ReadonlyMap<number, Attached> {
    return this.#attached;
  }

  /** Translation was enabled or disabled, or the root table changed: everything is looked at anew. */
  *remap(enabled: boolean): Task {
    this.#enabled = enabled;
    yield* this.#syncAll(() => true);
  }

  /** A PASID-cache invalidation; the DID and PASID of the descriptor select what it speaks of. */
  *pasidCache(d: PasidCacheDescriptor): Task {
    if (d.granularity === PASID_CACHE_GRANULARITY.GLOBAL) yield* this.#syncAll(() => true);
    else if (d.granularity === PASID_CACHE_GRANULARITY.DOMAIN) {
      yield* this.#syncAll((entry) => entry.fields.DID === d.did);
    } else if (d.pasid < this.#host.maxPasids) {
      yield* this.#sync(d.pasid, (entry) => entry.fields.DID === d.did);
    }
  }

  /** A context-cache invalidation of this function, or of everything. */
  *contextCache(d: CcDescriptor, rid: number): Task {
    const mask = [0, 4, 6, 7][d.fm]!;
    const isOther = d.granularity === CC_GRANULARITY.DEVICE && (d.sid | mask) !== (rid | mask);
    if (!isOther) yield* this.#syncAll(() => true);
  }

  /** Detaches everything; the parent HWPT stays for the caller to destroy. */
  *release(): Task {
    for (const pasid of [...this.#attached.keys()].reverse()) {
      const have = this.#attached.get(pasid)!;
      yield* this.#detach(pasid, have);
    }
  }

  *#syncAll(concerns: (entry: GuestEntry) => boolean): Task {
    for (const pasid of [...this.#attached.keys()]) {
      if (pasid !== 0) yield* this.#sync(pasid, concerns);
    }
    yield* this.#sync(0, concerns);
    if (!this.#enabled) return;
    const added: GuestEntry[] = [];
    this.#tables.forEach(this.#host.maxPasids, (entry) => {
      if (this.#attached.has(entry.pasid) || !concerns(entry)) return true;
      if (!this.#hasRoom(entry.pasid, added.length)) return false;
      added.push(entry);
      return true;
    });
    for (const entry of added) yield* this.#attach(entry, undefined);
  }

  /** Compares one PASID; `concerns` of the old or the new entry decides whether it is looked at. */
  *#sync(pasid: number, concerns: (entry: GuestEntry) => boolean): Task {
    const have = this.#attached.get(pasid);
    if (!this.#enabled) {
      if (pasid !== 0 && have !== undefined) yield* this.#detach(pasid, have);
      if (pasid === 0 && have?.entry !== null) yield* this.#attachParent(have);
      return;
    }
    const want = this.#tables.entry(pasid);
    if (want === null) {
      const applies = have !== undefined && (have.entry === null || concerns(have.entry));
      if (applies) yield* this.#detach(pasid, have);
      return;
    }
    const old = have?.entry ?? null;
    if (!concerns(want) && (old === null || !concerns(old))) return;
    if (old !== null && isSame(old, want)) return;
    const ignores = this.#host.bugs?.has('vmm-ignores-replace') === true;
    if (ignores && have?.nested === true) return;
    if (have === undefined && !this.#hasRoom(pasid, 0)) return;
    yield* this.#attach(want, have);
  }

  /** Whether one more PASID may be attached when `waiting` others are about to be. */
  #hasRoom(pasid: number, waiting: number): boolean {
    if (this.#attached.size + waiting < MAX_ATTACHED) return true;
    const limit = `ENOSPC: a guest may have ${MAX_ATTACHED} attachments`;
    report(this.#host, () => `attach PASID ${pasid}`, limit);
    return false;
  }

  /** Nested HWPT, attach (VFIO replaces what is there), and only then the old HWPT goes. */
  *#attach(entry: GuestEntry, have: Attached | undefined): Task {
    const { iommufd, device, parent } = this.#host;
    const { pasid } = entry;
    const what = (): string => `attach PASID ${pasid}: ${describePasidEntry(entry.words)}`;
    using _span = this.#change(have === undefined ? 'set' : 'replace', pasid, entry.words);
    const nested = entry.fields.PGTT === PGTT.FIRST_STAGE;
    const hwpt = nested ? yield* attempt(this.#host, what, this.#allocNested(entry)) : parent;
    if (hwpt === null) {
      yield* this.#block(pasid, have);
      return;
    }
    const groups = this.#faults.groupsOf(pasid);
    const attaching = succeeded(device.attach(pasid, hwpt));
    if ((yield* attempt(this.#host, what, attaching)) === null) {
      if (nested) yield* attempt(this.#host, what, iommufd.destroy(hwpt));
      yield* this.#block(pasid, have);
      return;
    }
    this.#faults.hostAnswered(groups);
    this.#attached.set(pasid, { entry, hwpt, nested });
    this.#emitAttach(pasid, hwpt, have);
    yield* this.#destroyOld(have);
  }

  /** The unit is off: the function's requests go to guest physical addresses again. */
  *#attachParent(have: Attached | undefined): Task {
    const { device, parent } = this.#host;
    using _span = this.#change(have === undefined ? 'set' : 'replace', 0, NOTHING);
    const attaching = succeeded(device.attach(0, parent));
    if ((yield* attempt(this.#host, () => 'attach RID to the parent', attaching)) === null) {
      yield* this.#block(0, have);
      return;
    }
    this.#faults.forget(0);
    this.#attached.set(0, { entry: null, hwpt: parent, nested: false });
    this.#emitAttach(0, parent, have);
    yield* this.#destroyOld(have);
  }

  /** The host refused what the guest wants instead of `have`. */
  *#block(pasid: number, have: Attached | undefined): Task {
    const keeps = this.#host.bugs?.has('vmm-keeps-refused') === true;
    if (have !== undefined && !keeps) yield* this.#detach(pasid, have);
  }

  *#detach(pasid: number, have: Attached): Task {
    if (this.#host.bugs?.has('vmm-ignores-detach') === true && this.#enabled) return;
    using _span = this.#change('clear', pasid, have.entry?.words ?? NOTHING);
    const detaching = succeeded(this.#host.device.detach(pasid));
    const what = (): string => `detach PASID ${pasid}`;
    if ((yield* attempt(this.#host, what, detaching)) === null) return;
    this.#faults.forget(pasid);
    this.#attached.delete(pasid);
    const { name, trace } = this.#host;
    if (trace.on) trace.emit(ev.detach, { vm: name, pasid, hwpt: have.hwpt });
    yield* this.#destroyOld(have);
  }

  *#destroyOld(have: Attached | undefined): Task {
    if (have?.nested !== true) return;
    const { iommufd } = this.#host;
    yield* attempt(this.#host, () => `destroy HWPT ${have.hwpt}`, iommufd.destroy(have.hwpt));
  }

  #allocNested(entry: GuestEntry): Task<number> {
    const { iommufd, deviceId, parent, faultQueue } = this.#host;
    const fault = entry.pageRequests ? faultQueue : 0;
    return iommufd.allocNested(deviceId, parent, stage1Of(entry), fault);
  }

  #change(change: string, pasid: number, words: BigUint64Array): Disposable {
    const { name, trace } = this.#host;
    return trace.span(ev.guestEntry, {
      vm: name,
      pasid,
      change,
      entry: trace.on ? describePasidEntry(words) : '',
      qw0: words[0]!,
      qw1: words[1]!,
      qw2: words[2]!,
    });
  }

  #emitAttach(pasid: number, hwpt: number, have: Attached | undefined): void {
    const { name, trace } = this.#host;
    if (trace.on) trace.emit(ev.attach, { vm: name, pasid, hwpt, old: have?.hwpt ?? 0 });
  }
}

/** The fields a guest may choose in a nested HWPT; all else of the entry is the host's affair. */
function stage1Of(entry: GuestEntry): Stage1 {
  const { SRE, EAFE, WPE, FSPTPTR, FSPM: mode } = entry.fields;
  const flags =
    (SRE === 1 ? IOMMU_VTD_S1_SRE : 0) |
    (EAFE === 1 ? IOMMU_VTD_S1_EAFE : 0) |
    (WPE === 1 ? IOMMU_VTD_S1_WPE : 0);
  const width = mode === FSPM.LEVELS_5 ? 57 : 48;
  return { flags: BigInt(flags), pgtbl: BigInt(FSPTPTR), width };
}

function isSame(a: GuestEntry, b: GuestEntry): boolean {
  return a.pageRequests === b.pageRequests && a.words.every((word, i) => word === b.words[i]);
}

/** A call without a result, told from one that failed (null). */
function* succeeded(call: Task): Task<true> {
  yield* call;
  return true;
}
