/**
 * Every ioctl of /dev/iommu with each mistake its documentation names, in the order in which the
 * kernel looks for them, and the same call without the mistake.
 */
import test from 'ava';
import * as u from '../../../../host/uapi/iommufd.ts';
import { MOCK_FLAGS_DEVICE_PASID } from '../../../../host/uapi/iommufd-test.ts';
import { BASE, makeMockWorld, NOTHING, PAGE, type Tester } from '../mock/world.ts';

type Value = number | bigint;
type Arguments = Readonly<Record<string, Value>>;

const ALL = 0xffff_ffff_ffff_ffffn;
const BAD = 0xdead_0000_0000n;
const NEST = u.IOMMU_HWPT_ALLOC_NEST_PARENT;
const DIRTY = u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
const FAULT = u.IOMMU_HWPT_FAULT_ID_VALID;
const MAP = u.IOMMU_IOAS_MAP_FIXED_IOVA | u.IOMMU_IOAS_MAP_READABLE;
const at = BigInt(BASE);
const page = BigInt(PAGE);

/** A program with one of everything. */
function one() {
  const world = makeMockWorld();
  const it = world.tester();
  const { user, payload } = it;
  const memory = user.map(4 * PAGE);
  const ioas = it.ioas();
  it.map(ioas, memory, 2 * PAGE, BASE);
  const { stdev, idev, hwpt: auto } = it.mock(ioas, MOCK_FLAGS_DEVICE_PASID);
  const get = (value: number | string): number => {
    if (typeof value === 'string') throw new Error(value);
    return value;
  };
  const plain = get(it.hwpt(idev, ioas));
  const parent = get(it.hwpt(idev, ioas, NEST));
  const tracker = get(it.hwpt(idev, ioas, DIRTY));
  const nested = get(it.mockNested(idev, parent));
  const empty = it.ioas();
  user.write(payload, new Uint8Array(64));
  const pointer = BigInt(payload);
  return {
    ...{ world, it, user, memory, ioas, stdev, idev, auto, plain, parent, tracker, nested, empty },
    pointer,
  };
}

function calls(it: Tester, name: keyof typeof u.IOMMUFD_CMD) {
  const { struct } = u.IOMMUFD_IOCTLS.find((one) => one.name === name)!;
  return (values: Arguments): string =>
    it.user.call(it.fd, u.IOMMUFD_CMD[name], struct, values).result;
}

