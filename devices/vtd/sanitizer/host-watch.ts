import { AT } from '../../pci/fabric.ts';
import type { Descriptor } from '../../spec/vtd/invalidation.ts';
import { type PasidEntry, PGTT, pasidEntry, secondStageLevels } from '../../spec/vtd/pasid.ts';
import { levelPages, SS_LO } from '../../spec/x86/paging.ts';
import type { Walked } from '../observer.ts';
import type { CacheEntry } from './cache-entry.ts';
import type { GuestWatch } from './guest-watch.ts';
import { actorOf } from './history.ts';
import type { Change, TableEntry } from './tables.ts';
import { PATIENCE_NS, UnitWatch } from './unit-watch.ts';
import { pathOf, type Structure } from './walk-path.ts';

const FRAME = 0x000f_ffff_ffff_f000n;
/** log2 of the pages that a cached translation may cover, smallest first. */
const ORDERS = [0, 9, 18] as const;
/** Device-TLB entries that went last, to tell of one that is used after all. */
const REMEMBERED = 1024;

/** What the unit answered a request with. */
export interface Answer {
  readonly pfn: number;
  readonly shift: number;
}

/** Invalidate requests that a function has not confirmed. */
interface Flight {
  readonly descriptor: Descriptor;
  readonly entries: readonly CacheEntry[];
}

/** The watch of the host's silicon: it sees what devices do. */
export class HostWatch extends UnitWatch {
  /** Virtual units by the function whose requests they stand for. */
  readonly #guests = new Map<number, GuestWatch>();
  readonly #flights = new Map<string, Flight>();
  readonly #gone = new Map<string, CacheEntry>();
  /** Second stages of functions that stand for guests, also while the function has none. */
  readonly #secondStages = new Map<number, { readonly root: number; readonly levels: number }>();
  #descriptor: Descriptor | null = null;
  #issuing: readonly CacheEntry[] = [];

  protected tablesOf({ PGTT: kind, SSPTPTR, FSPTPTR }: PasidEntry): { frame?: number } {
    if (kind === PGTT.PASS_THROUGH) return {};
    return { frame: (kind === PGTT.FIRST_STAGE ? FSPTPTR : SSPTPTR) / 4096 };
  }

  protected get software(): string {
    return 'host kernel';
  }

  /** The requests of `sid` belong to a guest. */
  assign(sid: number, guest: GuestWatch): void {
    this.#guests.set(sid, guest);
  }

  override descriptor(...[d, address]: Parameters<UnitWatch['descriptor']>): void {
    this.#descriptor = d;
    super.descriptor(d, address);
  }

  walked(walk: Walked): void {
    const { sid, pasid, how, outcome } = walk;
    const above = this.structureEntries(sid, how.pasid, how.did);
    const structurePath = above[1]?.path ?? [];
    const { did, pasid: tag } = how;
    const from: CacheEntry[] = [...above];
    const found = pathOf(walk, this.scene.tables, (stage, level, page) => {
      const known = this.#structure(stage, level, page, did, tag);
      if (known === undefined) return [];
      from.push(known);
      return known.path.filter(({ isPage }) => isPage);
    });
    const common = { sid, pasid, did, upstream: from };
    const guest = how.pgtt === PGTT.NESTED ? this.#guests.get(sid) : undefined;
    for (const made of found.structures) {
      const first = made.stage === 'first';
      const { level, page, pages, frame } = made;
      const taken = this.take({
        ...common,
        cache: first ? 'first-stage structure cache' : 'second-stage structure cache',
        tag: first ? tag : -1,
        firstStage: first,
        level,
        page,
        pages,
        frame,
        path: [...structurePath, ...made.path],
      });
      if (first) guest?.filled(taken, made.gfn);
    }
    if (how.pgtt === PGTT.PASS_THROUGH) return;
    const pages = 2 ** (outcome.shift - 12);
    const inside = walk.page % pages;
    const entry = this.take({
      ...common,
      cache: 'IOTLB',
      priv: walk.priv && pasid >= 0,
      tag,
      firstStage: how.pgtt !== PGTT.SECOND_STAGE,
      page: walk.page - inside,
      pages,
      frame: outcome.frame - inside,
      gfn: found.gfn >= 0 ? found.gfn - inside : -1,
      path: [...structurePath, ...found.path],
    });
    guest?.filled(entry, entry.gfn);
  }

