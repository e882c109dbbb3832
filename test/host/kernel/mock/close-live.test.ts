/** Whatever order the files of a program go in, with everything alive in them, nothing is left. */
import test from 'ava';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
  IOMMUFD_CMD,
  iommu_hw_queue_alloc,
  iommu_ioas_map_file,
  iommu_vdevice_alloc,
  iommu_veventq_alloc,
  iommu_viommu_alloc,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { MAP_SHARED, PROT_READ } from '../../../../host/uapi/poll.ts';
import { id } from '../iommufd/client.ts';
import type { MockWorld } from './world.ts';
import { BASE, makeMockWorld, NOTHING, PAGE } from './world.ts';

const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_FIXED_IOVA;
const C = IOMMUFD_CMD;

/** One of each kind, all in use. @returns every descriptor, and the program */
function everything(world: MockWorld) {
  const it = world.tester();
  const { user, fd } = it;
  const ioas = it.ioas();
  const { stdev, idev } = it.mock(ioas, uapi.MOCK_FLAGS_DEVICE_PASID);
  const second = it.mock(ioas);

  const memfd = user.run(user.process.memfdCreate('file'));
  user.run(user.process.ftruncate(memfd, 2 * PAGE));
  const mapFile = (file: number, iova: number): void => {
    user.ok(fd, C.IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, {
      flags: RW,
      ioas_id: ioas,
      fd: file,
      length: BigInt(PAGE),
      iova: BigInt(iova),
    });
  };
  if (it.map(ioas, user.map(4 * PAGE), 4 * PAGE, BASE) !== 'OK') throw new Error('map');
  mapFile(memfd, BASE + 8 * PAGE);
  const bytes = new Uint8Array(uapi.iommu_test_cmd.size);
  const view = new DataView(bytes.buffer);
  uapi.iommu_test_dmabuf_get.write(view, 0, { length: PAGE });
  uapi.iommu_test_cmd.write(view, 0, { size: bytes.length, op: uapi.IOMMU_TEST_OP_DMABUF_GET });
  user.write(user.scratch, bytes);
  const dmaBuf = user.run(user.process.ioctl(fd, uapi.IOMMU_TEST_CMD, user.scratch));
  mapFile(dmaBuf, BASE + 16 * PAGE);

  const access = id(it.access(ioas));
  id(it.pin(access, BASE + PAGE, 2 * PAGE, 0));

  const flags = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID;
  const parent = id(it.hwpt(idev, ioas, flags));
  const { out_viommu_id: viommu_id } = user.ok(fd, C.IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, {
    type: IOMMU_VIOMMU_TYPE_SELFTEST,
    dev_id: idev,
    hwpt_id: parent,
    data_len: uapi.iommu_viommu_selftest.size,
    data_uptr: BigInt(it.payload),
  });
  const answer = user.read(it.payload, uapi.iommu_viommu_selftest.size);
  const { out_mmap_offset, out_mmap_length } = uapi.iommu_viommu_selftest.read(
    new DataView(answer.buffer),
  );
  const window = user.process.mmap(
    Number(out_mmap_length),
    PROT_READ,
    MAP_SHARED,
    fd,
    Number(out_mmap_offset),
  );
  if (user.run(window) < 0) throw new Error('mmap');
  user.ok(fd, C.IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, {
    viommu_id,
    dev_id: idev,
    virt_id: 7n,
  });
  user.ok(fd, C.IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, {
    viommu_id,
    type: IOMMU_HW_QUEUE_TYPE_SELFTEST,
    nesting_parent_iova: BigInt(BASE),
    length: BigInt(PAGE),
  });
  const { out_veventq_fd } = user.ok(fd, C.IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, {
    viommu_id,
    type: IOMMU_VEVENTQ_TYPE_SELFTEST,
    veventq_depth: 2,
  });

  const faults = it.faultQueue();
  const nestedFlags = IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;
  const nested = id(it.mockNested(idev, viommu_id, nestedFlags, { fault: faults.id }));
  id(it.replace(stdev, nested));
  for (const pasid of [3, 9]) id(it.pasidAttach(stdev, pasid, nested));
  id(it.replace(second.stdev, parent));
  it.triggerFault(idev, 9);
  if (it.faults(faults.fd).length !== 1) throw new Error('no fault');
  it.triggerFault(idev, 3);
  const trigger = uapi.IOMMU_TEST_OP_TRIGGER_VEVENT;
  it.does(trigger, uapi.iommu_test_trigger_vevent, { dev_id: idev });
  return { user, fds: [fd, memfd, dmaBuf, access, out_veventq_fd, faults.fd] };
}

/** All orders of a list would be 720; these put every file first, last and beside every other. */
function orders(fds: readonly number[]): number[][] {
  const rotations = fds.map((_, n) => [...fds.slice(n), ...fds.slice(0, n)]);
  return [...rotations, ...rotations.map((one) => one.toReversed())];
}

test('a program that dies with everything alive leaves nothing', (t) => {
  const world = makeMockWorld();
  const { user } = everything(world);
  t.true(world.kernel.leftovers().objects > 10);
  user.process.kill();
  world.run(user.process.wait());
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('its files closed one by one, in any order', (t) => {
  const world = makeMockWorld();
  for (const order of orders([0, 1, 2, 3, 4, 5])) {
    const { user, fds } = everything(world);
    for (const at of order) t.is(user.close(fds[at]!), 0);
    user.process.kill();
    world.run(user.process.wait());
    t.deepEqual(world.kernel.leftovers(), NOTHING);
  }
});
