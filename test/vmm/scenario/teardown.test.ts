/** The end in the middle of things: VMMs killed, PASIDs taken away, requests in flight. */
import test from 'ava';
import {
  COMPLETION_BYTES,
  DsaStatus,
  decodeCompletion,
} from '../../../devices/spec/dsa/completion.ts';
import { DescriptorFlag, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { DsaCommand } from '../../../devices/spec/dsa/registers.ts';
import { FS } from '../../../devices/spec/x86/paging.ts';
import {
  IOMMUFD_PAGE_RESP_SUCCESS,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
} from '../../../host/uapi/iommufd.ts';
import { id } from '../../host/kernel/iommufd/client.ts';
import {
  Accelerator,
  bootRig,
  clearRecord,
  GuestRam,
  isAll,
  isSame,
  makeSpace,
  NOTHING,
  PAGE,
  type Rig,
  type Space,
} from './rig.ts';
import { pattern, startVms, type Vms } from './vms.ts';

const PASID = 5;
const VA = 0x7f00_0000_0000n;
const LEAF = FS.P | FS.RW | FS.US;

/** Far more than any of these worlds needs to come to rest. */
const MAX_EVENTS = 50_000;

/** Steps until nothing is left to happen; how many there were. */
function settleBounded(rig: Rig): number {
  const { clock, scheduler } = rig.machine;
  let steps = 0;
  while (clock.step()) {
    if (++steps > MAX_EVENTS) throw new Error('the world does not come to rest');
  }
  scheduler.rethrow();
  return steps;
}

const INPUT = pattern(9000);

function twoVms(): Vms {
  return startVms({ guests: [undefined, undefined], input: INPUT, procs: 2 });
}

test('a VMM killed at any moment leaves nothing, and the other VM ends verified', (t) => {
  const whole = settleBounded(twoVms().rig);
  t.true(whole > 1000);
  const every = Math.floor(whole / 70);
  for (let k = 0; k < whole; k += every) {
    const { rig, vms } = twoVms();
    for (let i = 0; i < k; i++) rig.machine.clock.step();
    const [killed, other] = vms;
    killed!.process.kill();
    settleBounded(rig);
    t.true(killed!.process.gone, `killed after ${k} events`);
    t.deepEqual(rig.kernel.leftovers(), NOTHING, `killed after ${k} events`);
    t.is(other!.result?.code, 0, `killed after ${k} events`);
    for (const output of other!.result!.outputs) t.true(isSame(output!, INPUT));
  }
});

test('both VMMs killed at once leave nothing', (t) => {
  for (let k = 200; k < 3400; k += 160) {
    const { rig, vms } = twoVms();
    for (let i = 0; i < k; i++) rig.machine.clock.step();
    for (const { process } of vms) process.kill();
    settleBounded(rig);
    t.deepEqual(rig.kernel.leftovers(), NOTHING, `killed after ${k} events`);
  }
});

test('after a VMM was killed, the next one has the device and ends verified', (t) => {
  const { rig, vms } = startVms({ guests: [undefined], input: INPUT });
  for (let i = 0; i < 900; i++) rig.machine.clock.step();
  t.is(vms[0]!.result, undefined);
  vms[0]!.process.kill();
  settleBounded(rig);
  const one = new Accelerator(rig, 0, rig.user('next'));
  const ram = new GuestRam(one.user);
  const { parent } = one.parentOf(ram);
  const space = makeSpace(ram, PASID, VA, 0x5a);
  one.bringUp();
  id(one.device.attachPasid(PASID, id(one.nested(parent, space.table.root))));
  const { source, target, record } = space;
  const values = { pasid: PASID, source: source.va, destination: target.va, size: PAGE };
  const done = one.move({ ...values, record: record.va }, () =>
    ram.read(record.gpa, COMPLETION_BYTES),
  );
  t.is(done.status, DsaStatus.SUCCESS);
  t.true(isAll(ram.read(target.gpa, PAGE), 0x5a));
  one.exit();
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

interface Faulting {
  readonly rig: Rig;
  readonly one: Accelerator;
  readonly ram: GuestRam;
  readonly space: Space;
  readonly parent: number;
  readonly hwpt: number;
  readonly queue: { readonly id: number; readonly fd: number };
}

/** A copy whose destination is not present waits for its page; nobody has read the fault yet. */
function faulting(): Faulting {
  const rig = bootRig();
  const one = new Accelerator(rig);
  const ram = new GuestRam(one.user);
  const { parent } = one.parentOf(ram);
  const space = makeSpace(ram, PASID, VA, 0x11);
  ram.write64(space.target.leaf, 0n);
  const queue = one.client.faultQueue();
  const hwpt = id(one.nested(parent, space.table.root, queue.id));
  one.bringUp();
  id(one.device.attachPasid(PASID, hwpt));
  submit({ one, ram, space });
  rig.settle();
  return { rig, one, ram, space, parent, hwpt, queue };
}

function submit(w: Pick<Faulting, 'one' | 'ram' | 'space'>): void {
  const { source, target, record } = w.space;
  clearRecord(w.ram, w.space);
  const { COMPLETION_VALID, REQUEST_COMPLETION, BLOCK_ON_FAULT } = DescriptorFlag;
  const accepted = w.one.submit({
    opcode: Opcode.MEMMOVE,
    pasid: PASID,
    flags: COMPLETION_VALID | REQUEST_COMPLETION | BLOCK_ON_FAULT,
    source: source.va,
    destination: target.va,
    size: PAGE,
    completion: record.va,
  });
  if (!accepted) throw new Error('the queue refused');
}

const status = (w: Faulting): number =>
  decodeCompletion(w.ram.read(w.space.record.gpa, COMPLETION_BYTES)).status;

/** Reads one page request from the fault queue. */
function readFault(w: Faulting): { address: bigint; cookie: number; grpid: number } {
  const { user } = w.one;
  const buffer = user.scratch + 0x2000;
  const { size } = iommu_hwpt_pgfault;
  const done = user.run(user.process.read(w.queue.fd, buffer, size));
  if (done !== size) throw new Error(`read of the fault queue: ${done}`);
  const fault = iommu_hwpt_pgfault.read(new DataView(user.read(buffer, size).buffer));
  return { address: fault.addr, cookie: fault.cookie, grpid: fault.grpid };
}

function answer(w: Faulting, cookie: number): number {
  const { user } = w.one;
  const buffer = user.scratch + 0x2000;
  const bytes = iommu_hwpt_page_response.encode({ cookie, code: IOMMUFD_PAGE_RESP_SUCCESS });
  user.write(buffer, bytes);
  return user.run(user.process.write(w.queue.fd, buffer, bytes.length));
}

test('a page request answered through the fault queue lets the copy go on', (t) => {
  const w = faulting();
  t.is(status(w), DsaStatus.NOT_WRITTEN);
  const fault = readFault(w);
  t.is(fault.address, w.space.target.va);
  w.ram.write64(w.space.target.leaf, BigInt(w.space.target.gpa) | LEAF);
  t.is(answer(w, fault.cookie), iommu_hwpt_page_response.size);
  w.rig.settle();
  t.is(status(w), DsaStatus.SUCCESS);
  t.true(isAll(w.ram.read(w.space.target.gpa, PAGE), 0x11));
  t.is(answer(w, fault.cookie), -22, 'a group is answered once');
  w.one.exit();
  t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
});

for (const read of [false, true]) {
  const state = read ? 'read but not answered' : 'not read yet';

  test(`detach with a page request ${state}: the device is answered and goes on`, (t) => {
    const w = faulting();
    const fault = read ? readFault(w) : null;
    t.is(w.one.device.detachPasid(PASID), 'OK');
    w.rig.settle();
    // The record is out of reach as well, so nothing of the memory has changed.
    t.is(status(w), DsaStatus.NOT_WRITTEN);
    t.true(isAll(w.ram.read(w.space.target.gpa, PAGE), 0));
    if (fault !== null) t.is(answer(w, fault.cookie), -22, 'the kernel has answered it');
    // A device that hangs would never drain.
    w.one.command(DsaCommand.DRAIN_PASID, PASID);
    w.one.command(DsaCommand.DRAIN_ALL);
    t.is(w.one.client.destroy(w.hwpt), 'OK');
    w.one.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
  });

  test(`replace with a page request ${state}: it is answered, the copy ends under the new`, (t) => {
    const w = faulting();
    const fault = read ? readFault(w) : null;
    const next = makeSpace(w.ram, PASID, VA, 0x22);
    id(w.one.device.attachPasid(PASID, id(w.one.nested(w.parent, next.table.root, w.queue.id))));
    w.rig.settle();
    const record = decodeCompletion(w.ram.read(next.record.gpa, COMPLETION_BYTES));
    // The device asks again once it has its answer, and finds the page in the new table.
    t.is(record.status, DsaStatus.SUCCESS);
    t.true(isAll(w.ram.read(next.target.gpa, PAGE), 0x22));
    t.true(isAll(w.ram.read(w.space.target.gpa, PAGE), 0));
    w.ram.fill(next.target.gpa, PAGE, 0);
    if (fault !== null) t.is(answer(w, fault.cookie), -22);
    submit({ one: w.one, ram: w.ram, space: next });
    w.rig.settle();
    t.is(w.ram.read(next.record.gpa, 1)[0], DsaStatus.SUCCESS);
    t.true(isAll(w.ram.read(next.target.gpa, PAGE), 0x22));
    w.one.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
  });

  test(`close of the device with a page request ${state} leaves nothing`, (t) => {
    const w = faulting();
    if (read) readFault(w);
    w.one.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
    const next = new Accelerator(w.rig, 0, w.rig.user('next'));
    next.bringUp();
    next.command(DsaCommand.DRAIN_ALL);
    next.exit();
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
  });
}

test('page requests of a PASID that was torn down are answered, however many', (t) => {
  const w = faulting();
  t.is(w.one.device.detachPasid(PASID), 'OK');
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 16; i++) submit(w);
    w.rig.settle();
  }
  w.one.command(DsaCommand.DRAIN_ALL);
  t.is(status(w), DsaStatus.NOT_WRITTEN);
  // The PASID is whole again for whoever comes next.
  w.ram.write64(w.space.target.leaf, BigInt(w.space.target.gpa) | LEAF);
  id(w.one.device.attachPasid(PASID, w.hwpt));
  submit(w);
  w.rig.settle();
  t.is(status(w), DsaStatus.SUCCESS);
  w.one.exit();
  t.deepEqual(w.rig.kernel.leftovers(), NOTHING);
});

test('a program killed while its device waits for pages, at any event', (t) => {
  for (let k = 0; k < 60; k++) {
    const w = faulting();
    for (let i = 0; i < 6; i++) submit(w);
    for (let i = 0; i < k; i++) w.rig.machine.clock.step();
    w.one.user.process.kill();
    settleBounded(w.rig);
    t.deepEqual(w.rig.kernel.leftovers(), NOTHING, `killed after ${k} events`);
  }
});

test('detach while a copy of many pages is under way: it stops there, and waits for nobody', (t) => {
  const pages = 64;
  for (let k = 1; k < 60; k += 3) {
    const rig = bootRig();
    const one = new Accelerator(rig);
    const ram = new GuestRam(one.user);
    const { parent } = one.parentOf(ram);
    const space = makeSpace(ram, PASID, VA, 0x11);
    const at = (n: number): bigint => VA + 0x100_0000n + BigInt(n) * 4096n;
    const gpas = Array.from({ length: 2 * pages }, () => ram.take());
    gpas.forEach((gpa, n) => space.table.map(at(n), gpa));
    for (const gpa of gpas.slice(0, pages)) ram.fill(gpa, PAGE, 0x77);
    one.bringUp();
    id(one.device.attachPasid(PASID, id(one.nested(parent, space.table.root))));
    const { COMPLETION_VALID, REQUEST_COMPLETION } = DescriptorFlag;
    const descriptor = {
      opcode: Opcode.MEMMOVE,
      pasid: PASID,
      flags: COMPLETION_VALID | REQUEST_COMPLETION,
      source: at(0),
      destination: at(pages),
      size: pages * PAGE,
      completion: space.record.va,
    };
    t.true(one.submit(descriptor));
    for (let i = 0; i < k; i++) rig.machine.clock.step();
    t.is(one.device.detachPasid(PASID), 'OK');
    const landed = (): number =>
      gpas.slice(pages).filter((gpa) => isAll(ram.read(gpa, PAGE), 0x77)).length;
    const count = landed();
    rig.settle();
    t.is(landed(), count, 'once detach has returned not one byte more arrives');
    one.command(DsaCommand.DRAIN_ALL);
    one.exit();
    t.deepEqual(rig.kernel.leftovers(), NOTHING);
  }
});
