import test from 'ava';
import { HOST_ECAP } from '../../../../devices/spec/vtd/capabilities.ts';
import { coveringMask } from '../../../../host/kernel/intel/cache.ts';
import type { UserArray } from '../../../../host/kernel/iommu/ops.ts';
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_PASID,
  iommu_hw_info_vtd,
  iommu_hwpt_vtd_s1_invalidate,
} from '../../../../host/uapi/iommufd.ts';
import { handleOf, makeWorld, nested, nestParent } from './world.ts';

const ALL = 0xffff_ffff_ffff_ffffn;

function userArray(
  entries: readonly { addr: bigint; npages: bigint; flags?: number; reserved?: number }[],
  type = 0,
): UserArray {
  return {
    type,
    entryLength: 24,
    entryCount: entries.length,
    entry: (index) => {
      const { addr, npages, flags = 0, reserved = 0 } = entries[index]!;
      return iommu_hwpt_vtd_s1_invalidate.encode({ addr, npages, flags, __reserved: reserved });
    },
    done: 0,
  };
}

test('guest invalidations go out under the host id, to every PASID and function attached', (t) => {
  const world = makeWorld({ functions: [{}, {}] });
  const [one, two] = world.devs;
  const domain = nested(one!, nestParent(world), 0x1000n);
  world.run(world.core.attachDevicePasid(domain, one!, 5, handleOf(domain)));
  world.run(world.core.attachDevicePasid(domain, two!, 7, handleOf(domain)));
  const array = userArray([
    { addr: 0x3000n, npages: 2n, flags: 1 },
    { addr: 0n, npages: ALL },
  ]);
  world.run(domain.ops.cacheInvalidateUser!(domain, array));
  t.is(array.done, 2);
  t.deepEqual(world.unit.log, [
    'p_iotlb_inv page did=2 pasid=5 0x3000 am=3 IH',
    'p_iotlb_inv page did=2 pasid=7 0x3000 am=3 IH',
    'p_dev_tlb_inv sid=00:01.0 pasid=5 0x0+0x8000',
    'p_dev_tlb_inv sid=00:02.0 pasid=7 0x0+0x8000',
    'p_iotlb_inv pasid did=2 pasid=5',
    'p_iotlb_inv pasid did=2 pasid=7',
    'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
    'p_dev_tlb_inv sid=00:02.0 pasid=7 all',
  ]);
});

test('a bad entry ends the invalidation with its errno; what came before is done', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  const good = { addr: 0x3000n, npages: 1n };
  const cases = [
    [{ ...good, flags: 2 }, /EOPNOTSUPP/],
    [{ ...good, reserved: 1 }, /EOPNOTSUPP/],
    [{ ...good, addr: 0x3001n }, /EINVAL/],
    [{ ...good, npages: ALL }, /EINVAL/],
  ] as const;
  for (const [bad, message] of cases) {
    const array = userArray([good, bad, good]);
    t.throws(() => world.run(domain.ops.cacheInvalidateUser!(domain, array)), { message });
    t.is(array.done, 1);
  }
  const wrong = userArray([], 1);
  t.throws(() => world.run(domain.ops.cacheInvalidateUser!(domain, wrong)), { message: /EINVAL/ });
});

test('the covering mask is the smallest aligned power of two of pages', (t) => {
  t.is(coveringMask({ start: 3, pages: 1 }), 0);
  t.is(coveringMask({ start: 2, pages: 2 }), 1);
  t.is(coveringMask({ start: 3, pages: 2 }), 3);
  t.is(coveringMask({ start: 0, pages: 3 }), 2);
  t.is(coveringMask({ start: 0, pages: Infinity }), 52);
  t.is(coveringMask({ start: 2 ** 51 - 1, pages: 2 }), 52);
});

test('domain allocation refuses what the driver has not', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const { ops } = dev;
  const refused = { message: /EOPNOTSUPP/ };
  const unable = makeWorld({ ecap: HOST_ECAP & ~(1n << 45n) }).devs[0]!;
  t.false(unable.ops.capable(unable, 'dirty'));
  const flag = IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
  t.throws(() => unable.ops.domainAllocPaging(unable, flag, null), refused);
  const data = { type: 1, bytes: new Uint8Array(24) };
  t.throws(() => ops.domainAllocPaging(dev, 0, data), refused);
  const plain = ops.domainAllocPaging(dev, IOMMU_HWPT_ALLOC_PASID, null);
  t.throws(() => nested(dev, plain, 0n), { message: /EINVAL/ });
  const parent = nestParent(world);
  t.throws(() => ops.domainAllocNested!(dev, parent, 0, { ...data, type: 2 }), refused);
  for (const length of [4, 23, 25, 32]) {
    const odd = { type: 1, bytes: new Uint8Array(length) };
    t.throws(() => ops.domainAllocNested!(dev, parent, 0, odd), { message: /EINVAL/ });
  }
  const info = ops.hwInfo!(dev, 0);
  const values = iommu_hw_info_vtd.read(new DataView(info.bytes.slice().buffer));
  t.is(values.cap_reg, 0x81d2008c602f0606n);
  t.is(values.flags, 1);
  t.throws(() => ops.hwInfo!(dev, 2), refused);
});
