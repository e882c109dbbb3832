import test from 'ava';
import {
  IOMMU_HW_INFO_TYPE_SELFTEST,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_IOAS_MAP_READABLE,
  IOMMUFD_CMD,
  iommu_hw_info,
  iommu_hwpt_alloc,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { id } from '../iommufd/client.ts';
import { BASE, makeMockWorld, NOTHING, PAGE } from './world.ts';

const UNIT = uapi.MOCK_PAGE_SIZE;

test('a mapping is in all domains, of the very pages, and goes from all', (t) => {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const first = it.mock(ioas);
  const second = it.mock(ioas);
  t.is(second.hwpt, first.hwpt, 'the auto-domain is shared');
  const own = id(it.hwpt(first.idev, ioas));
  const address = it.user.map(4 * PAGE);
  t.is(it.map(ioas, address, 4 * PAGE, BASE), 'OK');
  for (const hwpt of [first.hwpt, own]) {
    t.is(it.checkMap(hwpt, BASE, 4 * PAGE, address), 'OK');
    t.is(it.checkMap(hwpt, BASE, PAGE, address + PAGE), 'EINVAL', 'another page');
    t.is(it.checkMap(hwpt, BASE + 4 * PAGE, PAGE, address), 'EINVAL', 'nothing there');
  }
  t.is(it.checkRefs(address, 4 * PAGE, 1), 'OK', 'pinned once');
  t.is(it.checkRefs(address, 4 * PAGE, 2), 'EIO');
  t.is(it.unmap(ioas, BigInt(BASE), BigInt(4 * PAGE)), BigInt(4 * PAGE));
  t.is(it.checkMap(own, BASE, PAGE, address), 'EINVAL');
  t.is(it.checkRefs(address, 4 * PAGE, 0), 'OK');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('a domain made later is filled, and the pages stay pinned by the other', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const address = it.user.map(2 * PAGE);
  it.map(ioas, address, 2 * PAGE, BASE);
  t.is(it.checkRefs(address, 2 * PAGE, 0), 'OK', 'no domain, no pins');
  const first = it.mock(ioas);
  const hwpt = id(it.hwpt(first.idev, ioas));
  t.is(it.checkMap(hwpt, BASE, 2 * PAGE, address), 'OK');
  t.is(it.destroy(first.stdev), 'OK');
  t.is(it.checkRefs(address, 2 * PAGE, 1), 'OK');
  t.is(it.checkMap(hwpt, BASE, 2 * PAGE, address), 'OK');
  t.is(it.destroy(hwpt), 'OK');
  t.is(it.checkRefs(address, 2 * PAGE, 0), 'OK');
});

test('every offset and length in units of half a page translates', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const { hwpt } = it.mock(ioas);
  const bytes = 4 * PAGE;
  const address = it.user.map(bytes);
  for (let start = 0; start < bytes; start += UNIT) {
    for (let end = start + UNIT; end <= bytes; end += 3 * UNIT) {
      const length = end - start;
      const iova = it.mapAnywhere(ioas, address + start, length);
      if (typeof iova === 'string') return t.fail(iova);
      t.is(it.checkMap(hwpt, Number(iova), length, address + start), 'OK');
      const page = Math.floor(start / PAGE) * PAGE;
      const pages = Math.ceil(end / PAGE) * PAGE - page;
      t.is(it.checkRefs(address + page, pages, 1), 'OK');
      t.is(it.unmap(ioas, iova, BigInt(length)), BigInt(length));
    }
  }
});

test('MD_CHECK_MAP and MD_CHECK_REFS: arguments', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const { hwpt, idev } = it.mock(ioas);
  const address = it.user.map(PAGE);
  t.is(it.map(ioas, address, PAGE, BASE), 'OK');
  t.is(it.checkMap(hwpt, BASE + 1, UNIT, address), 'EINVAL');
  t.is(it.checkMap(hwpt, BASE, 1, address), 'EINVAL');
  t.is(it.checkMap(hwpt, BASE, UNIT, address + 1), 'EINVAL');
  t.is(it.checkMap(idev, BASE, UNIT, address), 'ENOENT', 'no HWPT');
  t.is(it.checkMap(hwpt, BASE, UNIT, 0x10_0000), 'EFAULT');
  t.is(it.checkMap(hwpt, BASE + UNIT, UNIT, address + UNIT), 'OK');
  t.is(it.checkRefs(address + 1, PAGE, 0), 'EINVAL');
  t.is(it.checkRefs(address, 1, 0), 'EINVAL');
  t.is(it.checkRefs(0x10_0000, PAGE, 0), 'EFAULT');
});

