import test from 'ava';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_DATA_NONE,
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_HWPT_FAULT_ID_VALID,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { id } from '../iommufd/client.ts';
import { makeMockWorld, NOTHING, type Tester } from './world.ts';

const NEST = IOMMU_HWPT_ALLOC_NEST_PARENT;
const FAULT = IOMMU_HWPT_FAULT_ID_VALID;
const FRESH = uapi.IOMMU_TEST_IOTLB_DEFAULT;
const ALL = uapi.IOMMU_TEST_INVALIDATE_FLAG_ALL;

function setUp() {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const { stdev, idev } = it.mock(ioas);
  const parent = id(it.hwpt(idev, ioas, NEST));
  return { world, it, ioas, stdev, idev, parent };
}

/** The four IOTLB entries as MD_CHECK_IOTLB finds them: 'x' fresh, '0' empty. */
function iotlb(it: Tester, hwpt: number): string {
  return [0, 1, 2, 3]
    .map((index) => {
      if (it.checkIotlb(hwpt, index, FRESH) === 'OK') return 'x';
      return it.checkIotlb(hwpt, index, 0) === 'OK' ? '0' : '?';
    })
    .join('');
}

test('HWPT_ALLOC of a nested page table: every way to go wrong', (t) => {
  const { it, ioas, idev, parent } = setUp();
  const plain = id(it.hwpt(idev, ioas));
  t.is(it.hwpt(ioas, ioas), 'ENOENT', 'no device');
  t.is(it.hwpt(idev, idev), 'EINVAL', 'a device is no page table');
  t.is(it.hwpt(idev, ioas, NEST | FAULT), 'EOPNOTSUPP');
  t.is(it.mockNested(idev, parent, 0, { type: IOMMU_HWPT_DATA_NONE }), 'EINVAL');
  t.is(it.mockNested(idev, parent, 0, { type: IOMMU_HWPT_DATA_SELFTEST + 1 }), 'EOPNOTSUPP');
  t.is(it.mockNested(idev, parent, 0, { length: 3 }), 'EINVAL');
  t.is(it.mockNested(idev, parent, 0, { length: 9 }), 'EINVAL');
  t.is(it.mockNested(idev, parent, 0, { address: 0 }), 'EFAULT');
  t.is(it.mockNested(idev, parent, NEST), 'EOPNOTSUPP');
  t.is(it.mockNested(idev, plain), 'EINVAL', 'no nest parent');
  t.is(it.mockNested(idev, parent, FAULT, { fault: 0xffff_ffff }), 'ENOENT');
  const nested = id(it.mockNested(idev, parent));
  t.is(it.mockNested(idev, nested), 'EINVAL', 'nested on nested');
  t.is(it.destroy(parent), 'EBUSY');
});

test('an IOTLB is filled from the payload and emptied by invalidations', (t) => {
  const { it, idev, parent } = setUp();
  const [one, two] = [id(it.mockNested(idev, parent)), id(it.mockNested(idev, parent))];
  t.is(iotlb(it, one), 'xxxx');
  t.deepEqual(it.invalidate(one, [{ flags: 0, iotlb_id: 0 }]), { result: 'OK', done: 1 });
  t.is(iotlb(it, one), '0xxx');
  const several = [1, 2].map((iotlb_id) => ({ flags: 0, iotlb_id }));
  t.deepEqual(it.invalidate(one, several), { result: 'OK', done: 2 });
  t.is(iotlb(it, one), '000x');
  t.is(iotlb(it, two), 'xxxx', 'the other has its own');
  t.deepEqual(it.invalidate(two, [{ flags: ALL, iotlb_id: 0 }]), { result: 'OK', done: 1 });
  t.is(iotlb(it, two), '0000');
  t.deepEqual(it.invalidate(two, []), { result: 'OK', done: 0 }, 'only the type is checked');
});

