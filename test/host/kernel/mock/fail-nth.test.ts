import { globSync, readFileSync } from 'node:fs';
import test from 'ava';
import {
  IOMMUFD_CMD as CMD,
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
  iommu_fault_alloc,
  iommu_hw_info,
  iommu_hw_queue_alloc,
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_invalidate,
  iommu_hwpt_set_dirty_tracking,
  iommu_ioas_allow_iovas,
  iommu_iova_range,
  iommu_vdevice_alloc,
  iommu_veventq_alloc,
  iommu_viommu_alloc,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import type { Fields, Struct, Values } from '../../../../host/uapi/struct.ts';
import type { IdOrError } from '../iommufd/client.ts';
import type { MockWorld, Tester } from './world.ts';
import { BASE, makeMockWorld, NOTHING, PAGE } from './world.ts';

/** The kernel's own bodies stay below this, too. */
const POINTS_MAX = 1000;
const BYTES = 4 * PAGE;

/** The points that failed in this file, by name. */
const failed = new Set<string>();

/** A body ends at the first step that fails. */
class Refused extends Error {}

function got(value: IdOrError): number {
  if (typeof value === 'string') throw new Refused(value);
  return value;
}

function ok(result: string): void {
  if (result !== 'OK') throw new Refused(result);
}

/** Every n-th point of the body fails once: nothing may be left, whatever it was doing. */
function failEach(
  t: { is(a: unknown, b: unknown, m?: string): void; deepEqual(a: unknown, b: unknown): void },
  world: MockWorld,
  body: (it: Tester, address: number) => void,
): number {
  const { failpoints } = world.kernel;
  const point = failpoints.point.bind(failpoints);
  failpoints.point = (name, code) => {
    try {
      point(name, code);
    } catch (error) {
      failed.add(name);
      throw error;
    }
  };
  const task = {};
  failpoints.currentTask = () => task;
  for (let n = 1; n <= POINTS_MAX; n++) {
    const it = world.tester();
    const address = it.user.map(BYTES);
    failpoints.armTask(task, n);
    let refused = false;
    try {
      body(it, address);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      refused = true;
    }
    const left = failpoints.leftOf(task);
    failpoints.armTask(task, 0);
    it.user.process.kill();
    world.run(it.user.process.wait());
    t.deepEqual(world.kernel.leftovers(), NOTHING);
    t.is(world.kernel.memory.taken, 0);
    if (left > 0) {
      t.is(refused, false, 'the body succeeds when nothing fails');
      return n - 1;
    }
  }
  throw new Error(`more than ${POINTS_MAX} points`);
}

test.serial('each point of mapping into two domains', (t) => {
  const points = failEach(t, makeMockWorld(), (it, address) => {
    const ioas = got(orRefused(() => it.ioas()));
    const first = mock(it, ioas);
    ok(it.map(ioas, address, BYTES, BASE));
    got(it.hwpt(first.idev, ioas));
    mock(it, ioas);
    ok(it.destroy(first.stdev));
  });
  t.true(points > 20, `${points} points`);
});

test.serial('each point of pinning and copying by an access', (t) => {
  const points = failEach(t, makeMockWorld(), (it, address) => {
    const ioas = got(orRefused(() => it.ioas()));
    ok(it.map(ioas, address, BYTES, BASE));
    const fd = got(it.access(ioas));
    got(it.pin(fd, BASE, BYTES, address));
    mock(it, ioas);
    ok(it.rw(fd, BASE, PAGE + 8, address, uapi.MOCK_ACCESS_RW_SLOW_PATH));
    ok(it.rw(fd, BASE, 8, address, uapi.MOCK_ACCESS_RW_SLOW_PATH));
    got(it.unmap(ioas, BigInt(BASE), BigInt(BYTES)) === BigInt(BYTES) ? 0 : 'unmap');
  });
  t.true(points > 20, `${points} points`);
});

test.serial('each point of a device, its page tables, faults and PASIDs', (t) => {
  const nest = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID;
  const points = failEach(t, makeMockWorld(), (it) => {
    const ioas = got(orRefused(() => it.ioas()));
    const other = got(orRefused(() => it.ioas()));
    const { stdev, idev } = mock(it, ioas, uapi.MOCK_FLAGS_DEVICE_PASID);
    const plain = got(it.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_PASID));
    got(it.replace(stdev, other));
    got(it.replace(stdev, plain));
    const parent = got(it.hwpt(idev, ioas, nest));
    const queue = { id: 0, fd: 0 };
    got(orRefused(() => Object.assign(queue, it.faultQueue()).id));
    ok(it.user.close(queue.fd) === 0 ? 'OK' : 'close');
    const flags = IOMMU_HWPT_FAULT_ID_VALID;
    got(it.mockNested(idev, parent, flags, { fault: queue.id }));
    got(it.pasidAttach(stdev, 200, parent));
    got(it.pasidReplace(stdev, 200, plain));
    ok(it.pasidDetach(stdev, 200));
  });
  t.true(points > 40, `${points} points`);
});