test('MOCK_DOMAIN: what it is attached to, and its flags', (t) => {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const before = world.kernel.leftovers().objects;
  t.is(it.tryMock(99), 'ENOENT');
  t.is(it.tryMock(ioas, 8), 'EINVAL');
  t.is(world.kernel.leftovers().objects, before);
  const mock = it.mock(ioas);
  t.is(it.tryMock(mock.idev), 'EINVAL', 'a device is no page table');
  t.deepEqual([mock.stdev, mock.idev, mock.hwpt], [2, 3, 4], 'lowest free ids, in this order');
  t.is(it.destroy(mock.idev), 'EBUSY');
  t.is(it.destroy(mock.hwpt), 'EBUSY');
  t.is(it.destroy(ioas), 'EBUSY');
  t.is(it.destroy(mock.stdev), 'OK');
  t.is(it.destroy(mock.hwpt), 'ENOENT', 'the auto-domain went with it');
  t.is(it.destroy(ioas), 'OK');
});

test('MOCK_DOMAIN reads no flags, and a reply that does not arrive undoes all', (t) => {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const variant = uapi.iommu_test_mock_domain_flags;
  const op = uapi.IOMMU_TEST_OP_MOCK_DOMAIN;
  const { result, out } = it.op(op, variant, { id: ioas, dev_flags: 0xff });
  t.is(result, 'OK');
  t.is(it.destroy(out.out_stdev_id), 'OK');
  world.kernel.failpoints.failAt('copy_to_user');
  t.is(it.tryMock(ioas), 'EFAULT');
  world.kernel.failpoints.disarm();
  t.is(it.destroy(ioas), 'OK');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('explicit page tables rotate on the RID; one in use cannot go', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const { stdev, idev, hwpt } = it.mock(ioas);
  const plain = id(it.hwpt(idev, ioas));
  const parent = id(it.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT));
  t.is(it.hwpt(idev, ioas, 0xffff_fffe), 'EOPNOTSUPP');
  t.is(it.replace(stdev, plain), plain);
  t.is(it.destroy(hwpt), 'ENOENT', 'the auto-domain went');
  t.is(it.destroy(plain), 'EBUSY');
  t.is(it.replace(stdev, parent), parent);
  t.is(it.destroy(parent), 'EBUSY');
  t.is(it.destroy(plain), 'OK');
  const again = it.replace(stdev, ioas);
  t.is(it.replace(stdev, ioas), again, 'the same auto-domain');
  t.is(it.replace(stdev, 99), 'ENOENT');
  t.is(it.replace(idev, ioas), 'ENOENT');
  t.is(it.destroy(parent), 'OK');
});

test('replacing the IOAS takes the auto-domain of the old one away', (t) => {
  const it = makeMockWorld().tester();
  const [a, b] = [it.ioas(), it.ioas()];
  const { stdev, hwpt } = it.mock(a);
  const next = id(it.replace(stdev, b));
  t.is(it.destroy(hwpt), 'ENOENT');
  t.is(it.destroy(a), 'OK');
  t.is(it.replace(stdev, next), next);
  t.is(it.destroy(b), 'EBUSY');
});

test('the aperture bounds mappings, before and after the domain comes', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const address = it.user.map(PAGE);
  t.is(it.map(ioas, address, PAGE, BASE - PAGE), 'OK');
  t.is(it.tryMock(ioas), 'EADDRINUSE');
  t.is(it.unmap(ioas, BigInt(BASE - PAGE), BigInt(PAGE)), BigInt(PAGE));
  t.is(typeof it.tryMock(ioas), 'object');
  t.is(it.map(ioas, address, PAGE, BASE - PAGE), 'EINVAL');
  t.is(it.map(ioas, address, PAGE, uapi.MOCK_APERTURE_LAST + 1), 'EINVAL');
  t.is(it.map(ioas, address, PAGE, uapi.MOCK_APERTURE_LAST + 1 - PAGE), 'OK');
  t.is(it.map(ioas, address, UNIT + 1, BASE), 'EINVAL', 'not a multiple of 2 KiB');
});

