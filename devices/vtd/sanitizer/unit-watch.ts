import type { Clock } from '../../clock.ts';
import type { PhysicalMemory } from '../../memory.ts';
import type { Descriptor, ValidDescriptor } from '../../spec/vtd/invalidation.ts';
import {
  DESCRIPTOR_BYTES,
  decodeDescriptor,
  describeDescriptor,
} from '../../spec/vtd/invalidation.ts';
import type { PageRequest } from '../../spec/vtd/page-request.ts';
import { type PasidEntry, pasidEntry } from '../../spec/vtd/pasid.ts';
import {
  IQ_OFFSET_MASK,
  IQA,
  invalidationQueueBytes,
  REG,
  RTADDR,
  TTM,
} from '../../spec/vtd/registers.ts';
import type { VtdObserver, Walked } from '../observer.ts';
import { CacheEntry, type CacheEntryInit, type CacheName, covers } from './cache-entry.ts';
import { type Carried, type Diagnosis, diagnose } from './diagnosis.ts';
import { Drains } from './drains.ts';
import { EntryRules } from './entry-rules.ts';
import { actorOf, type Trail } from './history.ts';
import type { Finding, Kind } from './report.ts';
import { Requests } from './requests.ts';
import { type Scene, settle } from './scene.ts';
import { Shadow } from './shadow.ts';
import { StructureWatch } from './structure-watch.ts';
import type { Change, TableEntry } from './tables.ts';

/** The unit as its watch sees it, beside what it observes. */
export interface WatchedUnit {
  /** `host`, or the VM's name. */
  readonly name: string;
  /** Host physical memory; for a virtual unit, guest physical memory. */
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readRegister(offset: number, size: 4 | 8): bigint;
  /** Host physical address of an address of the unit; -1: none. */
  toHost(address: number): number;
}

/** Descriptors that are remembered, to tell what was done instead. */
const CARRIED = 512;
/** A use so long after the change is not on the way to an invalidation any more, in ns. */
export const PATIENCE_NS = 10_000_000;

/**
 * What is common to the watch of the host's silicon and of a virtual unit: the shadow of the caches,
 * invalidations and their completion, PASID entries, page requests.
 */
export abstract class UnitWatch implements VtdObserver {
  readonly shadow: Shadow;
  readonly structures: StructureWatch;
  protected readonly scene: Scene;
  protected readonly unit: WatchedUnit;
  /** Invalidated, and no wait behind it is complete. */
  protected readonly unconfirmed = new Set<CacheEntry>();
  readonly #carried: Carried[] = [];
  readonly #requests = new Requests();
  readonly #rules = new EntryRules();
  readonly #drains = new Drains();

  constructor(scene: Scene, unit: WatchedUnit) {
    this.scene = scene;
    this.unit = unit;
    this.shadow = new Shadow((entry) => {
      scene.tables.release(entry.path, entry);
      for (const change of entry.changes) settle(scene, change, entry);
    });
    const toHost = (address: number): number => unit.toHost(address);
    this.structures = new StructureWatch(unit.memory, toHost, (...stored) => {
      this.#pasidStored(...stored);
    });
  }

  get name(): string {
    return this.unit.name;
  }

  abstract walked(walk: Walked): void;
  abstract issued(sid: number, itag: number): void;
  /** The top-level table that a PASID entry leads to. */
  protected abstract tablesOf(entry: PasidEntry): { frame?: number; gfn?: number };
  /** The software that drives the unit. */
  protected abstract get software(): string;
  /** What a device-TLB invalidation selects, when the unit has sent it. */
  protected abstract deviceInvalidated(entries: readonly CacheEntry[]): void;
  /** The wait behind these invalidations is complete. */
  protected abstract confirmed(entries: readonly CacheEntry[]): void;