test('a task is armed alone, counts its own points and is told when it fired', (t) => {
  const { failpoints } = makeMockWorld().kernel;
  const [one, two] = [{}, {}];
  let now: object | null = one;
  failpoints.currentTask = () => now;
  failpoints.armTask(one, 2);
  failpoints.point('a');
  t.is(failpoints.leftOf(one), 1);
  now = two;
  failpoints.point('a');
  now = null;
  failpoints.point('a');
  t.is(failpoints.leftOf(one), 1);
  now = one;
  t.throws(() => failpoints.point('b', 'EFAULT'), { message: /^EFAULT/ });
  t.is(failpoints.leftOf(one), 0);
  failpoints.point('b');
  failpoints.armTask(one, 1);
  failpoints.armTask(one, 0);
  failpoints.point('b');
  t.is(failpoints.leftOf(two), 0);
  t.throws(() => failpoints.armTask(one, -1), { instanceOf: RangeError });
});

function mock(it: Tester, pt: number, flags = 0) {
  const made = it.tryMock(pt, flags);
  if (typeof made === 'string') throw new Refused(made);
  return made;
}

/** For helpers of the test client that throw when an ioctl is refused. */
function orRefused(call: () => number): IdOrError {
  try {
    return call();
  } catch (error) {
    return String(error);
  }
}

/** An ioctl that ends the body when it is refused. */
function call<F extends Fields>(
  it: Tester,
  command: number,
  struct: Struct<F>,
  values: Partial<Values<F>>,
): Values<F> {
  const { result, out } = it.user.call(it.fd, command, struct, values);
  ok(result);
  return out;
}

test.serial('each point of a vIOMMU with all that it can have', (t) => {
  const points = failEach(t, makeMockWorld(), (it, address) => {
    const ioas = got(orRefused(() => it.ioas()));
    ok(it.map(ioas, address, BYTES, BASE));
    const { stdev, idev } = mock(it, ioas);
    const parent = got(it.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT));
    const data = uapi.iommu_viommu_selftest.encode({ in_data: 1 });
    it.user.write(it.payload, data);
    const { out_viommu_id: viommu_id } = call(it, CMD.IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, {
      type: IOMMU_VIOMMU_TYPE_SELFTEST,
      dev_id: idev,
      hwpt_id: parent,
      data_len: data.length,
      data_uptr: BigInt(it.payload),
    });
    const device = { viommu_id, dev_id: idev, virt_id: 0x99n };
    call(it, CMD.IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, device);
    const queue = { viommu_id, type: IOMMU_VEVENTQ_TYPE_SELFTEST, veventq_depth: 2 };
    call(it, CMD.IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, queue);
    got(it.replace(stdev, got(it.mockNested(idev, viommu_id))));
    const trigger = uapi.iommu_test_trigger_vevent;
    ok(it.does(uapi.IOMMU_TEST_OP_TRIGGER_VEVENT, trigger, { dev_id: idev }));
    call(it, CMD.IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, {
      viommu_id,
      type: IOMMU_HW_QUEUE_TYPE_SELFTEST,
      nesting_parent_iova: BigInt(BASE),
      length: BigInt(PAGE),
    });
    const entry = uapi.iommu_viommu_invalidate_selftest.encode({ flags: 1, vdev_id: 0x99 });
    it.user.write(it.payload, entry);
    call(it, CMD.IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, {
      hwpt_id: viommu_id,
      data_uptr: BigInt(it.payload),
      data_type: IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
      entry_len: entry.length,
      entry_num: 1,
    });
  });
  t.true(points > 60, `${points} points`);
});