  /** The unit translated an untranslated request, or answered a translation request. */
  translated(
    sid: number,
    pasid: number,
    priv: boolean,
    type: number,
    page: number,
    write: boolean,
    answer: Answer,
  ): void {
    const iotlb = this.#iotlb(sid, pasid, priv && pasid >= 0, page);
    if (iotlb !== undefined)
      this.#use(iotlb, type === AT.TRANSLATION ? 'translation request' : 'DMA');
    if (type === AT.TRANSLATION) this.#fillDevice(sid, pasid, priv, page, answer, iotlb);
    else this.#reach(answer.pfn, write, iotlb ?? null);
  }

  /** The unit let a request with a translated address pass. */
  passed(sid: number, frame: number, write: boolean): void {
    const entries = this.shadow.devicesUsing(sid, frame);
    const [entry] = entries;
    if (entry === undefined) this.#unknown(sid, frame);
    else if (entries.every(({ changes }) => changes.length > 0)) this.#use(entry, 'DMA');
    this.#reach(frame, write, entry ?? null);
  }

  /** A function's device-TLB is off: it holds nothing any more (PCIe ATS; a reset turns it off). */
  deviceForgot(sid: number): void {
    for (const entry of [...this.shadow.all()]) {
      if (entry.cache !== 'device-TLB' || entry.sid !== sid) continue;
      this.shadow.remove(entry);
      this.#remember(entry);
    }
  }

  issued(sid: number, itag: number): void {
    const descriptor = this.#descriptor;
    if (descriptor === null) return;
    this.#flights.set(`${sid} ${itag}`, { descriptor, entries: this.#issuing });
  }

  /** A function confirmed the invalidate request with a tag. */
  deviceConfirmed(sid: number, itag: number): void {
    const flight = this.#flights.get(`${sid} ${itag}`);
    this.#flights.delete(`${sid} ${itag}`);
    for (const entry of flight?.entries ?? []) {
      this.drop(entry);
      this.#remember(entry);
    }
  }

  /** Memory went back to whoever deals it, or is held for devices no longer. */
  freed(frame: number, what: string): void {
    for (const [sid, { root }] of this.#secondStages) {
      if (root === frame * 4096) this.#secondStages.delete(sid);
    }
    const entries = this.shadow.leadingTo(frame);
    for (const entry of this.unconfirmed) {
      if (frame >= entry.frame && frame < entry.frame + entry.frames) entries.push(entry);
    }
    if (entries.length > 0) this.released(entries, what, frame * 4096);
  }

  /** Host physical address of a guest physical one, through the second stage of a function. */
  guestAddress(sid: number, gpa: number): number {
    const { PGTT: kind, SSPTPTR, AW } = pasidEntry.decode(this.structures.entry(sid, 0));
    if (kind === PGTT.SECOND_STAGE || kind === PGTT.NESTED) {
      this.#secondStages.set(sid, { root: SSPTPTR, levels: secondStageLevels(AW) });
    }
    const stage = this.#secondStages.get(sid);
    if (stage === undefined) return -1;
    const gfn = Math.floor(gpa / 4096);
    let table = stage.root;
    for (let level = stage.levels; level > 0; level--) {
      const slot = table + 8 * (Math.floor(gfn / levelPages(level)) % 512);
      const [entry] = this.structures.words(slot, 1) as [bigint];
      if ((entry & BigInt(SS_LO.R | SS_LO.W)) === 0n) return -1;
      const target = Number(entry & FRAME);
      if (level === 1 || (entry & BigInt(SS_LO.PS)) !== 0n) {
        const span = levelPages(level) * 4096;
        return target - (target % span) + (gpa % span);
      }
      table = target;
    }
    return -1;
  }

  protected deviceInvalidated(entries: readonly CacheEntry[]): void {
    this.#issuing = entries;
  }

  protected confirmed(): void {
    // What the drivers of the host rely on shows at its use: memory freed, a system call's return.
  }

  protected override inFlight(): Descriptor[] {
    return [...this.#flights.values()].map(({ descriptor }) => descriptor);
  }

  /** The first stage is its user's: who else should have told the host? */
  protected override blame(change: Change): string {
    if (change.entry.kind !== 'first-stage') return super.blame(change);
    const who = actorOf(change.trail);
    return who.startsWith('guest') ? `VMM of the ${who}` : 'user program (IOMMU_HWPT_INVALIDATE)';
  }

  #structure(
    stage: Structure['stage'],
    level: number,
    page: number,
    did: number,
    tag: number,
  ): CacheEntry | undefined {
    const first = page - (page % 2 ** (9 * (level - 1)));
    return stage === 'first'
      ? this.shadow.find(FIRST, `${FIRST} ${did} ${tag} ${level} ${first}`)
      : this.shadow.find(SECOND, `${SECOND} ${did} -1 ${level} ${first}`);
  }

