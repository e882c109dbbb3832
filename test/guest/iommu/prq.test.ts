import test from 'ava';

import type { Descriptor } from '../../../devices/spec/vtd/invalidation.ts';
import { RESPONSE } from '../../../devices/spec/vtd/page-request.ts';
import { PRS, REG } from '../../../devices/spec/vtd/registers.ts';
import type { IntelIommu } from '../../../guest/iommu/iommu.ts';
import type { SvaHandle } from '../../../guest/iommu/iommu-sva.ts';
import type { IommuDevice } from '../../../guest/iommu/unit.ts';
import type { AddressSpace } from '../../../guest/mm/mm.ts';
import { sleep } from '../../../guest/task.ts';
import { Bench } from '../machine/bench.ts';

type Response = Extract<Descriptor, { type: 'pgrp' }>;

interface Bound {
  readonly bench: Bench;
  readonly iommu: IntelIommu;
  readonly device: IommuDevice;
  readonly mm: AddressSpace;
  readonly handle: SvaHandle;
  readonly responses: Response[];
  /** Buffer of two writable pages, then one read-only page. */
  readonly buffer: number;
}

function bound(): Bound {
  const bench = new Bench();
  const { iommu, device } = bench.iommu();
  const mm = bench.mm();
  const buffer = mm.mmap(8192, { what: 'test' });
  mm.mmap(4096, { what: 'test', write: false });
  const handle = bench.run(iommu.sva.bind(device, mm));
  const responses: Response[] = [];
  bench.machine.unit.onResponse = (response): void => {
    responses.push(response);
  };
  return { bench, iommu, device, mm, handle, responses, buffer };
}

const LATER = 1_000_000;

test('a request for a page of the process brings it in and is answered once', (t) => {
  const { bench, mm, responses, buffer } = bound();
  const from = bench.machine.unit.log.length;
  bench.machine.unit.pageRequest({ rid: 8, pasid: 1, address: buffer, write: true, prgi: 3 });
  bench.run(sleep(LATER));
  t.not(mm.table.entry(buffer), 0n);
  t.is(responses.length, 1);
  t.deepEqual(bench.machine.unit.since(from), [[0x0000_0001_0008_0019n, 0x1cn]]);
  const { unit } = bench.machine;
  t.is(unit.read(REG.PQH, 8), unit.read(REG.PQT, 8));
  t.is(unit.read(REG.PRS, 4), 0n);
  const report = bench.machine.named('guest:prq_report')[0]!;
  t.is(report.values['perm'], 'rw');
});

test('bad requests are refused, and nothing is mapped', (t) => {
  const { bench, responses, buffer } = bound();
  const free = bench.core.pages.freePages;
  const base = { rid: 8, pasid: 1, address: buffer, read: true };
  const bad = [
    { ...base, address: 0x1000 },
    { ...base, address: buffer + 8192, write: true },
    { ...base, pasid: 9 },
    { ...base, address: 2 ** 63 },
    { ...base, priv: true },
    { ...base, exec: true },
    { ...base, pasidPresent: false, pasid: 0 },
  ];
  bad.forEach((request, prgi) => {
    bench.machine.unit.pageRequest({ ...request, prgi });
  });
  bench.run(sleep(LATER));
  t.is(responses.length, bad.length);
  t.true(responses.every((response) => response.code === RESPONSE.INVALID));
  t.deepEqual(
    responses.map((response) => response.prgi).sort((a, b) => a - b),
    bad.map((_, i) => i),
  );
  t.is(bench.core.pages.freePages, free);
});

test('requests of unknown functions and stop markers are not answered', (t) => {
  const { bench, responses, buffer } = bound();
  bench.machine.unit.pageRequest({ rid: 0x77, pasid: 1, address: buffer });
  bench.machine.unit.pageRequest({ rid: 8, pasid: 1, address: buffer, read: false });
  bench.machine.unit.pageRequest({ rid: 8, pasid: 1, address: 2 ** 63, last: false });
  bench.run(sleep(LATER));
  t.is(responses.length, 0);
});