test.serial('each point of hardware facts, allowed ranges, dirty pages and faults', (t) => {
  const points = failEach(t, makeMockWorld(), (it, address) => {
    if (it.user.open('/dev/iommu') < 0) throw new Refused('open');
    const ioas = got(orRefused(() => it.ioas()));
    it.user.write(
      it.payload,
      iommu_iova_range.encode({ start: BigInt(BASE), last: BigInt(BASE + BYTES - 1) }),
    );
    const list = { ioas_id: ioas, num_iovas: 1, allowed_iovas: BigInt(it.payload) };
    call(it, CMD.IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, list);
    const { idev, stdev } = mock(it, ioas);
    ok(it.does(uapi.IOMMU_TEST_OP_DMABUF_GET, uapi.iommu_test_dmabuf_get, { length: PAGE }));
    const where = { dev_id: idev, data_len: 64, data_uptr: BigInt(it.payload) };
    call(it, CMD.IOMMU_GET_HW_INFO, iommu_hw_info, where);
    const hwpt = got(it.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING));
    got(it.replace(stdev, hwpt));
    ok(it.map(ioas, address, BYTES, BASE));
    call(it, CMD.IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking, {
      hwpt_id: hwpt,
      flags: 1,
    });
    const range = { iova: BigInt(BASE), length: BigInt(BYTES), page_size: BigInt(PAGE) };
    const uptr = BigInt(it.payload);
    const dirty = uapi.iommu_test_dirty;
    ok(it.op(uapi.IOMMU_TEST_OP_DIRTY, dirty, { id: hwpt, ...range, uptr }).result);
    const read = { hwpt_id: hwpt, ...range, data: uptr };
    call(it, CMD.IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, read);
    const faults = call(it, CMD.IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, {});
    const parent = got(it.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT));
    const fault = { fault: faults.out_fault_id };
    got(it.replace(stdev, got(it.mockNested(idev, parent, IOMMU_HWPT_FAULT_ID_VALID, fault))));
    ok(it.triggerFault(idev));
    got(orRefused(() => it.faults(faults.out_fault_fd).length));
  });
  t.true(points > 60, `${points} points`);
});

/** Where the points are failed that no body here reaches: by name, or each point of a path. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [/^vfio:(?:enable|pasid_number)$/, 'test/host/kernel/vfio/device.test.ts'],
  [/^vfio:(?:msix_enable|request_irq)$/, 'test/host/kernel/vfio/irqs.test.ts'],
  [/^intel:pasid-entry-setup$/, 'test/host/kernel/intel/attach.test.ts'],
  [/^intel:(?!pasid-entry-setup)/, 'test/vmm/scenario/failure.test.ts'],
  [/^iommufd:attach_device$/, 'test/host/kernel/iommufd/attach.test.ts'],
  [/^iommufd:change_process$/, 'test/host/kernel/iommufd/map-file.test.ts'],
];

test.serial('every failure point in the sources is failed somewhere', (t) => {
  const names = new Set<string>();
  for (const file of globSync('host/**/*.ts')) {
    for (const [, name] of readFileSync(file, 'utf8').matchAll(/\.point\(\s*'([^']+)'/g)) {
      names.add(name!);
    }
  }
  t.true(names.size > 60, `${names.size} points`);
  const missing = [...names].filter((name) => !failed.has(name));
  const unknown = missing.filter((name) => !ELSEWHERE.some(([these]) => these.test(name)));
  t.deepEqual(unknown, []);
  for (const [these, file] of ELSEWHERE) {
    t.true(
      missing.some((name) => these.test(name)),
      `${these.source} is failed here, too`,
    );
    t.regex(readFileSync(file, 'utf8'), /fail(?:Nth|At)\(/, file);
  }
});
