/**
 * What /dev/iommu should do, in plain data and in the words of the uAPI's documentation: objects with
 * ids, areas, attachments. Users of an object are not counted but looked for.
 */
import type { AreaModel, Backing, IoasModel, Range } from './areas.ts';
import {
  allow,
  emptyIoas,
  misaligned,
  outside,
  PAGE,
  pagesOf,
  pinError,
  place,
  READ,
  Refusal,
  refuseIf,
  reserve,
  slices,
  unreserve,
  WRITE,
} from './areas.ts';
import type { DeviceModel, DriverFacts, HwptFlags, HwptModel, State, Thing } from './things.ts';
import { usersOf } from './things.ts';

export type { HwptFlags } from './things.ts';

export const FAULTY_PASID = 1024;

export class Model {
  state: State = { things: new Map(), mmAccounting: false };
  readonly backing: Backing;
  readonly driver: DriverFacts;

  constructor(backing: Backing, driver: DriverFacts) {
    this.backing = backing;
    this.driver = driver;
  }

  /** Does an operation wholly or not at all. Returns its result, or the refusal. */
  attempt<T>(operation: () => T): T | Refusal {
    const before = structuredClone(this.state);
    try {
      return operation();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (!error.partly) this.state = before;
      return error;
    }
  }

  all<K extends Thing['kind']>(kind: K): [number, Extract<Thing, { kind: K }>][] {
    const found = [...this.state.things].filter(([, thing]) => thing.kind === kind);
    return (found as [number, Extract<Thing, { kind: K }>][]).sort(([a], [b]) => a - b);
  }

  get<K extends Thing['kind']>(id: number, kind: K): Extract<Thing, { kind: K }> {
    const thing = this.state.things.get(id);
    if (thing?.kind !== kind) throw new Refusal('ENOENT');
    return thing as Extract<Thing, { kind: K }>;
  }

  alignment(id: number, huge = this.get(id, 'ioas').huge): number {
    const pinned = this.all('access').some(([, access]) => access.ioas === id && access.pins);
    return Math.max(
      huge && !pinned ? 1 : PAGE,
      this.domains(id).length > 0 ? this.driver.pageSize : 1,
    );
  }

  /** Ids of the paging HWPTs of an IOAS. */
  domains(ioas: number): number[] {
    return this.all('hwpt').flatMap(([id, hwpt]) =>
      hwpt.parent === null && hwpt.ioas === ioas ? [id] : [],
    );
  }

  /** Pages that are pinned now. */
  pinned(): Set<string> {
    const pages = new Set<string>();
    for (const [id, ioas] of this.all('ioas')) {
      if (this.domains(id).length === 0) continue;
      for (const area of ioas.areas) for (const page of pagesOf(area)) pages.add(page);
    }
    for (const [, access] of this.all('access')) {
      for (const { iova, length } of access.items) {
        const range = { start: iova, last: iova + length - 1 };
        const { list } = slices(this.get(access.ioas, 'ioas'), range);
        for (const area of list) for (const page of pagesOf(area)) pages.add(page);
      }
    }
    return pages;
  }

  ioasAlloc(): number {
    return this.#add({ kind: 'ioas', ...emptyIoas() });
  }

  map(
    id: number,
    source: { readonly kind: AreaModel['kind']; readonly from: number; readonly length: number },
    prot: number,
    iova: number | null,
  ): number {
    refuseIf(prot === 0, 'EINVAL');
    const ioas = this.get(id, 'ioas');
    const { kind, from, length } = source;
    refuseIf(length === 0, 'EINVAL');
    const writable = (prot & WRITE) !== 0;
    const part: AreaModel = { start: 0, last: length - 1, kind, from, prot, writable };
    return this.#place(id, ioas, [part], prot, iova);
  }

  copy(
    to: number,
    from: number,
    source: { readonly iova: number; readonly length: number },
    prot: number,
    iova: number | null,
  ): number {
    refuseIf(prot === 0, 'EINVAL');
    const origin = this.get(from, 'ioas');
    refuseIf(source.length === 0, 'EINVAL');
    const range = { start: source.iova, last: source.iova + source.length - 1 };
    const { list, whole } = slices(origin, range);
    refuseIf(!whole, 'ENOENT');
    return this.#place(to, this.get(to, 'ioas'), list, prot, iova);
  }

