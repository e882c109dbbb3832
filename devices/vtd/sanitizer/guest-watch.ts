import {
  PASID_CACHE_GRANULARITY,
  type PasidCacheDescriptor,
  type ValidDescriptor,
} from '../../spec/vtd/invalidation.ts';
import { describePasidEntry, type PasidEntry, PGTT, pasidEntry } from '../../spec/vtd/pasid.ts';
import type { CacheEntry } from './cache-entry.ts';
import type { Diagnosis } from './diagnosis.ts';
import type { Trail } from './history.ts';
import type { Scene } from './scene.ts';
import type { Change } from './tables.ts';
import { UnitWatch, type WatchedUnit } from './unit-watch.ts';

/** The unit beneath a virtual one, as far as the virtual one's watch needs it. */
export interface Beneath {
  heldAfter(change: Change): CacheEntry[];
  diagnose(change: Change, held: readonly CacheEntry[]): Diagnosis;
  readonly structures: { entry(sid: number, pasid: number): readonly bigint[] };
  readonly name: string;
}

/** The function behind a virtual unit: its requester id in the guest and on the host. */
export interface Assigned {
  readonly guest: number;
  readonly host: number;
}

/**
 * The watch of a virtual unit. Nothing translates through it: what its caches may hold is what the
 * host's unit filled for the guest, with the guest's own tags. An invalidation that is complete here
 * must have reached the host.
 */
export class GuestWatch extends UnitWatch {
  readonly #beneath: Beneath;
  readonly #assigned: Assigned;
  /** PASIDs whose entries the guest invalidated since the last wait; null: all. */
  #pasids: Set<number> | null = new Set();
  /** Descriptors since the last wait. */
  readonly #underway: { readonly d: ValidDescriptor; readonly order: number }[] = [];
  #refused = false;
  #enabled = false;

  constructor(scene: Scene, unit: WatchedUnit, beneath: Beneath, assigned: Assigned) {
    super(scene, unit);
    this.#beneath = beneath;
    this.#assigned = assigned;
  }

  protected tablesOf({ PGTT: kind, FSPTPTR }: PasidEntry): { gfn?: number } {
    return kind === PGTT.FIRST_STAGE ? { gfn: FSPTPTR / 4096 } : {};
  }

  /** What the virtual unit is told comes from the guest, through its VMM. */
  protected override culprit(): string {
    return this.software;
  }

  protected get software(): string {
    return `guest kernel (${this.name})`;
  }

  /** The host's unit filled something with the guest's first stage. */
  filled(twin: CacheEntry, gfn: number): void {
    const sid = this.#assigned.guest;
    const pasid = Math.max(twin.pasid, 0);
    const { DID } = pasidEntry.decode(this.structures.entry(sid, pasid));
    const above = this.structureEntries(sid, pasid, this.findPasid(sid, pasid)?.did ?? DID);
    const entry = above[1];
    if (entry === undefined) return;
    const isDevice = twin.cache === 'device-TLB';
    const path = twin.path.filter(({ kind }) => kind === 'first-stage');
    const iotlb = isDevice
      ? this.shadow.find('IOTLB', twin.key.replace(`device-TLB ${twin.sid}`, `IOTLB ${sid}`))
      : undefined;
    const made = this.take({
      cache: twin.cache,
      sid,
      pasid: twin.pasid,
      priv: twin.priv,
      did: isDevice ? -1 : entry.did,
      tag: isDevice ? -1 : pasid,
      firstStage: true,
      level: twin.level,
      page: twin.page,
      pages: twin.pages,
      gfn,
      path: [...entry.path, ...path],
      upstream: iotlb === undefined ? above : [...above, iotlb],
    });
    made.twin = twin;
  }

  /** A frame of guest memory went back to the guest's allocator. */
  freed(gpa: number): void {
    const gfn = Math.floor(gpa / 4096);
    const entries = this.shadow.leadingToGuest(gfn);
    for (const entry of this.unconfirmed) {
      if (gfn >= entry.gfn && gfn < entry.gfn + entry.frames) entries.push(entry);
    }
    if (entries.length > 0) this.released(entries, 'guest memory freed', gpa);
  }

  /** The guest has translation on. */
  get isRunning(): boolean {
    return this.#enabled;
  }

  /** The guest is no more, without having turned anything off. */
  abandon(): void {
    this.forget();
  }

  /** The host refused something that the VMM asked for the guest, who may then have nothing there. */
  refused(): void {
    this.#refused = true;
  }

  walked(): void {
    // A virtual unit translates nothing.
  }

  issued(): void {
    // Nor does it reach devices.
  }

