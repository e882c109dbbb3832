/** What a device may not reach: other PASIDs, other programs, the host, the interrupt window. */
import test from 'ava';
import { AT, CPL } from '../../../devices/pci/fabric.ts';
import {
  COMPLETION_BYTES,
  type Completion,
  DsaStatus,
} from '../../../devices/spec/dsa/completion.ts';
import { DescriptorFlag, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { PciCommand, PciHeader } from '../../../devices/spec/pci.ts';
import { FIRMWARE } from '../../../host/machine/memory-map.ts';
import { Client, Device, id } from '../../host/kernel/iommufd/client.ts';
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
  WQ,
} from './rig.ts';

const A_VA = 0x7f00_0000_0000n;
const B_VA = 0x7e00_0000_0000n;

interface Pair {
  readonly rig: Rig;
  readonly one: Accelerator;
  readonly ram: GuestRam;
  readonly a: Space;
  readonly b: Space;
  readonly parent: number;
  readonly hwpts: { readonly a: number; readonly b: number };
}

/** One program, two PASIDs: A with addresses and bytes (0xaa) of its own, B with others (0xbb). */
function pair(): Pair {
  const rig = bootRig();
  const one = new Accelerator(rig);
  const ram = new GuestRam(one.user);
  const { parent } = one.parentOf(ram);
  const a = makeSpace(ram, 1, A_VA, 0xaa);
  const b = makeSpace(ram, 2, B_VA, 0xbb);
  const hwpts = {
    a: id(one.nested(parent, a.table.root)),
    b: id(one.nested(parent, b.table.root)),
  };
  one.bringUp();
  id(one.device.attachPasid(1, hwpts.a));
  id(one.device.attachPasid(2, hwpts.b));
  return { rig, one, ram, a, b, parent, hwpts };
}

function move(
  p: { readonly one: Accelerator; readonly ram: GuestRam },
  pasid: number,
  record: Space,
  values: { source: bigint; destination: bigint; size?: number; flags?: number },
  wq: number = WQ.SHARED,
): Completion {
  clearRecord(p.ram, record);
  const from = { pasid, size: PAGE, ...values, record: record.record.va };
  return p.one.move(from, () => p.ram.read(record.record.gpa, COMPLETION_BYTES), wq);
}

/** Every byte of guest RAM except where tables get accessed bits and the records lie. */
function data(ram: GuestRam, ...spaces: Space[]): number[][] {
  return spaces.map((s) => [...ram.read(s.source.gpa, PAGE), ...ram.read(s.target.gpa, PAGE)]);
}

