import test from 'ava';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import type { IdOrError } from '../iommufd/client.ts';
import type { MockWorld, Tester } from './world.ts';
import { BASE, makeMockWorld, NOTHING, PAGE } from './world.ts';

/** The kernel's own bodies stay below this, too. */
const POINTS_MAX = 1000;
const BYTES = 4 * PAGE;

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
    if (left > 0) {
      t.is(refused, false, 'the body succeeds when nothing fails');
      return n - 1;
    }
  }
  throw new Error(`more than ${POINTS_MAX} points`);
}

test('each point of mapping into two domains', (t) => {
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

test('each point of pinning and copying by an access', (t) => {
  const points = failEach(t, makeMockWorld(), (it, address) => {
    const ioas = got(orRefused(() => it.ioas()));
    ok(it.map(ioas, address, BYTES, BASE));
    const fd = got(it.access(ioas));
    got(it.pin(fd, BASE, BYTES, address));
    mock(it, ioas);
    ok(it.rw(fd, BASE, PAGE + 8, address, uapi.MOCK_ACCESS_RW_SLOW_PATH));
    got(it.unmap(ioas, BigInt(BASE), BigInt(BYTES)) === BigInt(BYTES) ? 0 : 'unmap');
  });
  t.true(points > 20, `${points} points`);
});

test('each point of a device, its page tables, faults and PASIDs', (t) => {
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
