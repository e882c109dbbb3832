/** UNMAP and VFIO's UNMAP_DMA: what is refused, and in which order. */
import test from 'ava';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_VFIO_IOAS_SET,
  IOMMU_VIOMMU_TYPE_SELFTEST,
  IOMMUFD_CMD,
  iommu_hw_queue_alloc,
  iommu_vfio_ioas,
  iommu_viommu_alloc,
} from '../../../../host/uapi/iommufd.ts';
import { VFIO_CONTAINER_CMD, vfio_iommu_type1_dma_unmap } from '../../../../host/uapi/vfio.ts';
import { BASE, makeMockWorld, NOTHING, PAGE } from '../mock/world.ts';
import { Client, id } from './client.ts';
import { makeWorld } from './world.ts';

const ALL = 0xffff_ffff_ffff_ffffn;

test('nothing there: ENOENT for a range, success for everything', (t) => {
  const client = new Client(makeWorld().user());
  const ioas = client.ioas();
  t.is(client.unmap(ioas, 0x1000n, 0x1000n), 'ENOENT');
  t.is(client.unmap(ioas, 0n, ALL), 0n);
  t.is(client.unmap(ioas, 0n, 0n), 'EINVAL');
  t.is(client.unmap(ioas, ALL, 0x1000n), 'EOVERFLOW');
  t.is(client.unmap(ioas, 0x1000n, ALL), 'EOVERFLOW');
  t.is(client.unmap(ioas, ALL - 0xfffn, 0x1001n), 'EOVERFLOW');
  t.is(client.unmap(99, 0n, 0n), 'ENOENT');
});

test('VFIO says how much went before the mapping that it would have cut', (t) => {
  const client = new Client(makeWorld().user());
  const { user } = client;
  const ioas = client.ioas();
  const set = { op: IOMMU_VFIO_IOAS_SET, ioas_id: ioas };
  user.ok(client.fd, IOMMUFD_CMD.IOMMU_VFIO_IOAS, iommu_vfio_ioas, set);
  const memory = user.map(4 * PAGE);
  const unmap = (size: bigint): [string, bigint] => {
    const cmd = VFIO_CONTAINER_CMD.VFIO_IOMMU_UNMAP_DMA;
    const iova = BigInt(BASE);
    const { result, out } = user.call(client.fd, cmd, vfio_iommu_type1_dma_unmap, { iova, size });
    return [result, out.size];
  };
  t.deepEqual(unmap(0x1000n), ['OK', 0n], 'nothing there is no error');
  t.is(client.map(ioas, memory, PAGE, BASE), 'OK');
  t.is(client.map(ioas, memory, 2 * PAGE, BASE + PAGE), 'OK');
  t.deepEqual(unmap(0x2000n), ['ENOENT', 0x1000n]);
  t.deepEqual(unmap(0x3000n), ['OK', 0x2000n]);
});

test('the memory of a hardware queue is EBUSY, also for a range that would cut it', (t) => {
  const world = makeMockWorld();
  const it = world.tester();
  const { user } = it;
  const ioas = it.ioas();
  const { idev } = it.mock(ioas);
  const parent = id(it.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT));
  const { out_viommu_id } = user.ok(it.fd, IOMMUFD_CMD.IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, {
    type: IOMMU_VIOMMU_TYPE_SELFTEST,
    dev_id: idev,
    hwpt_id: parent,
  });
  t.is(it.map(ioas, user.map(2 * PAGE), 2 * PAGE, BASE), 'OK');
  const queue = (iova: bigint, length: bigint): string =>
    user.refused(it.fd, IOMMUFD_CMD.IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, {
      viommu_id: out_viommu_id,
      type: IOMMU_HW_QUEUE_TYPE_SELFTEST,
      nesting_parent_iova: iova,
      length,
    });
  t.is(queue(0xfffn, ALL - 0xffen), 'ERANGE');
  t.is(queue(0n, 1n << 62n), 'ENOMEM');
  t.is(queue(0n, 0x1000n), 'ENOENT');
  t.is(queue(BigInt(BASE), 0x800n), 'OK');
  t.is(it.unmap(ioas, BigInt(BASE), 0x1000n), 'EBUSY', 'before it is seen to be cut');
  t.is(it.unmap(ioas, BigInt(BASE), 0x2000n), 'EBUSY');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});
