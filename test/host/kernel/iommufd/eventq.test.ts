import test from 'ava';
import type { Fault } from '../../../../host/kernel/iommu/ops.ts';
import type { Task } from '../../../../host/syscall.ts';
import { errnoName } from '../../../../host/uapi/errno.ts';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_PGFAULT_FLAGS_LAST_PAGE,
  IOMMU_PGFAULT_FLAGS_PASID_VALID,
  IOMMUFD_CMD,
  iommu_fault_alloc,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
} from '../../../../host/uapi/iommufd.ts';
import { POLLIN, POLLOUT, POLLRDNORM, pollfd } from '../../../../host/uapi/poll.ts';
import { bound, Client, Device, id } from './client.ts';
import type { World } from './world.ts';
import { makeWorld } from './world.ts';

const RECORD = iommu_hwpt_pgfault.size;
const FLAGS = IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_FAULT_ID_VALID;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

interface Setup {
  readonly world: World;
  readonly client: Client;
  readonly device: Device;
  readonly parent: number;
  readonly queue: { readonly id: number; readonly fd: number };
  /** A nested HWPT with that fault queue. */
  readonly hwpt: number;
  readonly fault: (over: Partial<Fault>) => boolean;
  readonly read: (
    records: number,
  ) => (readonly [pasid: number, grpid: number, cookie: number, address: number])[];
  readonly readBytes: (bytes: number) => number | string;
  readonly answer: (...records: (readonly [cookie: number, code: number])[]) => number | string;
  readonly events: () => number;
}

function setup(): Setup {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const parentFlags = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID;
  const parent = id(client.hwpt(device.id, ioas, parentFlags));
  const queue = client.faultQueue();
  const hwpt = id(client.nested(device.id, parent, FLAGS, { fault: queue.id }));
  const buffer = user.scratch + 0x2000;
  const result = (value: number): number | string => (value < 0 ? errnoName(value) : value);
  const readBytes = (bytes: number): number | string =>
    result(user.run(user.process.read(queue.fd, buffer, bytes)));
  return {
    world,
    client,
    device,
    parent,
    queue,
    hwpt,
    readBytes,
    fault: (over) => {
      const fault = { pasidValid: true, pasid: 5, grpid: 1, last: true, perm: 1, address: 0x1000n };
      const { iommu } = world.kernel;
      return user.run(iommu.reportDeviceFault(world.devs[0]!, { ...fault, ...over }));
    },
    read: (records) => {
      const bytes = readBytes(records * RECORD);
      if (typeof bytes === 'string') throw new Error(bytes);
      const view = new DataView(user.read(buffer, bytes).buffer);
      return Array.from({ length: bytes / RECORD }, (_, n) => {
        const one = iommu_hwpt_pgfault.read(view, n * RECORD);
        return [one.pasid, one.grpid, one.cookie, Number(one.addr)] as const;
      });
    },
    answer: (...records) => {
      const { size } = iommu_hwpt_page_response;
      records.forEach(([cookie, code], n) =>
        user.write(buffer + n * size, iommu_hwpt_page_response.encode({ cookie, code })),
      );
      return result(user.run(user.process.write(queue.fd, buffer, records.length * size)));
    },
    events: () => {
      user.write(buffer, pollfd.encode({ fd: queue.fd, events: POLLIN | POLLOUT | POLLRDNORM }));
      user.run(user.process.poll(buffer, 1, 0));
      return pollfd.read(new DataView(user.read(buffer, pollfd.size).buffer)).revents;
    },
  };
}

test('FAULT_QUEUE_ALLOC gives an id and a file; both hold each other', (t) => {
  const { client, queue, hwpt, world } = setup();
  const { user, fd } = client;
  const cmd = IOMMUFD_CMD.IOMMU_FAULT_QUEUE_ALLOC;
  t.is(user.refused(fd, cmd, iommu_fault_alloc, { flags: 1 }), 'EOPNOTSUPP');
  const before = world.kernel.leftovers();
  for (const point of ['iommufd:fault_queue', 'iommufd:fault_file', 'copy_to_user']) {
    world.kernel.failpoints.failAt(point, 1, 'ENOMEM');
    t.is(user.refused(fd, cmd, iommu_fault_alloc, {}), 'ENOMEM', point);
    t.deepEqual(world.kernel.leftovers(), before, point);
  }
  world.kernel.failpoints.disarm();
  t.is(client.destroy(queue.id), 'EBUSY', 'the file and the HWPT');
  t.is(user.close(queue.fd), 0);
  t.is(client.destroy(queue.id), 'EBUSY', 'the HWPT');
  t.is(client.destroy(hwpt), 'OK');
  t.is(client.destroy(queue.id), 'OK');
});