  /** Bytes unmapped. */
  unmap(id: number, range: Range | 'all'): number {
    const ioas = this.get(id, 'ioas');
    let bytes = 0;
    for (const area of [...ioas.areas]) {
      if (range !== 'all') {
        if (area.last < range.start || area.start > range.last) continue;
        if (area.start < range.start || area.last > range.last) throw new Refusal('ENOENT', true);
      }
      this.#unpin(id, area);
      ioas.areas.splice(ioas.areas.indexOf(area), 1);
      for (const hwpt of this.domains(id)) {
        const model = this.get(hwpt, 'hwpt');
        model.dirty = model.dirty.filter((iova) => iova < area.start || iova > area.last);
      }
      bytes += area.last - area.start + 1;
    }
    refuseIf(bytes === 0 && range !== 'all', 'ENOENT');
    return bytes;
  }

  allow(id: number, ranges: readonly Range[]): void {
    allow(this.get(id, 'ioas'), ranges);
  }

  addReserved(id: number, range: Range): void {
    refuseIf(range.last < range.start, 'EINVAL');
    reserve(this.get(id, 'ioas'), 'test', [range]);
  }

  hugePages(id: number, value: number): void {
    const ioas = this.get(id, 'ioas');
    refuseIf(value > 1, 'EINVAL');
    const on = value === 1;
    if (on === ioas.huge) return;
    if (!on) {
      refuseIf(this.domains(id).length > 0 && ioas.areas.length > 0, 'EINVAL');
      refuseIf(misaligned(ioas, this.alignment(id, false)), 'EADDRINUSE');
    }
    ioas.huge = on;
  }

  rlimitMode(value: number): void {
    refuseIf(this.state.things.size > 0, 'EBUSY');
    refuseIf(value > 1, 'EINVAL');
    this.state.mmAccounting = value === 1;
  }

  changeProcess(): void {
    const areas = this.all('ioas').flatMap(([, ioas]) => ioas.areas);
    refuseIf(
      areas.some(({ kind }) => kind !== 'file'),
      'EINVAL',
    );
  }

  faultQueue(): number {
    return this.#add({ kind: 'fault', open: true });
  }

  closeFaultQueue(id: number): void {
    this.get(id, 'fault').open = false;
  }

  hwpt(device: number, pt: number, flags: HwptFlags): number {
    const dev = this.get(device, 'device');
    const thing = this.state.things.get(pt);
    refuseIf(thing?.kind !== 'ioas', 'EINVAL');
    refuseIf(flags.dirty === true && !dev.tracksDirty, 'EOPNOTSUPP');
    refuseIf(flags.fault !== undefined && flags.nestParent === true, 'EOPNOTSUPP');
    const id = this.#addPaging(pt, flags, false);
    if (flags.fault !== undefined) this.get(flags.fault, 'fault');
    return id;
  }

  nested(device: number, pt: number, flags: HwptFlags): number {
    this.get(device, 'device');
    const parent = this.state.things.get(pt);
    if (parent?.kind !== 'hwpt' || parent.parent !== null) throw new Refusal('EINVAL');
    refuseIf(flags.nestParent === true || flags.dirty === true, 'EOPNOTSUPP');
    refuseIf(parent.auto || !parent.nestParent, 'EINVAL');
    if (flags.fault !== undefined) this.get(flags.fault, 'fault');
    return this.#addHwpt(pt, parent.ioas, flags, false);
  }

  /** A mock device, bound and attached. Returns the ids of it, its DEVICE and the HWPT. */
  mockDevice(
    pt: number,
    facts: { readonly pasids: boolean; readonly dirty: boolean },
  ): { stdev: number; device: number; hwpt: number } {
    // Its id is taken before it can be found.
    const stdev = this.#add({ kind: 'stdev', device: 0 });
    const device = this.bind(facts.pasids ? 2 ** 20 : 1, facts.dirty);
    this.state.things.set(stdev, { kind: 'stdev', device });
    refuseIf(pt === stdev, 'ENOENT');
    return { stdev, device, hwpt: this.attach(device, 0, pt) };
  }

