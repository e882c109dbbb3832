import test from 'ava';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
  IOMMUFD_CMD,
  iommu_hw_queue_alloc,
  iommu_hwpt_invalidate,
  iommu_vdevice_alloc,
  iommu_veventq_alloc,
  iommu_viommu_alloc,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { type IdOrError, id } from '../iommufd/client.ts';
import { BASE, makeMockWorld, NOTHING, PAGE, type Tester } from './world.ts';

const FRESH = uapi.IOMMU_TEST_DEV_CACHE_DEFAULT;
const VIRT_ID = 0x99n;

function setUp() {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const mock = it.mock(ioas);
  const parent = id(it.hwpt(mock.idev, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT));
  const viommu = id(makeViommu(it, mock.idev, parent));
  return { world, it, ioas, ...mock, parent, viommu };
}

function makeViommu(it: Tester, dev: number, hwpt: number, data?: Uint8Array): IdOrError {
  if (data !== undefined) it.user.write(it.payload, data);
  const cmd = IOMMUFD_CMD.IOMMU_VIOMMU_ALLOC;
  const { result, out } = it.user.call(it.fd, cmd, iommu_viommu_alloc, {
    type: IOMMU_VIOMMU_TYPE_SELFTEST,
    dev_id: dev,
    hwpt_id: hwpt,
    data_len: data?.length ?? 0,
    data_uptr: data === undefined ? 0n : BigInt(it.payload),
  });
  return result === 'OK' ? out.out_viommu_id : result;
}

function makeVdevice(it: Tester, viommu: number, dev: number, virt_id = VIRT_ID): IdOrError {
  const cmd = IOMMUFD_CMD.IOMMU_VDEVICE_ALLOC;
  const values = { viommu_id: viommu, dev_id: dev, virt_id };
  const { result, out } = it.user.call(it.fd, cmd, iommu_vdevice_alloc, values);
  return result === 'OK' ? out.out_vdevice_id : result;
}

function vevent(it: Tester, dev: number): string {
  const op = uapi.IOMMU_TEST_OP_TRIGGER_VEVENT;
  return it.does(op, uapi.iommu_test_trigger_vevent, { dev_id: dev });
}

