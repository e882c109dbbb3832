import test from 'ava';

import { pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import { GUEST_CAP, GUEST_ECAP } from '../../../devices/spec/vtd/registers.ts';
import { coverOrder, flushRange } from '../../../guest/iommu/flush.ts';
import { replaceFirstStage, setupFirstStage, tearDown } from '../../../guest/iommu/pasid.ts';
import { Bench } from '../machine/bench.ts';

const ROOT = { root: 0x1234_5000, did: 1, levels: 4 } as const;
const ALL = 0x7fff_ffff_ffff_f800n;
const PC = 0x0000_0005_0001_0017n;
const P_IOTLB = 0x0000_0005_0001_0026n;
/** p_dev_tlb of RID 00:01.0 (8), queue depth 1, PASID 5. */
const P_DEV_TLB = 0x0000_0005_0008_0018n;

test('set-up writes the entry of the test vector and owes pc and p_iotlb in caching mode', (t) => {
  const bench = new Bench();
  const { device } = bench.iommu();
  const from = bench.machine.unit.log.length;
  bench.run(setupFirstStage(device, 5, ROOT));
  t.deepEqual(
    [...device.pasidTable.read(5)],
    [0x49n, 0x80_0001n, 0x1234_5000n, 0n, 0n, 0n, 0n, 0n],
  );
  t.deepEqual(bench.machine.unit.since(from), [
    [PC, 0n],
    [P_IOTLB, 0n],
  ]);
  t.throws(() => bench.run(setupFirstStage(device, 5, ROOT)), { message: /EBUSY/ });
});

test('without caching mode a new entry owes nothing', (t) => {
  const bench = new Bench({ cap: GUEST_CAP & ~0x80n });
  const { device } = bench.iommu();
  const from = bench.machine.unit.log.length;
  bench.run(setupFirstStage(device, 5, ROOT));
  t.deepEqual(bench.machine.unit.since(from), []);
});

test('replace stores one word while P stays, then pc, p_iotlb and p_dev_tlb', (t) => {
  const bench = new Bench();
  const { device } = bench.iommu();
  bench.run(setupFirstStage(device, 5, ROOT));
  const from = bench.machine.unit.log.length;
  const stores: number[] = [];
  const { cpu } = bench.machine;
  const at = device.pasidTable.entryAddress(5);
  const write64 = cpu.write64.bind(cpu);
  cpu.write64 = (gpa, value): void => {
    if (gpa >= at && gpa < at + 64) stores.push(gpa - at);
    write64(gpa, value);
  };
  bench.run(replaceFirstStage(device, 5, { ...ROOT, root: 0x6789_0000 }));
  t.deepEqual(stores, [16]);
  t.is(device.pasidTable.read(5)[2], 0x6789_0000n);
  t.deepEqual(bench.machine.unit.since(from), [
    [PC, 0n],
    [P_IOTLB, 0n],
    [P_DEV_TLB, ALL],
  ]);
});

test('teardown clears P, flushes, then clears the rest or leaves FPD', (t) => {
  const bench = new Bench();
  const { device } = bench.iommu();
  for (const ignore of [false, true]) {
    bench.run(setupFirstStage(device, 5, ROOT));
    const from = bench.machine.unit.log.length;
    const during: bigint[] = [];
    bench.machine.unit.onInvalidate = (): void => {
      during.push(device.pasidTable.read(5)[0]!);
    };
    bench.run(tearDown(device, 5, ignore));
    t.deepEqual(during, [0x48n, 0x48n, 0x48n]);
    t.deepEqual(bench.machine.unit.since(from), [
      [PC, 0n],
      [P_IOTLB, 0n],
      [P_DEV_TLB, ALL],
    ]);
    t.deepEqual([...device.pasidTable.read(5)], [ignore ? 2n : 0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n]);
    bench.run(tearDown(device, 5, false));
    t.true(device.pasidTable.read(5).every((word) => word === 0n));
  }
});

test('a failed set-up leaves no entry', (t) => {
  const bench = new Bench();
  const { device } = bench.iommu();
  bench.machine.unit.timeouts = 1000;
  t.throws(() => bench.run(setupFirstStage(device, 5, ROOT)), { message: /ETIMEDOUT/ });
  t.is(pasidEntry.decode(device.pasidTable.read(5)).P, 0);
});

test('a range is covered by the smallest aligned block', (t) => {
  t.is(coverOrder(0x10, 0x10), 0);
  t.is(coverOrder(0x10, 0x11), 1);
  t.is(coverOrder(0x11, 0x12), 2);
  t.is(coverOrder(0x10, 0x12), 2);
  t.is(coverOrder(7, 8), 4);
});

test('range flushes: p_iotlb with address mask, p_dev_tlb with the S encoding', (t) => {
  const bench = new Bench();
  const { device } = bench.iommu();
  const flush = (pages: number): readonly (readonly [bigint, bigint])[] => {
    const from = bench.machine.unit.log.length;
    bench.run(flushRange(device, 1, 5, 0x1_0000, 0x1_0000 + 4096 * pages));
    t.is(bench.machine.unit.log.length - from, 3);
    return bench.machine.unit.since(from);
  };
  const page = 0x0000_0005_0001_0036n;
  t.deepEqual(flush(1), [
    [page, 0x1_0000n],
    [P_DEV_TLB, 0x1_0000n],
  ]);
  t.deepEqual(flush(2), [
    [page, 0x1_0001n],
    [P_DEV_TLB, 0x1_0800n],
  ]);
  t.deepEqual(flush(4), [
    [page, 0x1_0002n],
    [P_DEV_TLB, 0x1_1800n],
  ]);
});

test('the device comes up with the context entry and flushes of caching mode', (t) => {
  const bench = new Bench();
  const { device } = bench.iommu();
  const qw0 = bench.core.cpu.read64(device.context);
  t.is(qw0 & 0xfffn, 0xe1dn);
  t.is(Number(qw0 & ~0xfffn), device.pasidTable.directory);
  t.deepEqual(bench.machine.unit.since(0), [
    [0x0000_0008_0000_0031n, 0n],
    [0x0000_0000_0000_00e2n, 0n],
    [0x0000_0000_0002_0017n, 0n],
    [0x0000_0000_0002_0026n, 0n],
    [0x0000_0008_0000_0031n, 0n],
    [0x0000_0008_0001_0003n, 0x7fff_ffff_ffff_f001n],
  ]);
  t.deepEqual([...device.pasidTable.read(0)].slice(0, 2), [0x49n, 0x80_0002n]);
});

test('without ESRTPS the new root is followed by cc, pc and iotlb global', (t) => {
  const bench = new Bench({ cap: GUEST_CAP & ~(1n << 63n), ecap: GUEST_ECAP });
  bench.iommu();
  const first = bench.machine.unit.since(0).slice(0, 3);
  t.deepEqual(
    first.map(([qw0]) => qw0),
    [0x11n, 0x37n, 0xd2n],
  );
});