  bind(maxPasids: number, tracksDirty: boolean): number {
    return this.#add({ kind: 'device', maxPasids, tracksDirty, slots: {}, faulty: false });
  }

  /** Its owner gives a device back; what is attached is detached. */
  unbind(id: number): void {
    const device = this.get(id, 'device');
    const pasids = Object.keys(device.slots).map(Number);
    for (const pasid of pasids.sort((a, b) => b - a)) this.detach(id, pasid);
    this.state.things.delete(id);
  }

  /** The id of the HWPT. */
  attach(device: number, pasid: number, pt: number): number {
    return this.#choose(pt, (hwpt) => this.#attachTo(device, pasid, hwpt), false);
  }

  replace(device: number, pasid: number, pt: number): number {
    const { slots } = this.get(device, 'device');
    const old = slots[pasid];
    const id = this.#choose(pt, (hwpt) => this.#replaceBy(device, pasid, hwpt), true);
    if (old !== undefined) this.#dropAuto(old);
    return id;
  }

  detach(device: number, pasid: number): void {
    const dev = this.get(device, 'device');
    const old = dev.slots[pasid];
    if (old === undefined) return;
    if (pasid === FAULTY_PASID) dev.faulty = false;
    Reflect.deleteProperty(dev.slots, pasid);
    if (pasid === 0) unreserve(this.#ioasOf(old), `device ${device}`);
    this.#dropAuto(old);
  }

  access(ioas: number, pins: boolean): number {
    // The access has its id before the IOAS is looked for.
    const id = this.#add({ kind: 'access', pins, ioas: 0, items: [], nextItem: 0 });
    refuseIf(ioas === id, 'ENOENT');
    this.#checkAccess(ioas, pins);
    this.get(id, 'access').ioas = ioas;
    return id;
  }

  moveAccess(id: number, ioas: number): void {
    const access = this.get(id, 'access');
    this.get(ioas, 'ioas');
    if (access.ioas === ioas) return;
    this.#checkAccess(ioas, access.pins);
    access.items = [];
    access.ioas = ioas;
  }

  /** The number of the pin. */
  pin(id: number, range: { readonly iova: number; readonly length: number }, write: boolean) {
    const access = this.get(id, 'access');
    refuseIf(!access.pins, 'EOPNOTSUPP');
    refuseIf(range.length === 0, 'EINVAL');
    const last = range.iova + range.length - 1;
    const { list, whole } = slices(this.get(access.ioas, 'ioas'), { start: range.iova, last });
    for (const area of list) {
      const end = area.from + (area.last - area.start) + 1;
      refuseIf(area.from % PAGE !== 0 || (area.last < last && end % PAGE !== 0), 'EINVAL');
      refuseIf((area.prot & (write ? WRITE : READ)) === 0, 'EPERM');
      const error = pinError(area, this.backing);
      if (error !== null) throw new Refusal(error);
    }
    refuseIf(!whole, 'ENOENT');
    access.items.push({ id: access.nextItem, ...range });
    return access.nextItem++;
  }

  unpin(id: number, item: number): void {
    const access = this.get(id, 'access');
    refuseIf(!access.items.some((one) => one.id === item), 'ENOENT');
    access.items = access.items.filter((one) => one.id !== item);
  }

  /** Which bytes an access reads or writes, in order. */
  readWrite(id: number, range: Range, write: boolean): AreaModel[] {
    const { list, whole } = slices(this.get(this.get(id, 'access').ioas, 'ioas'), range);
    for (const area of list) {
      refuseIf((area.prot & (write ? WRITE : READ)) === 0, 'EPERM');
      const error = pinError(area, this.backing);
      if (error !== null) throw new Refusal(error);
    }
    refuseIf(!whole, 'ENOENT');
    return list;
  }

  closeAccess(id: number): void {
    this.get(id, 'access');
    this.state.things.delete(id);
  }

  setDirtyTracking(id: number, on: boolean): void {
    const hwpt = this.#paging(id);
    refuseIf(!hwpt.tracksDirty, 'EOPNOTSUPP');
    if (on) hwpt.dirty = [];
    hwpt.tracking = on;
  }

  /** The device writes at these IOVAs; how many are mapped. */
  makeDirty(id: number, iovas: readonly number[]): number {
    const hwpt = this.#paging(id);
    refuseIf(!hwpt.tracking, 'EINVAL');
    const { areas } = this.get(hwpt.ioas, 'ioas');
    const mapped = iovas.filter((iova) => areas.some((a) => a.start <= iova && iova <= a.last));
    hwpt.dirty.push(...mapped);
    return mapped.length;
  }

  /** Pages of the range that were written to, as far as it is mapped without a hole. */
  takeDirty(id: number, range: Range, clear: boolean): number[] {
    const hwpt = this.#paging(id);
    refuseIf(range.start % this.alignment(hwpt.ioas) !== 0, 'EINVAL');
    refuseIf(!hwpt.tracksDirty, 'EOPNOTSUPP');
    if (!hwpt.tracking) return [];
    const { list } = slices(this.get(hwpt.ioas, 'ioas'), range);
    const told = hwpt.dirty.filter((iova) => list.some((a) => a.start <= iova && iova <= a.last));
    if (clear) hwpt.dirty = hwpt.dirty.filter((iova) => !told.includes(iova));
    return [...new Set(told.map((iova) => Math.floor((iova - range.start) / PAGE)))];
  }

  destroy(id: number): void {
    const thing = this.state.things.get(id);
    if (thing === undefined) throw new Refusal('ENOENT');
    refuseIf(usersOf(this.state.things, id) > 0, 'EBUSY');
    if (thing.kind === 'stdev') this.unbind(thing.device);
    this.#remove(id);
  }

  #remove(id: number): void {
    const thing = this.state.things.get(id);
    if (thing?.kind === 'hwpt' && thing.parent === null) {
      unreserve(this.get(thing.ioas, 'ioas'), `domain ${id}`);
    }
    this.state.things.delete(id);
  }