test('a group is answered at its last request, with the first failure', (t) => {
  const { bench, mm, responses, buffer } = bound();
  const { unit } = bench.machine;
  unit.pageRequest({ rid: 8, pasid: 1, address: buffer, prgi: 7, last: false });
  bench.run(sleep(LATER));
  t.is(responses.length, 0);
  t.is(mm.table.entry(buffer), 0n);
  unit.pageRequest({ rid: 8, pasid: 1, address: buffer + 4096, prgi: 7 });
  bench.run(sleep(LATER));
  t.deepEqual(
    responses.map((response) => response.code),
    [RESPONSE.SUCCESS],
  );
  t.not(mm.table.entry(buffer), 0n);
  unit.pageRequest({ rid: 8, pasid: 1, address: 0x5000, prgi: 8, last: false });
  unit.pageRequest({ rid: 8, pasid: 1, address: buffer, prgi: 8 });
  bench.run(sleep(LATER));
  t.is(responses[1]!.code, RESPONSE.INVALID);
});

test('more requests than the ring holds, over its end', (t) => {
  const { bench, responses, buffer } = bound();
  for (let i = 0; i < 2100; i++) {
    bench.machine.unit.pageRequest({ rid: 8, pasid: 1, address: buffer, prgi: i % 512 });
    if (i % 100 === 99) bench.run(sleep(LATER));
  }
  t.is(responses.length, 2100);
});

test('an overflow is acknowledged after the ring was emptied', (t) => {
  const { bench, buffer, responses } = bound();
  const { unit } = bench.machine;
  unit.pageRequest({ rid: 8, pasid: 1, address: buffer, prgi: 1, last: false });
  unit.registers.setUint32(REG.PRS, PRS.PPR | PRS.PRO, true);
  bench.run(sleep(LATER));
  t.is(unit.read(REG.PRS, 4), 0n);
  unit.pageRequest({ rid: 8, pasid: 1, address: buffer + 4096, prgi: 1 });
  bench.run(sleep(LATER));
  t.is(responses.length, 1);
});

test('unbind tears down, drains, and answers what came before', (t) => {
  const { bench, iommu, handle, device, mm, responses, buffer } = bound();
  const from = bench.machine.unit.log.length;
  let sent = false;
  bench.machine.unit.onInvalidate = (): void => {
    if (sent) return;
    sent = true;
    bench.machine.unit.pageRequest({ rid: 8, pasid: 1, address: buffer, prgi: 2 });
  };
  bench.run(iommu.sva.unbind(handle));
  t.true(device.pasidTable.read(1).every((word) => word === 0n));
  t.is(responses.length, 1);
  const kinds = bench.machine.unit.log.slice(from).map((d) => d.decoded);
  const fence = kinds.findIndex((d) => d.type === 'inv_wait' && d.fence);
  t.is(bench.machine.unit.log[from + fence]!.qw0, 0x0000_0002_0000_0045n);
  t.deepEqual(
    kinds.slice(fence + 1).map((d) => d.type),
    ['p_iotlb', 'p_dev_tlb', 'inv_wait'],
  );
  t.is(bench.machine.unit.log.at(-1)!.qw0, 0x0000_0002_0000_00a5n);
  t.is(mm.notifiers.size, 0);
  bench.machine.unit.pageRequest({ rid: 8, pasid: 1, address: buffer + 4096, prgi: 3 });
  bench.run(sleep(LATER));
  t.is(responses[1]!.code, RESPONSE.INVALID);
});

test('an address space that ends while bound leaves an entry that ignores faults', (t) => {
  const { bench, iommu, handle, device, mm, responses, buffer } = bound();
  bench.run(mm.exit());
  t.deepEqual([...device.pasidTable.read(1)].slice(0, 3), [2n, 0n, 0n]);
  bench.machine.unit.pageRequest({ rid: 8, pasid: 1, address: buffer, prgi: 2 });
  bench.run(sleep(LATER));
  t.is(responses[0]!.code, RESPONSE.INVALID);
  bench.run(iommu.sva.unbind(handle));
  t.true(device.pasidTable.read(1).every((word) => word === 0n));
});