test('the payload comes back, with a page to map', (t) => {
  const { world, it, idev, parent } = setUp();
  const data = uapi.iommu_viommu_selftest.encode({ in_data: 0xbeef });
  t.is(typeof makeViommu(it, idev, parent, data), 'number');
  const back = it.user.read(it.payload, data.length);
  const out = uapi.iommu_viommu_selftest.read(new DataView(back.buffer));
  t.like(out, { in_data: 0xbeef, out_data: 0xbeef, out_mmap_length: BigInt(2 * PAGE) });
  t.is(makeViommu(it, idev, parent, data.subarray(0, 7)), 'EINVAL');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('the RID needs a virtual device before it takes a table of the vIOMMU', (t) => {
  const { it, idev, stdev, viommu } = setUp();
  const nested = id(it.mockNested(idev, viommu));
  t.is(it.replace(stdev, nested), 'ENOENT');
  t.is(vevent(it, idev), 'ENOENT', 'not attached through a vIOMMU');
  const vdevice = id(makeVdevice(it, viommu, idev));
  t.is(makeVdevice(it, viommu, idev), 'EEXIST');
  t.is(it.replace(stdev, nested), nested);
  t.is(vevent(it, idev), 'EOPNOTSUPP', 'nobody made a queue');
  t.is(vevent(it, stdev), 'ENOENT');
  t.is(it.destroy(viommu), 'EBUSY');
  t.is(typeof vdevice, 'number');
});

test('events come with the virtual id, in sequence', (t) => {
  const { it, idev, stdev, viommu } = setUp();
  makeVdevice(it, viommu, idev);
  it.replace(stdev, id(it.mockNested(idev, viommu)));
  const cmd = IOMMUFD_CMD.IOMMU_VEVENTQ_ALLOC;
  const queue = it.user.ok(it.fd, cmd, iommu_veventq_alloc, {
    viommu_id: viommu,
    type: IOMMU_VEVENTQ_TYPE_SELFTEST,
    veventq_depth: 2,
  });
  for (let n = 0; n < 2; n++) t.is(vevent(it, idev), 'OK');
  t.is(vevent(it, idev), 'OK', 'lost, which is no error of the device');
  const read = it.user.process.read(queue.out_veventq_fd, it.payload, 256);
  const count = it.user.run(read);
  const words = new Uint32Array(it.user.read(it.payload, count).buffer);
  t.deepEqual([...words], [0, 0, 0x99, 0, 1, 0x99, 1, 2]);
});

test('invalidations empty the caches of virtual devices', (t) => {
  const { it, idev, viommu } = setUp();
  makeVdevice(it, viommu, idev);
  const struct = uapi.iommu_viommu_invalidate_selftest;
  const invalidate = (...entries: Parameters<typeof struct.encode>[0][]) => {
    entries.forEach((entry, n) => {
      it.user.write(it.payload + n * struct.size, struct.encode(entry));
    });
    const cmd = IOMMUFD_CMD.IOMMU_HWPT_INVALIDATE;
    const { result, out } = it.user.call(it.fd, cmd, iommu_hwpt_invalidate, {
      hwpt_id: viommu,
      data_uptr: BigInt(it.payload),
      data_type: 0xdeadbeef,
      entry_len: struct.size,
      entry_num: entries.length,
    });
    return [result, out.entry_num];
  };
  const good = { vdev_id: 0x99, cache_id: 0 };
  t.deepEqual(invalidate(good), ['OK', 1]);
  t.is(it.checkCache(idev, 0, 0), 'OK');
  t.is(it.checkCache(idev, 1, FRESH), 'OK');
  t.deepEqual(invalidate({ ...good, cache_id: 1 }, { ...good, cache_id: 4 }), ['EINVAL', 1]);
  t.is(it.checkCache(idev, 1, 0), 'OK');
  t.deepEqual(invalidate({ ...good, flags: 2 }), ['EOPNOTSUPP', 0]);
  t.deepEqual(invalidate({ ...good, vdev_id: 1 }), ['EINVAL', 0]);
  t.deepEqual(invalidate({ ...good, flags: 1 }), ['OK', 1]);
  t.is(it.checkCache(idev, 3, 0), 'OK');
});

test('entries of an invalidation: a page each at most, and half a million of them', (t) => {
  const { it, idev, viommu } = setUp();
  makeVdevice(it, viommu, idev);
  const struct = uapi.iommu_viommu_invalidate_selftest;
  const buffer = it.user.map(4 * PAGE);
  it.user.write(buffer, struct.encode({ vdev_id: 0x99 }));
  const invalidate = (entry_len: number, entry_num: number): [string, number] => {
    const cmd = IOMMUFD_CMD.IOMMU_HWPT_INVALIDATE;
    const { result, out } = it.user.call(it.fd, cmd, iommu_hwpt_invalidate, {
      hwpt_id: viommu,
      data_uptr: BigInt(buffer),
      data_type: 0xdeadbeef,
      entry_len,
      entry_num,
    });
    return [result, out.entry_num];
  };
  t.deepEqual(invalidate(PAGE, 1), ['OK', 1]);
  t.deepEqual(invalidate(PAGE + 1, 1), ['EINVAL', 0]);
  t.deepEqual(invalidate(struct.size, 1 << 19), ['EFAULT', 0], 'there are not so many');
  t.deepEqual(invalidate(struct.size, (1 << 19) + 1), ['EINVAL', 0]);
  t.deepEqual(invalidate(0, 0), ['OK', 0]);
  it.user.write(buffer + PAGE - 1, Uint8Array.of(1));
  t.deepEqual(invalidate(PAGE, 1), ['E2BIG', 0]);
});

test('hardware queues: in order, in mapped memory, which stays mapped', (t) => {
  const { world, it, ioas, viommu } = setUp();
  const address = it.user.map(2 * PAGE);
  t.is(it.map(ioas, address, PAGE, BASE), 'OK');
  t.is(it.map(ioas, address + PAGE, PAGE, BASE + PAGE), 'OK');
  const queue = (index: number, iova = BASE, length = PAGE): IdOrError => {
    const cmd = IOMMUFD_CMD.IOMMU_HW_QUEUE_ALLOC;
    const { result, out } = it.user.call(it.fd, cmd, iommu_hw_queue_alloc, {
      viommu_id: viommu,
      type: IOMMU_HW_QUEUE_TYPE_SELFTEST,
      index,
      nesting_parent_iova: BigInt(iova),
      length: BigInt(length),
    });
    return result === 'OK' ? out.out_hw_queue_id : result;
  };
  t.is(queue(1), 'EIO');
  t.is(queue(2), 'EINVAL');
  t.is(queue(0, BASE + 2 * PAGE), 'ENOENT');
  const first = id(queue(0));
  t.is(queue(0), 'EEXIST');
  t.is(it.unmap(ioas, BigInt(BASE), BigInt(PAGE)), 'EBUSY');
  t.is(it.unmap(ioas, BigInt(BASE + PAGE), BigInt(PAGE)), BigInt(PAGE));
  const second = id(queue(1, BASE, PAGE / 2));
  t.is(it.destroy(first), 'EBUSY');
  t.is(it.destroy(second), 'OK');
  t.is(it.destroy(first), 'OK');
  t.is(it.unmap(ioas, BigInt(BASE), BigInt(PAGE)), BigInt(PAGE));
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});