test('invalidations stop at the first bad entry, and say how many are done', (t) => {
  const { it, idev, parent } = setUp();
  const nested = id(it.mockNested(idev, parent));
  const good = { flags: 0, iotlb_id: 0 };
  const bad = { flags: 0, iotlb_id: 4 };
  const invalid = uapi.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID;
  const none = { result: 'EINVAL', done: 0 };
  t.deepEqual(it.invalidate(nested, [good], { type: invalid }), none);
  t.deepEqual(it.invalidate(nested, [], { type: invalid }), none);
  t.deepEqual(it.invalidate(nested, [good], { length: 0 }), none);
  t.deepEqual(it.invalidate(nested, [good], { length: 7 }), none);
  t.deepEqual(it.invalidate(nested, [good], { length: 9 }), none);
  t.deepEqual(it.invalidate(nested, [bad, good]), none);
  t.is(iotlb(it, nested), 'xxxx');
  const flags = { flags: 0xffff_ffff, iotlb_id: 1 };
  t.deepEqual(it.invalidate(nested, [good, flags]), { result: 'EOPNOTSUPP', done: 1 });
  t.is(iotlb(it, nested), '0xxx');
  t.deepEqual(it.invalidate(nested, [{ flags: 0, iotlb_id: 1 }, bad]), {
    result: 'EINVAL',
    done: 1,
  });
  t.is(iotlb(it, nested), '00xx');
});

test('MD_CHECK_IOTLB: what is no entry', (t) => {
  const { it, idev, parent } = setUp();
  const nested = id(it.mockNested(idev, parent));
  t.is(it.checkIotlb(nested, 4, FRESH), 'EINVAL');
  t.is(it.checkIotlb(nested, 0, FRESH + 1), 'EINVAL');
  t.is(it.checkIotlb(parent, 0, FRESH), 'ENOENT');
});

test('DEV_CHECK_CACHE: a fresh device has the default in every entry', (t) => {
  const { it, idev, stdev } = setUp();
  for (const index of [0, 1, 2, 3]) {
    t.is(it.checkCache(idev, index, uapi.IOMMU_TEST_DEV_CACHE_DEFAULT), 'OK');
  }
  t.is(it.checkCache(idev, 0, 0), 'EINVAL');
  t.is(it.checkCache(idev, 4, uapi.IOMMU_TEST_DEV_CACHE_DEFAULT), 'EINVAL');
  t.is(it.checkCache(stdev, 0, uapi.IOMMU_TEST_DEV_CACHE_DEFAULT), 'ENOENT');
});

test('the RID rotates between nested tables, and faults follow the one it has', (t) => {
  const { world, it, ioas, stdev, idev, parent } = setUp();
  const nested = [0, 1].map(() => id(it.mockNested(idev, parent)));
  const fault = it.faultQueue();
  const iopf = id(it.mockNested(idev, parent, FAULT, { fault: fault.id }));
  for (const pt of nested) {
    t.is(it.replace(stdev, pt), pt);
    t.is(it.destroy(pt), 'EBUSY');
  }
  t.is(it.destroy(nested[0]!), 'OK');
  t.is(it.triggerFault(idev), 'OK', 'answered INVALID at once');
  t.is(it.replace(stdev, iopf), iopf);
  t.is(it.destroy(nested[1]!), 'OK');
  t.is(it.destroy(iopf), 'EBUSY');
  t.is(it.triggerFault(idev), 'OK');
  const [record] = it.faults(fault.fd);
  t.like(record, { flags: 2, dev_id: idev, pasid: 0, grpid: 2, perm: 3, cookie: 1, length: 0 });
  t.is(it.answer(fault.fd, 1), 8);
  t.is(it.triggerFault(idev, 1), 'OK', 'the table of the RID may have PASIDs of its own');
  t.like(it.faults(fault.fd)[0], { flags: 3, pasid: 1 });
  t.is(it.replace(stdev, parent), parent);
  t.is(it.destroy(iopf), 'OK');
  t.is(it.destroy(fault.id), 'EBUSY', 'its file is open');
  t.is(it.user.close(fault.fd), 0);
  t.is(it.destroy(fault.id), 'OK');
  t.is(typeof it.replace(stdev, ioas), 'number');
  t.is(it.destroy(parent), 'OK');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('TRIGGER_IOPF: no such device', (t) => {
  const { it, stdev } = setUp();
  t.is(it.triggerFault(99), 'ENOENT');
  t.is(it.triggerFault(stdev), 'ENOENT');
});
