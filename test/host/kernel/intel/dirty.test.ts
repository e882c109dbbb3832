/** Dirty tracking of second-stage domains, on the machine's own unit's tables. */
import test from 'ava';
import { pasidEntry } from '../../../../devices/spec/vtd/pasid.ts';
import { Errno } from '../../../../host/kernel/errno.ts';
import { PagingDomain } from '../../../../host/kernel/intel/paging.ts';
import { IOMMU_HWPT_ALLOC_DIRTY_TRACKING } from '../../../../host/uapi/iommufd.ts';
import { entryOf, handleOf, makeWorld, type World } from './world.ts';

const D = 0x200;

function tracking(world: World): PagingDomain {
  const dev = world.devs[0]!;
  const domain = dev.ops.domainAllocPaging(dev, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, null);
  if (domain instanceof PagingDomain) return domain;
  throw new Error('a domain of another driver');
}

/** Marks the leaf of a page as the unit does. */
function touch(world: World, domain: PagingDomain, page: number): void {
  const { ram } = world.kernel.machine;
  let table = domain.secondStage.root;
  for (let level = 4; ; level--) {
    const slot = table + 8 * (Math.floor(page / 512 ** (level - 1)) % 512);
    const lo = ram.read32(slot);
    if (level === 1 || (lo & 0x80) !== 0) {
      ram.write32(slot, lo | D);
      return;
    }
    table = (lo & ~0xfff) >>> 0;
  }
}

function read(world: World, domain: PagingDomain, bytes: bigint, clear: boolean): string[] {
  const seen: string[] = [];
  const record = (iova: bigint, length: bigint): void => {
    seen.push(`${iova.toString(16)}+${length.toString(16)}`);
  };
  world.run(domain.dirtyOps!.readAndClearDirty(domain, 0n, bytes, clear, record));
  return seen;
}

test('tracking sets SSADE in the entries there are and in those that come', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = tracking(world);
  const ssade = (pasid: number): number => pasidEntry.decode(entryOf(dev, pasid)).SSADE;
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  t.is(ssade(5), 0);
  world.run(domain.dirtyOps!.setDirtyTracking(domain, true));
  t.is(ssade(5), 1);
  world.run(world.core.attachDevicePasid(domain, dev, 6, handleOf(domain)));
  t.is(ssade(6), 1);
  world.run(domain.dirtyOps!.setDirtyTracking(domain, false));
  t.deepEqual([ssade(5), ssade(6)], [0, 0]);
  for (const pasid of [5, 6]) world.run(world.core.detachDevicePasid(domain, dev, pasid));
});

test('dirty leaves are told once, or again with NO_CLEAR; off, nobody may ask', (t) => {
  const world = makeWorld();
  const domain = tracking(world);
  world.run(domain.map(0n, 0x20_0000, 0x20_0000, 3));
  world.run(domain.map(0x20_0000n, 0x1000, 0x2000, 3));
  const error = t.throws(() => read(world, domain, 0x1000n, true), { instanceOf: Errno });
  t.is(error.code, 'EINVAL');
  world.run(domain.dirtyOps!.setDirtyTracking(domain, true));
  t.deepEqual(read(world, domain, 0x40_0000n, true), []);
  touch(world, domain, 0);
  touch(world, domain, 0x201);
  const dirty = ['0+200000', '201000+1000'];
  t.deepEqual(read(world, domain, 0x40_0000n, false), dirty);
  t.deepEqual(read(world, domain, 0x1000n, false), ['0+1000'], 'only what was asked for');
  t.deepEqual(read(world, domain, 0x40_0000n, true), dirty);
  t.deepEqual(read(world, domain, 0x40_0000n, true), []);
});

test('a domain made without the flag has no dirty operations', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  t.is(dev.ops.domainAllocPaging(dev, 0, null).dirtyOps, undefined);
  t.true(dev.ops.capable(dev, 'dirty'));
});