test('a group is read whole, last page last, and answered once by its cookie', (t) => {
  const { world, device, hwpt, fault, read, readBytes, answer, events, client } = setup();
  t.is(device.attachPasid(5, hwpt), hwpt);
  t.is(events(), POLLOUT);
  t.is(readBytes(RECORD), 0, 'never blocks');
  t.is(readBytes(39), 'ESPIPE');
  t.is(readBytes(0), 0);
  t.true(fault({ last: false, address: 0x1000n, grpid: 7 }));
  t.is(events(), POLLOUT, 'an unfinished group is not shown');
  t.true(fault({ last: false, address: 0x2000n, grpid: 8 }));
  t.true(fault({ last: true, address: 0x3000n, grpid: 7, perm: 3 }));
  t.true(fault({ last: true, address: 0x4000n, grpid: 8 }));
  t.is(events(), POLLIN | POLLOUT | POLLRDNORM);
  t.is(readBytes(RECORD), 'EINVAL', 'the head group has two records');
  t.deepEqual(
    read(3),
    [
      [5, 7, 1, 0x1000],
      [5, 7, 1, 0x3000],
    ],
    'no part of the next group',
  );
  const bytes = client.user.read(client.user.scratch + 0x2000, 2 * RECORD);
  const last = iommu_hwpt_pgfault.read(new DataView(bytes.buffer), RECORD);
  t.is(last.flags, IOMMU_PGFAULT_FLAGS_LAST_PAGE | IOMMU_PGFAULT_FLAGS_PASID_VALID);
  t.is(last.dev_id, device.id);
  t.is(last.perm, 3);
  t.is(last.length, 0);
  t.deepEqual(read(9), [
    [5, 8, 2, 0x2000],
    [5, 8, 2, 0x4000],
  ]);
  t.is(answer([2, 2]), 'EINVAL', 'no such code');
  t.is(answer([3, 0]), 'EINVAL', 'no such cookie');
  t.is(answer([2, 0], [9, 0]), 8, 'what is done counts');
  t.deepEqual(
    world.driver.responses.map(({ fault: f, code }) => [f.grpid, code]),
    [[8, 0]],
  );
  t.is(answer([2, 0]), 'EINVAL', 'answered already');
  t.true(fault({ grpid: 9 }));
  t.deepEqual(read(1), [[5, 9, 2, 0x1000]], 'the lowest free cookie');
  t.is(answer([1, 1], [2, 0]), 16);
  t.is(world.driver.responses.length, 3);
  const write = client.user.process.write(setupFd(client), 0, 7);
  t.is(errnoName(client.user.run(write)), 'ESPIPE');
});

/** The fault file of the only queue: the third file a test opens. */
const setupFd = (client: Client): number => client.fd + 2;

test('EFAULT keeps the group', (t) => {
  const { device, hwpt, fault, read, client, queue } = setup();
  t.is(device.attachPasid(5, hwpt), hwpt);
  t.true(fault({}));
  const { user } = client;
  t.is(errnoName(user.run(user.process.read(queue.fd, 8, RECORD))), 'EFAULT');
  t.deepEqual(read(1), [[5, 1, 1, 0x1000]]);
  t.is(errnoName(user.run(user.process.write(queue.fd, 8, 8))), 'EFAULT');
});

test('detach answers INVALID to read and unread groups of that attachment, once', (t) => {
  const { world, device, hwpt, fault, read, answer } = setup();
  t.is(device.attachPasid(5, hwpt), hwpt);
  t.is(device.attachPasid(6, hwpt), hwpt);
  t.true(fault({ grpid: 1 }));
  t.true(fault({ grpid: 2, pasid: 6 }));
  t.deepEqual(read(2), [
    [5, 1, 1, 0x1000],
    [6, 2, 2, 0x1000],
  ]);
  t.true(fault({ grpid: 3 }));
  t.is(device.detachPasid(5), 'OK');
  const answers = (): number[][] =>
    world.driver.responses.map(({ fault: f, code }) => [f.grpid, code]);
  t.deepEqual(answers(), [
    [3, 1],
    [1, 1],
  ]);
  t.is(answer([1, 0]), 'EINVAL', 'it is answered');
  t.is(answer([2, 0]), 8);
  t.deepEqual(answers(), [
    [3, 1],
    [1, 1],
    [2, 0],
  ]);
  t.deepEqual(read(1), []);
  t.false(fault({ grpid: 4 }), 'nobody is attached');
  t.deepEqual(answers().at(-1), [4, 1]);
});

