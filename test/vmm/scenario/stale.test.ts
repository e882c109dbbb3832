/** Caches are honest: what was not invalidated is still served, what was is not. */
import test from 'ava';
import { COMPLETION_BYTES, DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { FS } from '../../../devices/spec/x86/paging.ts';
import { id } from '../../host/kernel/iommufd/client.ts';
import {
  Accelerator,
  bootRig,
  clearRecord,
  GuestRam,
  isAll,
  makeSpace,
  NOTHING,
  PAGE,
  type Rig,
  type Space,
  WQ,
} from './rig.ts';

const PASID = 5;
const VA = 0x7f00_0000_0000n;
const LEAF = FS.P | FS.RW | FS.US;

interface World {
  readonly rig: Rig;
  readonly one: Accelerator;
  readonly ram: GuestRam;
  readonly space: Space;
  readonly hwpt: number;
  /** A page of 0x22 that the table does not name yet. */
  readonly moved: number;
}

function world(): World {
  const rig = bootRig();
  const one = new Accelerator(rig);
  const ram = new GuestRam(one.user);
  const { parent } = one.parentOf(ram);
  const space = makeSpace(ram, PASID, VA, 0x11);
  const hwpt = id(one.nested(parent, space.table.root));
  one.bringUp();
  id(one.device.attachPasid(PASID, hwpt));
  const moved = ram.take();
  ram.fill(moved, PAGE, 0x22);
  return { rig, one, ram, space, hwpt, moved };
}

/** Copies the source page: the value that arrived, or the status. */
function copied(w: World, wq: number): string {
  const { ram, space, one } = w;
  const { source, target, record } = space;
  clearRecord(ram, space);
  ram.fill(target.gpa, PAGE, 0);
  const values = { pasid: PASID, source: source.va, destination: target.va, size: PAGE };
  const seen = (): Uint8Array => ram.read(record.gpa, COMPLETION_BYTES);
  const { status } = one.move({ ...values, record: record.va }, seen, wq);
  const bytes = ram.read(target.gpa, PAGE);
  if (status !== DsaStatus.SUCCESS) return isAll(bytes, 0) ? `status ${status}` : 'bytes moved';
  return isAll(bytes, bytes[0]!) ? `0x${bytes[0]!.toString(16)}` : 'mixed';
}

/** `wq`: through ATS the device-TLB serves it; without ATS the unit's IOTLB does. */
for (const [wq, cache] of [
  [WQ.SHARED, 'device-TLB'],
  [WQ.NO_ATS, 'IOTLB'],
] as const) {
  test(`${cache}: a changed mapping is stale until IOMMU_HWPT_INVALIDATE`, (t) => {
    const w = world();
    t.is(copied(w, wq), '0x11');
    w.ram.write64(w.space.source.leaf, BigInt(w.moved) | LEAF);
    t.is(copied(w, wq), '0x11', 'nobody invalidated');
    t.is(copied(w, wq), '0x11', 'and it stays so');
    t.is(w.one.invalidate(w.hwpt, w.space.source.va, 1n), 'OK');
    t.is(copied(w, wq), '0x22');
    w.one.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
  });

  test(`${cache}: an unmapped page is served until the invalidation, then it is a fault`, (t) => {
    const w = world();
    t.is(copied(w, wq), '0x11');
    w.ram.write64(w.space.source.leaf, 0n);
    t.is(copied(w, wq), '0x11');
    t.is(w.one.invalidate(w.hwpt), 'OK');
    t.is(copied(w, wq), `status ${DsaStatus.PAGE_FAULT}`);
    w.ram.write64(w.space.source.leaf, BigInt(w.moved) | LEAF);
    t.is(copied(w, wq), '0x22', 'what is not present is not cached');
    w.one.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
  });

  test(`${cache}: an invalidation of another page, or of another HWPT, does not help`, (t) => {
    const w = world();
    t.is(copied(w, wq), '0x11');
    w.ram.write64(w.space.source.leaf, BigInt(w.moved) | LEAF);
    t.is(w.one.invalidate(w.hwpt, VA + 0x10_0000n, 1n), 'OK');
    t.is(copied(w, wq), '0x11');
    const { parent } = w.one.parentOf(w.ram);
    const other = id(w.one.nested(parent, w.space.table.root));
    t.is(w.one.invalidate(other), 'OK');
    t.is(copied(w, wq), '0x11');
    t.is(w.one.invalidate(w.hwpt, VA, 1n), 'OK');
    t.is(copied(w, wq), '0x22');
    w.one.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
  });

  test(`${cache}: write permission that went is honoured after the invalidation`, (t) => {
    const w = world();
    t.is(copied(w, wq), '0x11');
    const { leaf, gpa } = w.space.target;
    w.ram.write64(leaf, BigInt(gpa) | FS.P | FS.US | FS.A | FS.D);
    t.is(copied(w, wq), '0x11');
    t.is(w.one.invalidate(w.hwpt), 'OK');
    t.is(copied(w, wq), `status ${DsaStatus.PAGE_FAULT}`);
    w.one.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
  });

  test(`${cache}: IOAS_UNMAP of the second stage takes the page away at once`, (t) => {
    const rig = bootRig();
    const one = new Accelerator(rig);
    const ram = new GuestRam(one.user);
    const { ioas, parent } = one.parentOf(ram);
    const space = makeSpace(ram, PASID, VA, 0x11);
    const extra = one.user.map(PAGE);
    one.user.write(extra, new Uint8Array(PAGE).fill(0x44));
    const gpa = 0x4000_0000;
    t.is(one.client.map(ioas, extra, PAGE, gpa), 'OK');
    ram.write64(space.source.leaf, BigInt(gpa) | LEAF);
    const hwpt = id(one.nested(parent, space.table.root));
    one.bringUp();
    id(one.device.attachPasid(PASID, hwpt));
    const w: World = { rig, one, ram, space, hwpt, moved: 0 };
    t.is(copied(w, wq), '0x44');
    const pins = rig.kernel.leftovers().pins;
    t.is(one.client.unmap(ioas, BigInt(gpa), BigInt(PAGE)), BigInt(PAGE));
    t.is(rig.kernel.leftovers().pins, pins - 1);
    t.is(copied(w, wq), `status ${DsaStatus.PAGE_FAULT}`);
    one.exit();
    t.deepEqual(rig.kernel.leftovers(), NOTHING);
  });
}
