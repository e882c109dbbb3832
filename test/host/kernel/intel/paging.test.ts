import test from 'ava';
import { Errno } from '../../../../host/kernel/errno.ts';
import type { PagingDomain } from '../../../../host/kernel/intel/paging.ts';
import type { World } from './world.ts';
import { handleOf, makeWorld, nested, nestParent } from './world.ts';

const MIB2 = 2 << 20;
const GIB = 2 ** 30;

const leavesOf = (world: World): unknown =>
  world.events.findLast((e) => e.def.name === 'iommu:map')?.values['leaves'];

function attached(world: World): PagingDomain {
  const group = world.core.groupOf(world.devs[0]!);
  const domain = nestParent(world);
  world.run(world.core.claimDmaOwner(group, world));
  world.run(world.core.attachGroupHandle(domain, group, handleOf(domain)));
  world.unit.log.length = 0;
  return domain;
}

test('leaves are as large as alignment of both sides and the length allow', (t) => {
  const world = makeWorld();
  const domain = nestParent(world);
  world.run(domain.map(0x1000n, 0x1000, 4096, 3));
  t.is(leavesOf(world), '1x4K');
  world.run(domain.map(BigInt(MIB2), 4 * MIB2, MIB2, 3));
  t.is(leavesOf(world), '1x2M');
  world.run(domain.map(BigInt(GIB), 4 * GIB, GIB + MIB2 + 4096, 3));
  t.is(leavesOf(world), '1x1G 1x2M 1x4K');
  world.run(domain.map(BigInt(4 * GIB) - 8192n, 8 * GIB - 8192, 8192 + MIB2, 1));
  t.is(leavesOf(world), '1x2M 2x4K');
  world.run(domain.map(BigInt(8 * GIB), 4096, MIB2, 3));
  t.is(leavesOf(world), '512x4K');
  for (const [iova, pa] of [
    [0x1abc, 0x1abc],
    [MIB2 + 0x12345, 4 * MIB2 + 0x12345],
    [GIB + 0x1234_5678, 4 * GIB + 0x1234_5678],
    [2 * GIB + MIB2 + 5, 5 * GIB + MIB2 + 5],
    [4 * GIB - 1, 8 * GIB - 1],
    [8 * GIB + 0x5000, 0x6000],
  ] as const) {
    t.is(domain.iovaToPhys(BigInt(iova)), pa);
  }
  t.is(domain.iovaToPhys(0n), -1);
  t.is(domain.iovaToPhys(BigInt(8 * GIB + MIB2)), -1);
});

test('without large pages in CAP all leaves are 4 KiB', (t) => {
  const world = makeWorld({ cap: 0x81d2008c602f0606n & ~(3n << 34n) });
  const domain = nestParent(world);
  world.run(domain.map(0n, 0, MIB2, 3));
  t.is(leavesOf(world), '512x4K');
  t.is(domain.pageSizes, 4096);
});

test('a map over a mapping is EEXIST and takes its own pages back', (t) => {
  const world = makeWorld();
  const domain = nestParent(world);
  world.run(domain.map(0x5000n, 0x9000, 4096, 3));
  t.throws(() => world.run(domain.map(0x3000n, 0x1000, 4 * 4096, 3)), { message: /EEXIST/ });
  t.is(domain.iovaToPhys(0x3000n), -1);
  t.is(domain.iovaToPhys(0x4000n), -1);
  t.is(domain.iovaToPhys(0x5000n), 0x9000);
});

test('a map that runs out of tables maps nothing', (t) => {
  const world = makeWorld();
  for (let n = 1; ; n++) {
    const domain = nestParent(world);
    world.kernel.failpoints.failNth(n);
    let failed = false;
    try {
      world.run(domain.map(BigInt(GIB) - 4096n, 0x1000, 8192, 3));
    } catch (error) {
      failed = error instanceof Errno;
    }
    world.kernel.failpoints.disarm();
    if (!failed) {
      t.is(n, 6, 'three tables to the first page, two more to the second');
      break;
    }
    t.is(domain.iovaToPhys(BigInt(GIB) - 4096n), -1);
    t.is(domain.iovaToPhys(BigInt(GIB)), -1);
    world.run(domain.map(BigInt(GIB) - 4096n, 0x1000, 8192, 3));
    t.is(domain.iovaToPhys(BigInt(GIB)), 0x2000);
  }
});

test('unmap takes whole leaves only, frees emptied tables after the flush, and says how much', (t) => {
  const world = makeWorld();
  const domain = attached(world);
  const free = world.kernel.pages.freePages;
  world.run(domain.map(0n, 0, MIB2 + 8192, 3));
  t.is(world.run(domain.unmap(0n, 4096n)), 0n, 'half a 2 MiB leaf');
  t.is(domain.iovaToPhys(0n), 0);
  t.is(world.run(domain.unmap(BigInt(MIB2), 4096n)), 4096n);
  t.deepEqual(world.unit.log, [
    'iotlb_inv page did=2 0x200000 am=0 IH DR DW',
    'dev_tlb_inv sid=00:01.0 0x200000+0x1000',
  ]);
  world.unit.log.length = 0;
  const total = world.run(domain.unmap(0n, BigInt(GIB)));
  t.is(total, BigInt(MIB2 + 4096));
  // Past MAMV (2^18 pages) a page-selective flush would not do; 1 GiB is just within.
  t.deepEqual(world.unit.log, [
    'iotlb_inv page did=2 0x0 am=18 DR DW',
    'dev_tlb_inv sid=00:01.0 0x0+0x40000000',
  ]);
  // What remains is the chain down to the table that the range emptied.
  world.run(domain.unmap(0n, 1n << 48n));
  t.is(world.kernel.pages.freePages, free);
  t.is(world.unit.log.at(-2), 'iotlb_inv domain did=2 DR DW');
});

test('freeing a domain gives every frame back', (t) => {
  const world = makeWorld();
  const free = world.kernel.pages.freePages;
  const domain = nestParent(world);
  world.run(domain.map(0x1000n, 0x1000, 3 * MIB2, 3));
  world.run(domain.map(BigInt(600 * GIB), 0x1000, 4096, 3));
  domain.ops.free(domain);
  t.is(world.kernel.pages.freePages, free);
});

test('arguments that cannot be mapped are EINVAL', (t) => {
  const world = makeWorld();
  const domain = nestParent(world);
  for (const [iova, paddr, bytes, prot] of [
    [1n, 0, 4096, 3],
    [0n, 1, 4096, 3],
    [0n, 0, 4095, 3],
    [0n, 0, 0, 3],
    [0n, 0, 4096, 0],
    [1n << 48n, 0, 4096, 3],
  ] as const) {
    t.throws(() => world.run(domain.map(iova, paddr, bytes, prot)), { message: /EINVAL/ });
  }
});

test('a change of the parent flushes nested ids, and nested device-TLBs whole', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const parent = nestParent(world);
  const domain = nested(dev, parent, 0x1000n);
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  world.run(parent.map(0n, 0, 8192, 3));
  t.deepEqual(world.unit.log, []);
  world.run(parent.unmap(0n, 8192n));
  t.deepEqual(world.unit.log, [
    'iotlb_inv page did=2 0x0 am=1 IH DR DW',
    'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
  ]);
});
