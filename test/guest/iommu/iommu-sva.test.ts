import test from 'ava';

import { GUEST_ECAP } from '../../../devices/spec/vtd/registers.ts';
import { PasidAllocator } from '../../../guest/iommu/iommu-sva.ts';
import { Bench } from '../machine/bench.ts';

test('PASIDs are dealt from 1, lowest first, and run out', (t) => {
  const pasids = new PasidAllocator();
  t.deepEqual([pasids.alloc(4), pasids.alloc(4), pasids.alloc(4)], [1, 2, 3]);
  t.throws(() => pasids.alloc(4), { message: /ENOSPC/ });
  pasids.free(2);
  t.is(pasids.alloc(4), 2);
});

test('one mm keeps one PASID; a second bind of the pair only counts', (t) => {
  const bench = new Bench();
  const { iommu, device } = bench.iommu();
  const [a, b] = [bench.mm(1), bench.mm(2)];
  const first = bench.run(iommu.sva.bind(device, a));
  const second = bench.run(iommu.sva.bind(device, a));
  t.is(first, second);
  t.is(first.users, 2);
  t.is(bench.run(iommu.sva.bind(device, b)).domain.pasid, 2);
  bench.run(iommu.sva.unbind(first));
  t.is(device.pasidTable.read(1)[0], 0x49n);
  bench.run(iommu.sva.unbind(second));
  t.is(device.pasidTable.read(1)[0], 0n);
  t.is(a.pasid, 1);
  t.is(bench.run(iommu.sva.bind(device, a)).domain.pasid, 1);
});

test('a dropped PASID serves the next address space', (t) => {
  const bench = new Bench();
  const { iommu, device } = bench.iommu();
  const mm = bench.mm();
  bench.run(iommu.sva.unbind(bench.run(iommu.sva.bind(device, mm))));
  iommu.sva.dropPasid(mm);
  t.is(bench.run(iommu.sva.bind(device, bench.mm(2))).domain.pasid, 1);
});

test('munmap and a new root of a bound mm reach the unit', (t) => {
  const bench = new Bench();
  const { iommu, device } = bench.iommu();
  const mm = bench.mm();
  bench.run(iommu.sva.bind(device, mm));
  const at = mm.mmap(8192, { what: 'test' });
  const from = bench.machine.unit.log.length;
  mm.handleFault(at, true, 'device');
  t.is(bench.machine.unit.log.length, from);
  bench.run(mm.munmap(at, 8192));
  const page = 0x0000_0001_0001_0036n;
  t.deepEqual(bench.machine.unit.since(from), [
    [page, BigInt(at) | 1n],
    [0x0000_0001_0008_0018n, BigInt(at) | 0x800n],
  ]);
  bench.run(mm.moveRoot());
  t.is(device.pasidTable.read(1)[2], BigInt(mm.pgd));
  t.is(bench.machine.named('guest:arch_invalidate_secondary_tlbs').length, 1);
});

test('a bind that fails leaves the address space unbound', (t) => {
  const bench = new Bench();
  const { iommu, device } = bench.iommu();
  const mm = bench.mm();
  bench.machine.unit.timeouts = 1000;
  t.throws(() => bench.run(iommu.sva.bind(device, mm)), { message: /ETIMEDOUT/ });
  t.is(mm.notifiers.size, 0);
  bench.machine.unit.timeouts = 0;
  t.is(bench.run(iommu.sva.bind(device, mm)).users, 1);
});

test('SVA needs snooped page walks', (t) => {
  const bench = new Bench({ ecap: GUEST_ECAP & ~(1n << 48n) });
  const { iommu, device } = bench.iommu();
  const error = { message: /EOPNOTSUPP.*share CPU page tables/ };
  t.throws(() => bench.run(iommu.sva.bind(device, bench.mm())), error);
});