test("replace answers the old attachment's groups in the old queue, once", (t) => {
  const { world, client, device, parent, hwpt, fault, read, answer } = setup();
  const second = client.faultQueue();
  const other = id(client.nested(device.id, parent, FLAGS, { fault: second.id }));
  t.is(device.attachPasid(5, hwpt), hwpt);
  t.true(fault({ grpid: 1 }));
  t.true(fault({ grpid: 2 }));
  t.is(read(1).length, 1);
  t.is(device.attachPasid(5, other), other);
  t.deepEqual(
    world.driver.responses.map(({ fault: f, code }) => [f.grpid, code]),
    [
      [2, 1],
      [1, 1],
    ],
  );
  t.is(answer([1, 0]), 'EINVAL');
  t.true(fault({ grpid: 3 }));
  t.deepEqual(read(1), [], 'the new one goes to the new queue');
  t.is(world.driver.responses.length, 2);
});

test('closing everything with groups open answers each exactly once', (t) => {
  const { world, client, device, hwpt, fault, read } = setup();
  t.is(device.attachPasid(5, hwpt), hwpt);
  t.true(fault({ grpid: 1 }));
  t.true(fault({ grpid: 2 }));
  t.is(read(1).length, 1);
  client.user.process.kill();
  world.settle();
  const groups = world.driver.responses.map(({ fault: f }) => f.grpid).sort();
  t.deepEqual(groups, [1, 2]);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('a failed replace keeps the old queue working', (t) => {
  const { world, client, device, parent, hwpt, fault, read, answer } = setup();
  const second = client.faultQueue();
  const other = id(client.nested(device.id, parent, FLAGS, { fault: second.id }));
  t.is(device.attachPasid(5, hwpt), hwpt);
  t.true(fault({ grpid: 1 }));
  world.kernel.failpoints.failAt('mock:after');
  t.is(device.attachPasid(5, other), 'ENOMEM');
  t.is(world.driver.responses.length, 0);
  t.deepEqual(read(1), [[5, 1, 1, 0x1000]]);
  t.is(answer([1, 0]), 8);
  t.is(client.destroy(other), 'OK');
});

test('FAULT_QUEUE_ALLOC without a free descriptor leaves the context as it was', (t) => {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  while (user.run(user.process.eventfd(0, 0)) >= 0);
  const alloc = IOMMUFD_CMD.IOMMU_FAULT_QUEUE_ALLOC;
  t.is(user.refused(client.fd, alloc, iommu_fault_alloc, {}), 'EMFILE');
  client.ioas();
  t.is(user.close(client.fd), 0);
  t.is(world.kernel.leftovers().objects, 0);
});

test('a request that came while a replace failed is answered INVALID, once', (t) => {
  const { world, client, device, parent, hwpt } = setup();
  const { iommu } = world.kernel;
  const report = (grpid: number): Task<boolean> =>
    iommu.reportDeviceFault(world.devs[0]!, {
      pasidValid: true,
      pasid: 9,
      grpid,
      last: true,
      perm: 1,
      address: 0x1000n,
    });
  t.is(device.attachPasid(9, hwpt), hwpt);
  const other = client.faultQueue();
  const next = id(client.nested(device.id, parent, FLAGS, { fault: other.id }));
  const { domainOps } = world.driver;
  const driver = { ...domainOps };
  domainOps.setDevPasid = function* (...args) {
    // One is in the queue when the replace fails, one still on its way there.
    yield* report(4);
    world.machine.scheduler.spawn('fault', report(5));
    yield* driver.setDevPasid!(...args);
  };
  world.kernel.failpoints.failAt('mock:after');
  t.is(device.attachPasid(9, next), 'ENOMEM');
  world.settle();
  const answers = world.driver.responses.map(({ fault: { grpid }, code }) => [grpid, code]);
  t.deepEqual(answers, [
    [4, 1],
    [5, 1],
  ]);
  t.is(client.destroy(next), 'OK');
  t.is(client.user.close(other.fd), 0);
  t.is(client.destroy(other.id), 'OK');
  t.is(world.driver.responses.length, 2);
});