  #iotlb(sid: number, pasid: number, priv: boolean, page: number): CacheEntry | undefined {
    for (const order of ORDERS) {
      const pages = 2 ** order;
      const key = `IOTLB ${sid} ${pasid} ${priv ? 1 : 0} 0 ${page - (page % pages)} ${pages}`;
      const entry = this.shadow.find('IOTLB', key);
      if (entry !== undefined) return entry;
    }
    return undefined;
  }

  #fillDevice(
    sid: number,
    pasid: number,
    priv: boolean,
    page: number,
    { pfn, shift }: Answer,
    iotlb: CacheEntry | undefined,
  ): void {
    const above = iotlb ?? this.#passThrough(sid, Math.max(pasid, 0));
    const pages = 2 ** (shift - 12);
    const inside = page % pages;
    const path: readonly TableEntry[] = above?.path ?? [];
    const entry = this.take({
      cache: 'device-TLB',
      sid,
      pasid,
      priv,
      page: page - inside,
      pages,
      // Pass-through leads everywhere on purpose.
      frame: iotlb === undefined ? -1 : pfn - inside,
      gfn: iotlb === undefined || iotlb.gfn < 0 ? -1 : iotlb.gfn + (page - inside - iotlb.page),
      target: pfn - inside,
      path,
      upstream: above === undefined ? [] : [above, ...above.upstream],
    });
    if (iotlb !== undefined && iotlb.gfn >= 0) this.#guests.get(sid)?.filled(entry, entry.gfn);
  }

  /** The PASID's entry, whose translations the unit does not cache. */
  #passThrough(sid: number, pasid: number): CacheEntry | undefined {
    const { DID } = pasidEntry.decode(this.structures.entry(sid, pasid));
    return this.structureEntries(sid, pasid, DID)[1];
  }

  /** A translation was used. */
  #use(entry: CacheEntry, what: string): void {
    const { scene } = this;
    for (const change of [...entry.changes]) {
      const ns = scene.now();
      change.used ??= {
        trail: scene.here(),
        ns,
        what: `${what} with the stale ${entry.cache} entry`,
      };
      if (ns - change.ns <= PATIENCE_NS) continue;
      const acted = { what: `${what}, ${ns - change.ns} ns after the change`, trail: scene.here() };
      this.fileStale(change, this.heldAfter(change), acted);
    }
  }

  /** A request is about to reach a frame. */
  #reach(frame: number, write: boolean, entry: CacheEntry | null): void {
    const { scene } = this;
    if (write) scene.written(frame);
    if (!scene.isFree(frame)) return;
    const change = entry?.changes[0] ?? null;
    const trail = scene.here();
    scene.file({
      kind: 'dma-to-freed-memory',
      unit: this.name,
      sid: entry?.sid ?? 0,
      pasid: entry?.pasid ?? -1,
      address: frame * 4096,
      entry,
      change,
      acted: { what: 'DMA to a frame that is free', trail },
      who: change === null ? this.software : this.blame(change),
      missing: 'unmap, invalidate and wait before the memory goes back',
    });
  }

  /** A device used a translation that it does not have, as far as anybody can know. */
  #unknown(sid: number, frame: number): void {
    if (this.shadow.forgotten.has('device-TLB')) return;
    const entry = this.#gone.get(`${sid} ${frame}`) ?? null;
    this.scene.file({
      kind: 'stale-device-tlb',
      unit: this.name,
      sid,
      pasid: entry?.pasid ?? -1,
      address: frame * 4096,
      entry,
      change: entry?.changes[0] ?? null,
      acted: {
        what: 'DMA with a translation that was confirmed as dropped',
        trail: this.scene.here(),
      },
      who: 'device',
      missing: 'the device must drop what an invalidate request names before it confirms',
    });
  }

  #remember(entry: CacheEntry): void {
    this.#gone.set(`${entry.sid} ${entry.target}`, entry);
    if (this.#gone.size <= REMEMBERED) return;
    for (const oldest of this.#gone.keys()) {
      this.#gone.delete(oldest);
      break;
    }
  }
}

const FIRST = 'first-stage structure cache';
const SECOND = 'second-stage structure cache';