  descriptor(d: ValidDescriptor, _address: number): void {
    const { scene } = this;
    const trail = scene.here();
    this.#carried.push({ d, order: ++scene.order.value, trail });
    if (this.#carried.length > CARRIED) this.#carried.shift();
    if (d.type === 'pgrp') this.#answered(d);
    else if (d.type === 'inv_wait') this.#drains.waitCarried(d.drainPageRequests);
    else this.invalidate(d, 0);
  }

  /** Drops what a descriptor covers, of what was filled after so many descriptors. */
  protected invalidate(d: ValidDescriptor, since: number): void {
    const covered = this.shadow.coveredBy(d).filter(({ born }) => born >= since);
    const together = new Set(covered);
    const dropped = covered.filter((entry) => this.#mayDrop(entry, together));
    if (d.type === 'dev_tlb' || d.type === 'p_dev_tlb') this.deviceInvalidated(dropped);
    else for (const entry of dropped) this.drop(entry);
  }

  waited(drainPageRequests: boolean): void {
    if (drainPageRequests) this.#drains.waitDone();
    if (this.unconfirmed.size === 0) return;
    const entries = [...this.unconfirmed];
    this.unconfirmed.clear();
    this.confirmed(entries);
  }

  pageQueued(request: PageRequest): void {
    this.#requests.queued(request);
  }

  remapped(change: 'root' | 'on' | 'off'): void {
    const { unit, structures, shadow } = this;
    if (change === 'root') {
      const { RTA, TTM: mode } = RTADDR.decode([unit.readRegister(REG.RTADDR, 8)]);
      structures.root = mode === TTM.SCALABLE ? RTA : -1;
    }
    // Both drop what the unit itself caches (CAP.ESRTPS; TE).
    for (const entry of shadow.own()) shadow.remove(entry);
    if (change === 'off') {
      this.#checkDrains('translation is turned off');
      this.#requests.clear();
    } else {
      structures.scan();
    }
  }

  /** Host physical memory was written. */
  stored(address: number, bytes: number): void {
    this.structures.stored(address, bytes);
  }

  /** A unit of work of software is over: what it owed should be done. */
  ended(what: string, owes: (trail: Trail | null) => boolean): void {
    this.#drains.owed(owes).forEach((owed) => this.#fileDrain(owed, what));
  }

  /** Nothing is owed any more, and nothing cached. */
  protected forget(): void {
    for (const entry of this.shadow.all()) this.shadow.remove(entry);
    this.unconfirmed.clear();
    this.#drains.owed(() => true);
  }

  /** All is over. */
  end(): void {
    this.#checkDrains('the run is over');
  }

  /** Entries of this unit that are stale because of a change, unconfirmed ones among them. */
  heldAfter(change: Change): CacheEntry[] {
    const held = [...(this.scene.stale.get(change) ?? [])].filter((entry) => this.owns(entry));
    for (const entry of this.unconfirmed) if (entry.changes.includes(change)) held.push(entry);
    return held;
  }

  owns(entry: CacheEntry): boolean {
    return this.shadow.find(entry.cache, entry.key) === entry || this.unconfirmed.has(entry);
  }

  diagnose(change: Change, held: readonly CacheEntry[]): Diagnosis {
    return diagnose(change, held, [...this.queued(), ...this.inFlight()], this.#carried);
  }

  /** Files what a change owed this unit and something relied on. */
  fileStale(
    change: Change,
    held: readonly CacheEntry[],
    acted: Finding['acted'],
    address = -1,
  ): void {
    const news = held.filter(({ told }) => !told);
    if (news.length === 0) return;
    for (const entry of news) entry.told = true;
    const found = this.diagnose(change, news);
    const { entry } = found;
    const kind: Kind =
      change.detach && change.used !== null && found.kind === 'missing-invalidation'
        ? 'pasid-use-after-detach'
        : found.kind;
    this.file({ ...found, kind, change, acted, address, who: this.blame(change) }, entry);
  }

  /** The software that did what is on a trail. */
  protected culprit(trail: Trail | null): string {
    return actorOf(trail) || this.software;
  }

  /** The software that owed the invalidation of a change. */
  protected blame(change: Change): string {
    return this.culprit(change.trail);
  }

  protected file(
    found: Pick<Finding, 'kind' | 'change' | 'acted' | 'who' | 'missing'> & {
      readonly instead?: string;
      readonly address?: number;
    },
    entry: CacheEntry,
  ): void {
    const { address = -1, kind, change, acted, who, missing, instead = '' } = found;
    this.scene.file({
      kind,
      change,
      acted,
      who,
      missing,
      instead,
      unit: this.name,
      sid: entry.sid,
      pasid: entry.pasid,
      address: address >= 0 ? address : entry.page * 4096,
      entry,
    });
  }

  /** Memory goes back: nothing may lead to it any more. */
  protected released(entries: readonly CacheEntry[], what: string, address: number): void {
    const acted = { what, trail: this.scene.here() };
    for (const entry of entries) {
      const [change] = entry.changes;
      if (change !== undefined) {
        this.fileStale(change, this.heldAfter(change), acted, address);
      } else if (!entry.told) {
        entry.told = true;
        const missing = 'unmap, invalidate and wait before the memory goes back';
        const kind: Kind = entry.live ? 'freed-while-mapped' : 'not-waited';
        const who = this.culprit(acted.trail);
        this.file({ kind, change: null, acted, who, missing, address }, entry);
      }
    }
  }

  protected take(init: Omit<CacheEntryInit, 'filled' | 'ns' | 'born'>): CacheEntry {
    const { scene } = this;
    const entry = new CacheEntry(
      { ...init, filled: scene.here(), ns: scene.now(), born: scene.order.value },
      (stale, change) => {
        const entries = scene.stale.get(change);
        if (entries === undefined) scene.stale.set(change, new Set([stale]));
        else entries.add(stale);
      },
    );
    for (const step of entry.path) step.dependents.add(entry);
    this.shadow.add(entry);
    // What it was filled from may have been stale already.
    for (const above of entry.upstream) {
      if (above.live) for (const change of above.changes) entry.changed(change);
    }
    return entry;
  }

  /** The entry of a function's context, and of its PASID, as the unit has them cached. */
  protected structureEntries(sid: number, pasid: number, did: number): CacheEntry[] {
    const known = this.findPasid(sid, pasid);
    const context = this.shadow.find('context cache', contextKey(sid));
    if (known !== undefined && context !== undefined) return [context, known];
    const path: TableEntry[] = [];
    for (const { kind, address } of this.structures.steps(sid, pasid)) {
      const host = this.unit.toHost(address);
      if (host >= 0) path.push(this.scene.tables.at(kind, 0, host));
    }
    const function_ = { sid, pasid: -1, cache: 'context cache', upstream: [] } as const;
    const above = context ?? this.take({ ...function_, path: path.slice(0, 2) });
    if (known !== undefined) return [above, known];
    const own = { sid, pasid, did, tag: pasid, cache: 'PASID cache' } as const;
    const leads = this.tablesOf(pasidEntry.decode(this.structures.entry(sid, pasid)));
    return [above, this.take({ ...own, ...leads, path, upstream: [above] })];
  }

  protected findPasid(sid: number, pasid: number): CacheEntry | undefined {
    return this.shadow.find('PASID cache', keyOf('PASID cache', sid, pasid));
  }

  /** The descriptors in the queue that the unit has not fetched. */
  protected queued(): Descriptor[] {
    const { unit } = this;
    const { BASE, QS, DW } = IQA.decode([unit.readRegister(REG.IQA, 8)]);
    const bytes = invalidationQueueBytes(QS);
    const tail = Number(unit.readRegister(REG.IQT, 8)) & IQ_OFFSET_MASK;
    const found: Descriptor[] = [];
    if (DW === 0 || tail >= bytes) return found;
    let at = Number(unit.readRegister(REG.IQH, 8)) & IQ_OFFSET_MASK;
    for (; at !== tail && found.length * DESCRIPTOR_BYTES < bytes; ) {
      found.push(decodeDescriptor(this.structures.words(BASE + at, 4)));
      at = (at + DESCRIPTOR_BYTES) % bytes;
    }
    return found;
  }

  /** Descriptors that are carried out, and of which the devices' part is not done. */
  protected inFlight(): Descriptor[] {
    return [];
  }

  /** An entry goes; its invalidation is yet to be confirmed. */
  protected drop(entry: CacheEntry): void {
    if (!entry.live) return;
    this.shadow.remove(entry);
    this.unconfirmed.add(entry);
  }

  /**
   * Whether an invalidation that covers the entry rids the unit of it for good: not while it may be
   * filled again from something that is stale for the same reason.
   */
  #mayDrop(entry: CacheEntry, together: ReadonlySet<CacheEntry>): boolean {
    if (!entry.isRefillable(together)) return true;
    entry.tooEarly = true;
    return false;
  }

  #answered(d: Extract<ValidDescriptor, { type: 'pgrp' }>): void {
    const outcome = this.#requests.answered(d);
    if (outcome === 'ok') return;
    const trail = this.scene.here();
    const code = describeDescriptor(d);
    this.scene.file({
      kind: outcome === 'second' ? 'second-response' : 'unmatched-response',
      unit: this.name,
      sid: d.rid,
      pasid: d.pasidPresent ? d.pasid : -1,
      address: 0,
      entry: null,
      change: null,
      acted: { what: 'sent a page group response', trail },
      who: this.culprit(trail),
      missing: 'nothing: a group is answered once, by its last request',
      instead: code,
    });
  }

  #pasidStored(
    sid: number,
    pasid: number,
    before: readonly bigint[],
    after: readonly bigint[],
  ): void {
    const { scene } = this;
    const trail = scene.here();
    const broken = this.#rules.stored(sid, pasid, before, after, trail, scene.now());
    if (broken !== null) {
      this.scene.file({
        kind: broken.kind,
        unit: this.name,
        sid,
        pasid,
        address: 0,
        entry: this.findPasid(sid, pasid) ?? null,
        change: null,
        acted: { what: `wrote the PASID entry: ${broken.why}`, trail },
        who: this.culprit(trail),
        missing: 'P last; while present, one aligned 16-byte write, or P clear and a flush first',
      });
    }
    const [was, is] = [(before[0]! & 1n) !== 0n, (after[0]! & 1n) !== 0n];
    if (was && !is && this.structures.context(sid)?.PRE === 1) {
      this.#drains.owe({ sid, pasid, trail });
    } else if (!was && is) {
      this.#drains
        .owed((_trail, owed) => owed.sid === sid && owed.pasid === pasid)
        .forEach((owed) => this.#fileDrain(owed, 'the PASID has an entry again'));
      this.#reused(sid, pasid);
    }
  }

  /** A PASID has an entry again: nothing of its former life may be cached. */
  #reused(sid: number, pasid: number): void {
    const known = this.findPasid(sid, pasid);
    const change = known?.changes[0];
    if (known === undefined || change === undefined) return;
    const acted = { what: 'the PASID has an entry again', trail: this.scene.here() };
    this.fileStale(change, this.heldAfter(change), acted);
  }

  #checkDrains(what: string): void {
    this.#drains.owed(() => true).forEach((owed) => this.#fileDrain(owed, what));
  }

  #fileDrain(owed: { sid: number; pasid: number; trail: Trail | null }, what: string): void {
    const here = this.scene.here();
    this.scene.file({
      kind: 'no-drain',
      unit: this.name,
      sid: owed.sid,
      pasid: owed.pasid,
      address: 0,
      entry: null,
      change: null,
      acted: { what: `${what}; the entry was taken away before`, trail: owed.trail ?? here },
      who: this.culprit(owed.trail),
      missing: 'inv_wait with FN, invalidations of IOTLB and device-TLB, then inv_wait with PD',
    });
  }
}

/** Whether one of the descriptors drops the entry. */
export function isCovered(entry: CacheEntry, descriptors: readonly Descriptor[]): boolean {
  return descriptors.some((d) => covers(d, entry));
}

export function keyOf(cache: CacheName, sid: number, pasid: number): string {
  return `${cache} ${sid} ${pasid} 0 0 0 0`;
}

function contextKey(sid: number): string {
  return keyOf('context cache', sid, -1);
}
