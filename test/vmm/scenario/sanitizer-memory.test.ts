/** What the sanitizer sees of memory: stores of any kind to tables, frames that are free, resets. */
import test from 'ava';
import { AT } from '../../../devices/pci/fabric.ts';
import { COMPLETION_BYTES, DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { FS } from '../../../devices/spec/x86/paging.ts';
import { PATIENCE_NS } from '../../../devices/vtd/sanitizer/unit-watch.ts';
import type { HostBug } from '../../../host/kernel/bugs.ts';
import { VFIO_DEVICE_CMD } from '../../../host/uapi/vfio.ts';
import type { FindingJson } from '../../../trace/story/sanitizer.ts';
import { Findings } from '../../../trace/story/sanitizer.ts';
import { id } from '../../host/kernel/iommufd/client.ts';
import { Accelerator, bootRig, GuestRam, makeSpace, PAGE, type Rig, type Space } from './rig.ts';

const PASID = 5;
const VA = 0x7f00_0000_0000n;

interface World {
  readonly rig: Rig;
  readonly one: Accelerator;
  readonly ram: GuestRam;
  readonly ioas: number;
  readonly space: Space;
  readonly found: Findings;
}

/** A program whose PASID has two data pages, watched. */
function world(bugs: readonly HostBug[] = []): World {
  const rig = bootRig({ sanitize: true, kernel: { bugs: new Set(bugs) } });
  const found = new Findings();
  rig.machine.trace.listen((record) => found.add(record));
  const one = new Accelerator(rig);
  const ram = new GuestRam(one.user);
  const { ioas, parent } = one.parentOf(ram);
  const space = makeSpace(ram, PASID, VA, 0x11);
  one.bringUp();
  id(one.device.attachPasid(PASID, id(one.nested(parent, space.table.root))));
  return { rig, one, ram, ioas, space, found };
}

function copy({ one, ram, space }: World, to = space.target.va): number {
  ram.fill(space.record.gpa, COMPLETION_BYTES, 0);
  const { source, record } = space;
  const values = { pasid: PASID, source: source.va, destination: to, size: PAGE };
  const seen = (): Uint8Array => ram.read(record.gpa, COMPLETION_BYTES);
  return one.move({ ...values, record: record.va }, seen).status;
}

/** So long that a stale use is no longer on the way to an invalidation. */
function wait({ rig }: World): void {
  rig.machine.clock.after(2 * PATIENCE_NS, () => undefined);
  rig.settle();
}

const kinds = (findings: readonly FindingJson[]): string[] => findings.map(({ kind }) => kind);

test('DMA to memory that an unmap left in the table: told at the DMA if nothing was cached', (t) => {
  const w = world(['host-unmap-keeps-entries']);
  const { one, ram, ioas, space, rig, found } = w;
  t.is(one.client.unmap(ioas, 0n, BigInt(ram.bytes)), BigInt(ram.bytes));
  one.user.run(one.user.process.munmap(ram.address, ram.bytes));
  t.deepEqual(found.list, []);
  one.submit({
    opcode: 3,
    pasid: PASID,
    flags: 0,
    source: space.source.va,
    destination: space.target.va,
    size: PAGE,
  });
  rig.settle();
  const [first] = found.list;
  t.is(first?.kind, 'dma-to-freed-memory');
  t.is(first?.sid, '00:01.0');
  t.is(first?.pasid, PASID);
  t.is(first?.who, 'host kernel');
  t.regex(first?.entry ?? '', /^device-TLB: |^IOTLB: /);
});

test('without the mistake the same DMA is refused, and nothing is told', (t) => {
  const w = world();
  const { one, ram, ioas, space, rig, found } = w;
  t.is(copy(w), DsaStatus.SUCCESS);
  t.is(one.client.unmap(ioas, 0n, BigInt(ram.bytes)), BigInt(ram.bytes));
  one.user.run(one.user.process.munmap(ram.address, ram.bytes));
  const moved = { opcode: 3, pasid: PASID, flags: 0, size: PAGE };
  one.submit({ ...moved, source: space.source.va, destination: space.target.va });
  rig.settle();
  t.deepEqual(found.list, []);
});

for (const [how, store] of [
  ['the program', ({ ram, space }: World) => ram.write64(space.source.leaf, 0n)],
  [
    'a copy within memory',
    ({ one, ram, space }: World) =>
      one.user.process.memory.copy(
        ram.address + space.source.leaf,
        ram.address + space.target.gpa,
        8,
      ),
  ],
  [
    'the device',
    (w: World) => {
      const leaves = w.space.source.leaf - (w.space.source.leaf % PAGE);
      const at = VA + 0x10_0000n;
      w.space.table.map(at, leaves, FS.P | FS.RW | FS.US);
      copy(w, at);
    },
  ],
] as const) {
  test(`a table that ${how} writes: the store is seen, and the stale use told`, (t) => {
    const w = world();
    t.is(copy(w), DsaStatus.SUCCESS);
    w.ram.fill(w.space.target.gpa, PAGE, 0);
    store(w);
    t.deepEqual(w.found.list, []);
    wait(w);
    // The device has the old translations still.
    copy(w);
    const { list } = w.found;
    t.true(kinds(list).includes('missing-invalidation'), kinds(list).join());
    const told = list.find(({ kind }) => kind === 'missing-invalidation');
    t.is(told?.who, 'user program (IOMMU_HWPT_INVALIDATE)');
    t.regex(told?.change ?? '', /^first-stage level 1 entry/);
  });
}

test('a reset takes the device-TLB: what it held may not be used any more', (t) => {
  const w = world();
  t.is(copy(w), DsaStatus.SUCCESS);
  const { fabric } = w.rig.machine.root;
  const target = w.rig.kernel.pciDevices[0]!.rid;
  const frame = w.rig.machine.unit.result.pfn;
  const read = (): number =>
    fabric.read(target, -1, false, AT.TRANSLATED, frame, 0, new Uint8Array(64), 0, 64);
  read();
  t.deepEqual(w.found.list, [], 'it has that translation');
  const { VFIO_DEVICE_RESET } = VFIO_DEVICE_CMD;
  t.is(w.one.user.raw(w.one.device.fd, VFIO_DEVICE_RESET, new Uint8Array(0)), 'OK');
  w.one.bringUp();
  read();
  t.deepEqual(kinds(w.found.list), ['stale-device-tlb']);
});