test('a bad pointer is EFAULT for every ioctl, and nothing has changed', (t) => {
  const { it, world, user } = one();
  const before = world.kernel.leftovers();
  for (const { name, cmd } of u.IOMMUFD_IOCTLS) {
    t.is(user.run(user.process.ioctl(it.fd, cmd, Number(BAD))), -14, name);
  }
  t.deepEqual(world.kernel.leftovers(), before);
  user.process.kill();
  world.run(user.process.wait());
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('DESTROY, IOAS_ALLOC and FAULT_QUEUE_ALLOC', (t) => {
  const { it, ioas, idev, nested, parent, empty } = one();
  const destroy = calls(it, 'IOMMU_DESTROY');
  t.is(destroy({ id: 0 }), 'ENOENT');
  t.is(destroy({ id: 99 }), 'ENOENT');
  for (const id of [ioas, idev, parent]) t.is(destroy({ id }), 'EBUSY');
  t.is(destroy({ id: nested }), 'OK');
  t.is(destroy({ id: empty }), 'OK');
  t.is(destroy({ id: empty }), 'ENOENT');
  t.is(calls(it, 'IOMMU_IOAS_ALLOC')({ flags: 1 }), 'EOPNOTSUPP');
  t.is(calls(it, 'IOMMU_IOAS_ALLOC')({}), 'OK');
  t.is(calls(it, 'IOMMU_FAULT_QUEUE_ALLOC')({ flags: 1 }), 'EOPNOTSUPP');
  t.is(calls(it, 'IOMMU_FAULT_QUEUE_ALLOC')({}), 'OK');
});

test('IOVA_RANGES and ALLOW_IOVAS', (t) => {
  const { it, ioas, empty, pointer, user } = one();
  const ranges = calls(it, 'IOMMU_IOAS_IOVA_RANGES');
  const room = { ioas_id: ioas, num_iovas: 4, allowed_iovas: pointer };
  t.is(ranges({ ...room, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(ranges({ ...room, ioas_id: 99 }), 'ENOENT');
  t.is(ranges({ ...room, allowed_iovas: BAD }), 'EFAULT');
  t.is(ranges({ ...room, num_iovas: 0 }), 'EMSGSIZE');
  t.is(ranges(room), 'OK');
  const allow = calls(it, 'IOMMU_IOAS_ALLOW_IOVAS');
  const write = (...list: readonly (readonly [bigint, bigint])[]): void =>
    list.forEach(([start, last], n) => {
      user.write(Number(pointer) + 16 * n, u.iommu_iova_range.encode({ start, last }));
    });
  const two = { ioas_id: empty, num_iovas: 2, allowed_iovas: pointer };
  write([at, at + 9n], [at + 20n, at + 29n]);
  t.is(allow({ ...two, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(allow({ ...two, ioas_id: 99 }), 'ENOENT');
  t.is(allow({ ...two, allowed_iovas: BAD }), 'EFAULT');
  t.is(allow(two), 'OK');
  write([at, at + 9n], [at + 9n, at + 29n]);
  t.is(allow(two), 'EINVAL');
  write([at, at + 9n], [at + 20n, at + 20n]);
  t.is(allow(two), 'EINVAL');
  write([0n, 9n], [at + 20n, at + 29n]);
  t.is(allow({ ...two, ioas_id: ioas }), 'EADDRINUSE');
});

test('COPY and UNMAP', (t) => {
  const { it, ioas, empty } = one();
  const copy = calls(it, 'IOMMU_IOAS_COPY');
  const good = { flags: MAP, dst_ioas_id: empty, src_ioas_id: ioas, length: page };
  const where = { dst_iova: at, src_iova: at };
  t.is(copy({ ...good, ...where, flags: MAP | 8 }), 'EOPNOTSUPP');
  for (const field of ['length', 'src_iova', 'dst_iova']) {
    t.is(copy({ ...good, ...where, [field]: ALL }), 'EOVERFLOW', field);
  }
  t.is(copy({ ...good, ...where, flags: u.IOMMU_IOAS_MAP_FIXED_IOVA }), 'EINVAL');
  t.is(copy({ ...good, ...where, src_ioas_id: 99 }), 'ENOENT');
  t.is(copy({ ...good, ...where, length: 0n }), 'EINVAL');
  t.is(copy({ ...good, ...where, length: 3n * page }), 'ENOENT');
  t.is(copy({ ...good, ...where, dst_ioas_id: 99 }), 'ENOENT');
  t.is(copy({ ...good, ...where }), 'OK');
  t.is(copy({ ...good, ...where }), 'EEXIST');
  const unmap = calls(it, 'IOMMU_IOAS_UNMAP');
  const range = { ioas_id: empty, iova: at, length: page };
  t.is(unmap({ ...range, ioas_id: 99 }), 'ENOENT');
  t.is(unmap({ ...range, iova: ALL }), 'EOVERFLOW');
  t.is(unmap({ ...range, length: ALL }), 'EOVERFLOW');
  t.is(unmap({ ...range, length: 0n }), 'EINVAL');
  t.is(unmap({ ...range, length: ALL - 1n }), 'EOVERFLOW');
  t.is(unmap({ ...range, length: 1n }), 'ENOENT');
  t.is(unmap(range), 'OK');
  t.is(unmap(range), 'ENOENT');
  t.is(unmap({ ioas_id: empty, iova: 0n, length: ALL }), 'OK');
});

test('OPTION, VFIO_IOAS and IOAS_CHANGE_PROCESS', (t) => {
  const { it, ioas, empty, world } = one();
  const option = calls(it, 'IOMMU_OPTION');
  const huge = { option_id: u.IOMMU_OPTION_HUGE_PAGES, object_id: empty, val64: 1n };
  t.is(option({ ...huge, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(option({ ...huge, option_id: 9 }), 'EOPNOTSUPP');
  t.is(option({ ...huge, object_id: 99 }), 'ENOENT');
  t.is(option({ ...huge, op: 2 }), 'EOPNOTSUPP');
  t.is(option({ ...huge, val64: 2n }), 'EINVAL');
  t.is(option({ ...huge, object_id: ioas, val64: 0n }), 'EINVAL');
  t.is(option({ ...huge, val64: 0n }), 'OK');
  const rlimit = { option_id: u.IOMMU_OPTION_RLIMIT_MODE, val64: 1n };
  t.is(option({ ...rlimit, object_id: 1 }), 'EOPNOTSUPP');
  t.is(option({ ...rlimit, op: 2 }), 'EOPNOTSUPP');
  t.is(option(rlimit), 'EBUSY');
  const fresh = world.tester();
  const user = fresh.user.process;
  t.is(calls(fresh, 'IOMMU_OPTION')({ ...rlimit, val64: 2n }), 'EINVAL');
  user.credentials.sysResource = false;
  t.is(calls(fresh, 'IOMMU_OPTION')(rlimit), 'EPERM');
  user.credentials.sysResource = true;
  t.is(calls(fresh, 'IOMMU_OPTION')(rlimit), 'OK');
  const compat = calls(it, 'IOMMU_VFIO_IOAS');
  t.is(compat({ op: u.IOMMU_VFIO_IOAS_GET, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(compat({ op: 3 }), 'EOPNOTSUPP');
  t.is(compat({ op: u.IOMMU_VFIO_IOAS_GET }), 'ENODEV');
  t.is(compat({ op: u.IOMMU_VFIO_IOAS_SET, ioas_id: 99 }), 'ENOENT');
  t.is(compat({ op: u.IOMMU_VFIO_IOAS_SET, ioas_id: ioas }), 'OK');
  t.is(compat({ op: u.IOMMU_VFIO_IOAS_GET }), 'OK');
  t.is(compat({ op: u.IOMMU_VFIO_IOAS_CLEAR }), 'OK');
  const change = calls(it, 'IOMMU_IOAS_CHANGE_PROCESS');
  t.is(change({ __reserved: 1 }), 'EOPNOTSUPP');
  t.is(change({}), 'EINVAL', 'memory of the process is mapped');
  t.is(calls(fresh, 'IOMMU_IOAS_CHANGE_PROCESS')({}), 'OK');
});

test('HWPT_ALLOC and GET_HW_INFO', (t) => {
  const { it, ioas, idev, auto, plain, parent, nested, pointer } = one();
  const alloc = calls(it, 'IOMMU_HWPT_ALLOC');
  const good = { dev_id: idev, pt_id: ioas };
  t.is(alloc({ ...good, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(alloc({ ...good, data_len: 4 }), 'EINVAL');
  t.is(alloc({ ...good, data_type: 1 }), 'EINVAL');
  t.is(alloc({ ...good, dev_id: ioas }), 'ENOENT');
  t.is(alloc({ ...good, pt_id: 99 }), 'EINVAL');
  t.is(alloc({ ...good, pt_id: idev }), 'EINVAL');
  t.is(alloc({ ...good, flags: 16 }), 'EOPNOTSUPP');
  t.is(alloc({ ...good, flags: NEST | FAULT }), 'EOPNOTSUPP');
  t.is(alloc({ ...good, flags: FAULT, fault_id: 99 }), 'ENOENT');
  t.is(alloc(good), 'OK');
  const data = { data_type: u.IOMMU_HWPT_DATA_SELFTEST, data_len: 4, data_uptr: pointer };
  const child = { dev_id: idev, pt_id: parent, ...data };
  t.is(alloc({ dev_id: idev, pt_id: parent }), 'EOPNOTSUPP');
  t.is(alloc({ ...child, flags: NEST }), 'EOPNOTSUPP');
  t.is(alloc({ ...child, flags: DIRTY }), 'EOPNOTSUPP');
  t.is(alloc({ ...child, pt_id: auto }), 'EINVAL');
  t.is(alloc({ ...child, pt_id: plain }), 'EINVAL');
  t.is(alloc({ ...child, pt_id: nested }), 'EINVAL');
  t.is(alloc({ ...child, data_type: 1 }), 'EOPNOTSUPP');
  t.is(alloc({ ...child, data_len: 3 }), 'EINVAL');
  t.is(alloc({ ...child, data_uptr: BAD }), 'EFAULT');
  t.is(alloc(child), 'OK');
  const info = calls(it, 'IOMMU_GET_HW_INFO');
  const room = { dev_id: idev, data_len: 8, data_uptr: pointer };
  t.is(info({ ...room, flags: 2 }), 'EOPNOTSUPP');
  t.is(info({ ...room, dev_id: ioas }), 'ENOENT');
  t.is(info({ ...room, data_uptr: BAD }), 'EFAULT');
  t.is(info(room), 'OK');
});

test('SET_DIRTY_TRACKING, GET_DIRTY_BITMAP and HWPT_INVALIDATE', (t) => {
  const { it, plain, tracker, nested, pointer, ioas } = one();
  const set = calls(it, 'IOMMU_HWPT_SET_DIRTY_TRACKING');
  t.is(set({ hwpt_id: tracker, flags: 2 }), 'EOPNOTSUPP');
  t.is(set({ hwpt_id: tracker, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(set({ hwpt_id: nested }), 'ENOENT');
  t.is(set({ hwpt_id: plain, flags: 1 }), 'EOPNOTSUPP');
  t.is(set({ hwpt_id: tracker, flags: 1 }), 'OK');
  const get = calls(it, 'IOMMU_HWPT_GET_DIRTY_BITMAP');
  const range = { iova: at, length: 2n * page, page_size: page, data: pointer };
  const good = { hwpt_id: tracker, ...range };
  t.is(get({ ...good, flags: 2 }), 'EOPNOTSUPP');
  t.is(get({ ...good, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(get({ ...good, hwpt_id: nested }), 'ENOENT');
  t.is(get({ ...good, iova: ALL - page + 1n }), 'EOVERFLOW');
  t.is(get({ ...good, iova: at + 1n }), 'EINVAL');
  t.is(get({ ...good, page_size: 0n }), 'EINVAL');
  t.is(get({ ...good, page_size: 4n * page }), 'EINVAL');
  t.is(get({ ...good, hwpt_id: plain }), 'EOPNOTSUPP');
  t.is(get(good), 'OK');
  const invalidate = calls(it, 'IOMMU_HWPT_INVALIDATE');
  const entries = { data_type: u.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST, entry_len: 8, entry_num: 1 };
  const call = { hwpt_id: nested, data_uptr: pointer, ...entries };
  t.is(invalidate({ ...call, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(invalidate({ ...call, data_uptr: 0n }), 'EINVAL');
  t.is(invalidate({ ...call, entry_len: 0 }), 'EINVAL');
  t.is(invalidate({ ...call, hwpt_id: 99 }), 'ENOENT');
  t.is(invalidate({ ...call, hwpt_id: ioas }), 'EINVAL');
  t.is(invalidate({ ...call, data_type: 7 }), 'EINVAL');
  t.is(invalidate({ ...call, entry_len: 4 }), 'EINVAL');
  t.is(invalidate({ ...call, data_uptr: BAD }), 'EFAULT');
  t.is(invalidate(call), 'OK');
  t.is(invalidate({ ...call, entry_num: 0, entry_len: 0, data_uptr: 0n }), 'OK');
});

test('VIOMMU_ALLOC, VDEVICE_ALLOC, VEVENTQ_ALLOC and HW_QUEUE_ALLOC', (t) => {
  const { it, idev, plain, parent, nested, ioas } = one();
  const alloc = calls(it, 'IOMMU_VIOMMU_ALLOC');
  const good = { type: u.IOMMU_VIOMMU_TYPE_SELFTEST, dev_id: idev, hwpt_id: parent };
  t.is(alloc({ ...good, flags: 1 }), 'EOPNOTSUPP');
  t.is(alloc({ ...good, type: u.IOMMU_VIOMMU_TYPE_DEFAULT }), 'EOPNOTSUPP');
  t.is(alloc({ ...good, dev_id: ioas }), 'ENOENT');
  t.is(alloc({ ...good, type: 1 }), 'EOPNOTSUPP');
  t.is(alloc({ ...good, hwpt_id: nested }), 'ENOENT');
  t.is(alloc({ ...good, hwpt_id: plain }), 'EINVAL');
  const viommu = nested + 2;
  t.is(alloc(good), 'OK');
  const vdevice = calls(it, 'IOMMU_VDEVICE_ALLOC');
  t.is(vdevice({ viommu_id: 99, dev_id: idev, virt_id: 1n }), 'ENOENT');
  t.is(vdevice({ viommu_id: viommu, dev_id: ioas, virt_id: 1n }), 'ENOENT');
  t.is(vdevice({ viommu_id: viommu, dev_id: idev, virt_id: 1n }), 'OK');
  t.is(vdevice({ viommu_id: viommu, dev_id: idev, virt_id: 2n }), 'EEXIST');
  const events = calls(it, 'IOMMU_VEVENTQ_ALLOC');
  const queue = { viommu_id: viommu, type: u.IOMMU_VEVENTQ_TYPE_SELFTEST, veventq_depth: 2 };
  t.is(events({ ...queue, flags: 1 }), 'EOPNOTSUPP');
  t.is(events({ ...queue, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(events({ ...queue, type: u.IOMMU_VEVENTQ_TYPE_DEFAULT }), 'EOPNOTSUPP');
  t.is(events({ ...queue, veventq_depth: 0 }), 'EINVAL');
  t.is(events({ ...queue, viommu_id: 99 }), 'ENOENT');
  t.is(events(queue), 'OK');
  t.is(events(queue), 'EEXIST');
  const hardware = calls(it, 'IOMMU_HW_QUEUE_ALLOC');
  const ring = { type: u.IOMMU_HW_QUEUE_TYPE_SELFTEST, nesting_parent_iova: at, length: page };
  const call = { viommu_id: viommu, index: 0, ...ring };
  t.is(hardware({ ...call, flags: 1 }), 'EOPNOTSUPP');
  t.is(hardware({ ...call, type: u.IOMMU_HW_QUEUE_TYPE_DEFAULT }), 'EOPNOTSUPP');
  t.is(hardware({ ...call, length: 0n }), 'EINVAL');
  t.is(hardware({ ...call, length: ALL }), 'EOVERFLOW');
  t.is(hardware({ ...call, viommu_id: 99 }), 'ENOENT');
  t.is(hardware({ ...call, type: 1 }), 'EOPNOTSUPP');
  t.is(hardware({ ...call, nesting_parent_iova: at + 8n * page }), 'ENOENT');
  t.is(hardware({ ...call, index: 1 }), 'EIO');
  t.is(hardware({ ...call, index: 2 }), 'EINVAL');
  t.is(hardware(call), 'OK');
  t.is(hardware(call), 'EEXIST');
});