  /** The lowest id that is free. */
  #add(thing: Thing): number {
    let id = 1;
    while (this.state.things.has(id)) id++;
    this.state.things.set(id, thing);
    return id;
  }

  #addHwpt(parent: number | null, ioas: number, flags: HwptFlags, auto: boolean): number {
    return this.#add({
      kind: 'hwpt',
      parent,
      ioas,
      pasid: flags.pasid === true,
      nestParent: flags.nestParent === true,
      tracksDirty: flags.dirty === true,
      auto,
      fault: flags.fault ?? null,
      tracking: false,
      dirty: [],
    });
  }

  #addPaging(ioas: number, flags: HwptFlags, auto: boolean, before?: (id: number) => void): number {
    const model = this.get(ioas, 'ioas');
    const id = this.#addHwpt(null, ioas, flags, auto);
    before?.(id);
    refuseIf(misaligned(model, this.alignment(ioas)), 'EADDRINUSE');
    reserve(model, `domain ${id}`, outside(this.driver.aperture));
    this.#checkPins(model.areas);
    return id;
  }

  #place(
    id: number,
    ioas: IoasModel,
    parts: readonly AreaModel[],
    prot: number,
    iova: number | null,
  ): number {
    const before = [...ioas.areas];
    const at = place(ioas, this.alignment(id), parts, prot, iova, this.backing);
    if (this.domains(id).length > 0) {
      this.#checkPins(ioas.areas.filter((area) => !before.includes(area)));
    }
    return at;
  }

  #checkPins(areas: readonly AreaModel[]): void {
    for (const area of areas) {
      const error = pinError(area, this.backing);
      if (error !== null) throw new Refusal(error);
    }
  }

  #checkAccess(ioas: number, pins: boolean): void {
    const model = this.get(ioas, 'ioas');
    refuseIf(pins && misaligned(model, PAGE), 'EADDRINUSE');
  }

  #unpin(ioas: number, area: Range): void {
    for (const [, access] of this.all('access')) {
      if (access.ioas !== ioas) continue;
      access.items = access.items.filter(
        ({ iova, length }) => iova > area.last || iova + length <= area.start,
      );
    }
  }

  #paging(id: number): HwptModel {
    const hwpt = this.get(id, 'hwpt');
    refuseIf(hwpt.parent !== null, 'ENOENT');
    return hwpt;
  }

  #ioasOf(hwpt: number): IoasModel {
    return this.get(this.get(hwpt, 'hwpt').ioas, 'ioas');
  }

  /** From an object to a HWPT: itself, or an auto-domain of the IOAS that can be used, or a new one. */
  #choose(pt: number, use: (hwpt: number) => void, fillFirst: boolean): number {
    const thing = this.state.things.get(pt);
    if (thing === undefined) throw new Refusal('ENOENT');
    if (thing.kind === 'hwpt') {
      use(pt);
      return pt;
    }
    refuseIf(thing.kind !== 'ioas', 'EINVAL');
    for (const id of this.#autos(pt)) {
      const result = this.attempt(() => use(id));
      if (!(result instanceof Refusal)) return id;
      if (result.message !== 'EINVAL') throw result;
    }
    const id = this.#addPaging(pt, {}, true, fillFirst ? undefined : use);
    if (fillFirst) use(id);
    this.autoOrder.set(id, ++this.#made);
    return id;
  }

  /** Auto-domains are tried in the order in which they were made. */
  readonly autoOrder = new Map<number, number>();
  #made = 0;

  #autos(ioas: number): number[] {
    const autos = this.all('hwpt').filter(([, hwpt]) => hwpt.auto && hwpt.ioas === ioas);
    const order = (id: number): number => this.autoOrder.get(id) ?? 0;
    return autos.map(([id]) => id).sort((a, b) => order(a) - order(b));
  }

  #attachTo(device: number, pasid: number, hwpt: number): void {
    const dev = this.get(device, 'device');
    refuseIf(dev.slots[pasid] !== undefined, 'EBUSY');
    if (pasid === 0) reserve(this.#ioasOf(hwpt), `device ${device}`, this.driver.reserved);
    this.#checkCompatible(dev, pasid, hwpt);
    this.#drive(dev, pasid, hwpt);
    dev.slots[pasid] = hwpt;
  }

  #replaceBy(device: number, pasid: number, hwpt: number): void {
    const dev = this.get(device, 'device');
    const old = dev.slots[pasid];
    if (old === undefined) throw new Refusal('EINVAL');
    if (old === hwpt) return;
    const moves = pasid === 0 && this.#ioasOf(old) !== this.#ioasOf(hwpt);
    if (moves) reserve(this.#ioasOf(hwpt), `device ${device}`, this.driver.reserved);
    this.#checkCompatible(dev, pasid, hwpt);
    this.#drive(dev, pasid, hwpt);
    if (moves) unreserve(this.#ioasOf(old), `device ${device}`);
    dev.slots[pasid] = hwpt;
  }

  #checkCompatible(dev: DeviceModel, pasid: number, hwpt: number): void {
    const usable = this.get(hwpt, 'hwpt').pasid;
    if (pasid === 0) {
      const others = Object.keys(dev.slots).some((slot) => slot !== '0');
      refuseIf(others && !usable, 'EINVAL');
      return;
    }
    const rid = dev.slots[0];
    refuseIf(rid !== undefined && !this.get(rid, 'hwpt').pasid, 'EINVAL');
    refuseIf(!usable, 'EINVAL');
  }

  #drive(dev: DeviceModel, pasid: number, hwpt: number): void {
    refuseIf(pasid >= dev.maxPasids, 'EINVAL');
    if (pasid === 0) {
      refuseIf(this.get(hwpt, 'hwpt').tracksDirty && !dev.tracksDirty, 'EINVAL');
    } else if (pasid === FAULTY_PASID && this.driver.faultyPasid) {
      const fails = dev.faulty;
      dev.faulty = !fails;
      // The driver remembers, though nothing else has changed.
      if (fails) throw new Refusal('ENOMEM', true);
    }
  }

  #dropAuto(hwpt: number): void {
    if (this.get(hwpt, 'hwpt').auto && usersOf(this.state.things, hwpt) === 0) this.#remove(hwpt);
  }
}