  override descriptor(...[d, address]: Parameters<UnitWatch['descriptor']>): void {
    if (d.type === 'pc') this.#noteEntries(d);
    super.descriptor(d, address);
    const order = this.scene.order.value;
    if (this.#underway.push({ d, order }) > MOST_UNDERWAY) this.#underway.shift();
  }

  override remapped(change: 'root' | 'on' | 'off'): void {
    if (change !== 'root') this.#enabled = change === 'on';
    super.remapped(change);
  }

  override waited(drainPageRequests: boolean): void {
    // The host may have filled something until the VMM had told it.
    for (const { d, order } of this.#underway.splice(0)) this.invalidate(d, order);
    super.waited(drainPageRequests);
    this.#checkAttachments();
  }

  protected deviceInvalidated(entries: readonly CacheEntry[]): void {
    for (const entry of entries) this.drop(entry);
  }

  /** The guest knows its invalidation complete: the host's caches must be rid of it too. */
  protected confirmed(entries: readonly CacheEntry[]): void {
    const told = new Set<Change>();
    for (const entry of entries) {
      const { twin } = entry;
      if (twin?.live !== true || twin.told) continue;
      const change = twin.changes.find((one) => entry.changes.includes(one));
      if (change === undefined || told.has(change)) continue;
      told.add(change);
      this.#fileBeneath(change, twin);
    }
  }

  #fileBeneath(change: Change, twin: CacheEntry): void {
    const beneath = this.#beneath;
    const held = beneath.heldAfter(change).filter(({ cache }) => cache === twin.cache);
    for (const one of [twin, ...held]) one.told = true;
    const found = beneath.diagnose(change, [twin, ...held.filter((one) => one !== twin)]);
    const untold = found.kind === 'missing-invalidation';
    const asked = found.wrong === null ? null : requestOf(found.wrong.trail);
    const byVmm = untold || (asked !== null && !asksFor(asked, twin));
    const call = 'IOMMU_HWPT_INVALIDATE of the nested HWPT: ';
    this.scene.file({
      kind: untold ? 'not-forwarded' : found.kind,
      unit: beneath.name,
      sid: this.#assigned.host,
      pasid: twin.pasid,
      address: twin.page * 4096,
      entry: twin,
      change,
      acted: { what: "the guest's wait completed", trail: this.scene.here() },
      who: byVmm ? `VMM (${this.name})` : 'host kernel',
      missing: byVmm ? call + found.missing : found.missing,
      instead: found.instead,
    });
  }

  #noteEntries(d: PasidCacheDescriptor): void {
    if (d.granularity !== PASID_CACHE_GRANULARITY.PASID) this.#pasids = null;
    else this.#pasids?.add(d.pasid);
  }

  /** What the guest's PASID entries say must be what the host has attached. */
  #checkAttachments(): void {
    const pasids = this.#pasids;
    this.#pasids = new Set();
    const refused = this.#refused;
    this.#refused = false;
    if (!this.#enabled) return;
    for (const pasid of pasids ?? []) if (pasid !== 0) this.#checkAttachment(pasid, refused);
  }

  /** @param refused the host refused something: that there is nothing is right then */
  #checkAttachment(pasid: number, refused: boolean): void {
    const { guest, host } = this.#assigned;
    const wanted = this.structures.entry(guest, pasid);
    const there = this.#beneath.structures.entry(host, pasid);
    const [want, have] = [pasidEntry.decode(wanted), pasidEntry.decode(there)];
    const wantsTable = want.P === 1 && want.PGTT === PGTT.FIRST_STAGE;
    const isRight = wantsTable
      ? have.P === 1 && have.FSPTPTR === want.FSPTPTR
      : want.P === 1 || have.P === 0;
    if (isRight || (refused && have.P === 0)) return;
    const call = want.P === 0 ? 'DETACH' : 'ATTACH';
    this.scene.file({
      kind: want.P === 0 ? 'pasid-use-after-detach' : 'attachment-out-of-date',
      unit: this.#beneath.name,
      sid: host,
      pasid,
      address: 0,
      entry: null,
      change: null,
      acted: {
        what: `the guest's wait completed; its entry: ${describePasidEntry(wanted)}, the host's: ${describePasidEntry(there)}`,
        trail: this.scene.here(),
      },
      who: `VMM (${this.name})`,
      missing: `VFIO_DEVICE_${call}_IOMMUFD_PT of PASID ${pasid}`,
    });
  }
}

/** Descriptors between two waits that are remembered. */
const MOST_UNDERWAY = 256;

/** What the VMM asked the host to invalidate: from the event of its call on the trail. */
function requestOf(trail: Trail | null): Trail | null {
  for (let at = trail; at !== null; at = at.parent) {
    if (at.def.layer === 'vmm' && 'pages' in at.values && 'all' in at.values) return at;
  }
  return null;
}

/** Whether that call named the page of the entry. */
function asksFor({ values }: Trail, entry: CacheEntry): boolean {
  if (values['all'] === 1) return true;
  const first = Number(values['address']) / 4096;
  return entry.page >= first && entry.page < first + Number(values['pages']);
}