test('page table types: huge pages, and formats that are none', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const { idev } = it.mock(ioas, uapi.MOCK_FLAGS_DEVICE_HUGE_IOVA);
  const other = it.ioas();
  const alloc = (format: number, length = 8, type = IOMMU_HWPT_DATA_SELFTEST) => {
    it.user.write(it.payload, uapi.iommu_hwpt_selftest.encode({ pagetable_type: format }));
    const { result, out } = it.user.call(it.fd, IOMMUFD_CMD.IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, {
      dev_id: idev,
      pt_id: other,
      data_type: type,
      data_len: length,
      data_uptr: BigInt(it.payload),
    });
    return result === 'OK' ? out.out_hwpt_id : result;
  };
  t.is(alloc(2), 'EOPNOTSUPP');
  t.is(alloc(0, 8, 1), 'EOPNOTSUPP');
  t.is(alloc(0, 3), 'EINVAL');
  t.is(alloc(0, 9), 'EINVAL');
  t.is(typeof alloc(0, 4), 'number');
  const huge = id(alloc(uapi.MOCK_IOMMUPT_HUGE));
  const bytes = 4 << 20;
  const address = it.user.map(bytes);
  t.is(it.map(other, address, bytes, BASE), 'OK');
  t.is(it.checkMap(huge, BASE, bytes, address), 'OK');
  t.is(it.checkMap(huge, BASE + UNIT, PAGE, address), 'EINVAL', 'its unit is a page');
});

test('GET_HW_INFO of a mock device', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const plain = it.mock(ioas);
  const able = it.mock(ioas, uapi.MOCK_FLAGS_DEVICE_PASID | uapi.MOCK_FLAGS_DEVICE_NO_DIRTY);
  const info = (dev: number, requested = 0, flags = 0) =>
    it.user.call(it.fd, IOMMUFD_CMD.IOMMU_GET_HW_INFO, iommu_hw_info, {
      dev_id: dev,
      flags,
      out_data_type: requested,
      data_len: 8,
      data_uptr: BigInt(it.payload),
    });
  const { result, out } = info(plain.idev);
  t.is(result, 'OK');
  t.like(out, { data_len: 8, out_data_type: IOMMU_HW_INFO_TYPE_SELFTEST, out_max_pasid_log2: 0 });
  t.is(out.out_capabilities & 1n, 1n);
  const payload = uapi.iommu_test_hw_info.read(new DataView(it.user.read(it.payload, 8).buffer));
  t.deepEqual(payload, { flags: 0, test_reg: uapi.IOMMU_HW_INFO_SELFTEST_REGVAL });
  t.is(info(able.idev).out.out_max_pasid_log2, uapi.MOCK_PASID_WIDTH);
  t.is(info(able.idev).out.out_capabilities & 1n, 0n);
  t.is(info(plain.idev, IOMMU_HW_INFO_TYPE_SELFTEST, 1).result, 'OK');
  t.is(info(plain.idev, 1, 1).result, 'EOPNOTSUPP');
});

test('a domain that tracks dirty pages takes no device that cannot', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const able = it.mock(ioas);
  const unable = it.mock(ioas, uapi.MOCK_FLAGS_DEVICE_NO_DIRTY);
  const flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
  t.is(it.hwpt(unable.idev, ioas, flags), 'EOPNOTSUPP');
  const hwpt = id(it.hwpt(able.idev, ioas, flags));
  t.is(it.replace(unable.stdev, hwpt), 'EINVAL');
  t.is(it.tryMock(hwpt, uapi.MOCK_FLAGS_DEVICE_NO_DIRTY), 'EINVAL');
  t.is(it.replace(able.stdev, hwpt), hwpt);
});

test('memory mapped for reading only is pinned so', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const { hwpt } = it.mock(ioas);
  const address = it.user.map(PAGE, 1);
  t.is(it.map(ioas, address, PAGE, BASE), 'EFAULT');
  t.is(it.map(ioas, address, PAGE, BASE, IOMMU_IOAS_MAP_READABLE), 'OK');
  t.is(it.checkMap(hwpt, BASE, PAGE, address), 'OK');
});