test('each PASID copies within its own address space', (t) => {
  const p = pair();
  for (const [space, value] of [
    [p.a, 0xaa],
    [p.b, 0xbb],
  ] as const) {
    const { va: source } = space.source;
    const done = move(p, space.pasid, space, { source, destination: space.target.va });
    t.is(done.status, DsaStatus.SUCCESS);
    t.is(done.bytesCompleted, PAGE);
    t.true(isAll(p.ram.read(space.target.gpa, PAGE), value));
  }
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

for (const [wq, name] of [
  [WQ.SHARED, 'with ATS'],
  [WQ.NO_ATS, 'untranslated'],
] as const) {
  for (const flags of wq === WQ.SHARED ? [0, DescriptorFlag.BLOCK_ON_FAULT] : [0]) {
    test(`an address of the other PASID is a fault and no byte: ${name}, flags ${flags}`, (t) => {
      const p = pair();
      const before = data(p.ram, p.a, p.b);
      const stolen = move(
        p,
        1,
        p.a,
        { source: p.b.source.va, destination: p.a.target.va, flags },
        wq,
      );
      const fault = flags === 0 ? DsaStatus.PAGE_FAULT : DsaStatus.PAGE_RESPONSE_INVALID;
      t.is(stolen.status, fault);
      t.false(stolen.faultOnWrite);
      t.is(stolen.faultAddress, p.b.source.va);
      t.is(stolen.bytesCompleted, 0);
      const planted = move(
        p,
        1,
        p.a,
        { source: p.a.source.va, destination: p.b.target.va, flags },
        wq,
      );
      t.is(planted.status, fault);
      t.true(planted.faultOnWrite);
      t.is(planted.faultAddress, p.b.target.va);
      t.is(planted.bytesCompleted, 0);
      t.deepEqual(data(p.ram, p.a, p.b), before);
      p.one.exit();
      t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
    });
  }
}

test('a PASID that nobody attached reaches nothing, not even its completion record', (t) => {
  const p = pair();
  const before = data(p.ram, p.a, p.b);
  for (const wq of [WQ.SHARED, WQ.NO_ATS]) {
    for (const pasid of [0, 3, 63, 64, 0x1234, 0xf_ffff]) {
      for (const space of [p.a, p.b]) {
        const { source, target } = space;
        const values = { source: source.va, destination: target.va };
        const done = move(p, pasid, space, values, wq);
        t.is(done.status, DsaStatus.NOT_WRITTEN, `PASID ${pasid}`);
      }
    }
  }
  t.deepEqual(data(p.ram, p.a, p.b), before);
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

test('requests without PASID reach nothing while the RID is not attached, RAM once it is', (t) => {
  const p = pair();
  const { source, target, record } = p.a;
  const go = (): number => {
    p.ram.fill(record.gpa, COMPLETION_BYTES, 0);
    const values = { source: BigInt(source.gpa), destination: BigInt(target.gpa), size: PAGE };
    const seen = (): Uint8Array => p.ram.read(record.gpa, COMPLETION_BYTES);
    return p.one.move({ ...values, record: BigInt(record.gpa) }, seen, WQ.PLAIN).status;
  };
  t.is(go(), DsaStatus.NOT_WRITTEN);
  t.true(isAll(p.ram.read(target.gpa, PAGE), 0));
  id(p.one.device.attach(p.parent));
  t.is(go(), DsaStatus.SUCCESS);
  t.true(isAll(p.ram.read(target.gpa, PAGE), 0xaa));
  p.ram.fill(target.gpa, PAGE, 0);
  t.is(p.one.device.detach(), 'OK');
  t.is(go(), DsaStatus.NOT_WRITTEN);
  t.true(isAll(p.ram.read(target.gpa, PAGE), 0));
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

test('after detach the PASID has nothing, and the device-TLB kept nothing of it', (t) => {
  const p = pair();
  const { source, target } = p.a;
  const values = { source: source.va, destination: target.va };
  t.is(move(p, 1, p.a, values).status, DsaStatus.SUCCESS);
  p.ram.fill(target.gpa, PAGE, 0);
  t.is(p.one.device.detachPasid(1), 'OK');
  t.is(move(p, 1, p.a, values).status, DsaStatus.NOT_WRITTEN);
  t.true(isAll(p.ram.read(target.gpa, PAGE), 0));
  t.is(move(p, 2, p.b, { source: p.b.source.va, destination: p.b.target.va }).status, 1);
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

test('a first stage that points outside guest RAM gets a fault and no byte of the host', (t) => {
  const p = pair();
  const { ram } = p.rig.machine;
  const outside: readonly bigint[] = [
    BigInt(p.ram.bytes),
    0x3f0_0000n,
    0x4000_0000n,
    0xb000_0000n,
    0xfed9_0000n,
    0xfee0_0000n,
    0xfee1_0000n,
    0xff00_0000n,
    1n << 38n,
    (1n << 46n) - 4096n,
    1n << 46n,
    1n << 48n,
    0xf_ffff_ffff_f000n,
  ];
  for (const [n, gpa] of outside.entries()) {
    const va = A_VA + 0x10_0000n + BigInt(n) * 4096n;
    p.a.table.map(va, gpa);
    for (const wq of [WQ.SHARED, WQ.NO_ATS]) {
      const host = ram.bytes.slice(0, FIRMWARE.END);
      const target = p.ram.read(p.a.target.gpa, PAGE);
      for (const [source, destination] of [
        [va, p.a.target.va],
        [p.a.source.va, va],
      ] as const) {
        const done = move(p, 1, p.a, { source, destination }, wq);
        const status: readonly number[] = [DsaStatus.PAGE_FAULT, DsaStatus.TRANSLATION_ERROR];
        t.true(status.includes(done.status), `0x${gpa.toString(16)}: status ${done.status}`);
        t.is(done.faultAddress, va);
        t.is(done.bytesCompleted, 0);
      }
      t.deepEqual(p.ram.read(p.a.target.gpa, PAGE), target);
      t.true(isSame(ram.bytes.subarray(0, FIRMWARE.END), host));
    }
  }
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

test("whatever a hostile table says, all host memory but the program's own stays as it was", (t) => {
  const p = pair();
  const { machine } = p.rig;
  // Every page frame of the host as a target: none of them is a GPA of this program's small RAM.
  const base = A_VA + 0x4000_0000n;
  const first = BigInt(p.ram.bytes);
  const pages = 48;
  const step = ((BigInt(machine.ram.size) - first) / BigInt(pages)) & ~0xfffn;
  for (let i = 0; i < pages; i++) p.a.table.map(base + BigInt(i) * 4096n, first + BigInt(i) * step);
  const before = machine.ram.bytes.slice();
  for (let i = 0; i < pages; i++) {
    const destination = base + BigInt(i) * 4096n;
    const done = move(p, 1, p.a, { source: p.a.source.va, destination });
    t.is(done.status, DsaStatus.PAGE_FAULT);
  }
  const hit: number[] = [];
  for (let at = 0; at < machine.ram.size; at += PAGE) {
    const now = machine.ram.bytes.subarray(at, at + PAGE);
    if (isAll(now, 0xaa) && !isSame(now, before.subarray(at, at + PAGE))) hit.push(at);
  }
  t.deepEqual(hit, [], 'pages of the host with bytes of the attacker');
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

test('two programs with the same PASID and address on two devices each see their own memory', (t) => {
  const rig = bootRig({ devices: 2 });
  const parties = [0xaa, 0xbb].map((value, n) => {
    const one = new Accelerator(rig, n, rig.user(`client${n}`));
    const ram = new GuestRam(one.user);
    const { parent } = one.parentOf(ram);
    const space = makeSpace(ram, 5, A_VA, value);
    one.bringUp();
    id(one.device.attachPasid(5, id(one.nested(parent, space.table.root))));
    return { one, ram, space, value };
  });
  for (const { one, ram, space, value } of parties) {
    const values = { source: space.source.va, destination: space.target.va };
    t.is(move({ one, ram }, 5, space, values).status, DsaStatus.SUCCESS);
    t.true(isAll(ram.read(space.target.gpa, PAGE), value));
  }
  // The first one's PASID and RID are no way to the second one's memory.
  const [first, second] = parties;
  t.is(first!.one.device.detachPasid(5), 'OK');
  const before = data(second!.ram, second!.space);
  const values = { source: A_VA, destination: A_VA + 4096n };
  t.is(move(first!, 5, first!.space, values).status, DsaStatus.NOT_WRITTEN);
  t.deepEqual(data(second!.ram, second!.space), before);
  // And no object of one iommufd is a name in the other.
  const stranger = new Client(first!.one.user);
  t.is(stranger.destroy(second!.one.device.id), 'ENOENT');
  for (const { one } of parties) one.exit();
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test('a device that is bound and not attached gets nothing of the memory in the IOAS', (t) => {
  const rig = bootRig();
  const one = new Accelerator(rig);
  const ram = new GuestRam(one.user);
  one.parentOf(ram);
  one.bringUp();
  const space = makeSpace(ram, 0, A_VA, 0xaa);
  const before = data(ram, space);
  const p = { one, ram };
  for (const pasid of [0, 1, 2, 77]) {
    for (const wq of [WQ.SHARED, WQ.NO_ATS, WQ.PLAIN]) {
      for (const page of [space.source, space.target]) {
        const values = { source: space.source.va, destination: space.target.va };
        t.is(move(p, pasid, space, values, wq).status, DsaStatus.NOT_WRITTEN);
        const plain = { source: BigInt(page.gpa), destination: BigInt(space.target.gpa) };
        t.is(move(p, pasid, space, plain, wq).status, DsaStatus.NOT_WRITTEN);
      }
    }
  }
  t.deepEqual(data(ram, space), before);
  one.exit();
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test('a device that its program has closed gets nothing, and does not run on', (t) => {
  const p = pair();
  const { source, target, record } = p.a;
  const accepted = p.one.submit({
    opcode: Opcode.MEMMOVE,
    pasid: 1,
    flags: DescriptorFlag.COMPLETION_VALID | DescriptorFlag.REQUEST_COMPLETION,
    source: source.va,
    destination: target.va,
    size: PAGE,
    completion: record.va,
  });
  t.true(accepted);
  t.is(p.one.user.close(p.one.device.fd), 0);
  p.rig.settle();
  // The portal's mapping is a reference of the file: the device stays with the program until then.
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
  const fresh = new Accelerator(p.rig, 0, p.rig.user('next'));
  const ram = new GuestRam(fresh.user);
  fresh.parentOf(ram);
  const again = makeSpace(ram, 1, A_VA, 0xcc);
  fresh.bringUp();
  const values = { source: again.source.va, destination: again.target.va };
  t.is(move({ one: fresh, ram }, 1, again, values).status, DsaStatus.NOT_WRITTEN);
  t.true(isAll(ram.read(again.target.gpa, PAGE), 0));
  fresh.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

test('while one program has the device, another can neither bind nor attach it', (t) => {
  const p = pair();
  const thief = p.rig.user('thief');
  const client = new Client(thief);
  const device = new Device(thief);
  t.is(device.bind(client.fd), 'EINVAL');
  const ioas = client.ioas();
  t.is(device.attach(ioas), 'EINVAL');
  t.is(device.attachPasid(1, ioas), 'EINVAL');
  t.is(device.detachPasid(1), 'EINVAL');
  const values = { source: p.a.source.va, destination: p.a.target.va };
  t.is(move(p, 1, p.a, values).status, DsaStatus.SUCCESS);
  thief.process.kill();
  p.one.exit();
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});

test('a device that nobody opened cannot reach the memory of a program, whatever it asks', (t) => {
  const rig = bootRig({ devices: 2 });
  const one = new Accelerator(rig, 0);
  const ram = new GuestRam(one.user);
  const { parent } = one.parentOf(ram);
  const space = makeSpace(ram, 1, A_VA, 0xaa);
  one.bringUp();
  id(one.device.attachPasid(1, id(one.nested(parent, space.table.root))));
  const stranger = rig.kernel.pciDevices[1]!;
  const { fabric } = rig.machine.root;
  const into = new Uint8Array(PAGE);
  const ask = (pasid: number, page: bigint): number => {
    const at = Number(page >> 12n);
    const { rid } = stranger;
    const read = fabric.read(rid, pasid, false, AT.UNTRANSLATED, at, 0, into, 0, PAGE);
    const write = fabric.write(rid, pasid, false, AT.UNTRANSLATED, at, 0, into, 0, PAGE);
    return Math.min(read, write);
  };
  const before = data(ram, space);
  const pages = [space.source, space.target].flatMap(({ va, gpa }) => [va, BigInt(gpa)]);
  for (const isMaster of [false, true]) {
    if (isMaster) stranger.enableBusMaster();
    for (const pasid of [0, 1, 2, 64, 0xf_ffff]) {
      for (const page of pages) t.not(ask(pasid, page), CPL.SUCCESS);
    }
  }
  t.true(isAll(into, 0));
  t.deepEqual(data(ram, space), before);
  one.exit();
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test('a device is no bus master any more when its program has gone', (t) => {
  const p = pair();
  const pdev = p.rig.kernel.pciDevices[0]!;
  const isMaster = (): boolean => (pdev.read16(PciHeader.COMMAND) & PciCommand.BUS_MASTER) !== 0;
  t.true(isMaster());
  p.one.exit();
  t.false(isMaster());
  t.deepEqual(p.rig.kernel.leftovers(), NOTHING);
});
