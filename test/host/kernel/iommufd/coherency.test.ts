/** Cache coherency of DMA: what a device must have to be bound, and what its HWPTs enforce. */
import test from 'ava';
import {
  IOMMU_VFIO_IOAS_SET,
  IOMMUFD_CMD,
  iommu_vfio_ioas,
} from '../../../../host/uapi/iommufd.ts';
import { VFIO_CONTAINER_CMD, VFIO_DMA_CC_IOMMU } from '../../../../host/uapi/vfio.ts';
import { bound, Client, Device, id } from './client.ts';
import { makeWorld } from './world.ts';

/** VFIO_DMA_CC_IOMMU: whether everything behind the IOAS is coherent, or -errno. */
function coherent(client: Client, ioas: number): number {
  const set = { op: IOMMU_VFIO_IOAS_SET, ioas_id: ioas };
  client.user.ok(client.fd, IOMMUFD_CMD.IOMMU_VFIO_IOAS, iommu_vfio_ioas, set);
  const { process } = client.user;
  const cmd = VFIO_CONTAINER_CMD.VFIO_CHECK_EXTENSION;
  return client.user.run(process.ioctl(client.fd, cmd, VFIO_DMA_CC_IOMMU));
}

test('a device whose DMA is not coherent is not bound', (t) => {
  const world = makeWorld();
  const client = new Client(world.user());
  const device = new Device(client.user);
  world.driver.coherent = false;
  t.is(device.bind(client.fd), 'EINVAL');
  world.driver.coherent = true;
  t.is(device.bind(client.fd), 'OK');
});

test('an IOAS is coherent when every HWPT of it enforces it', (t) => {
  const world = makeWorld();
  const { client, device } = bound(world.user());
  const ioas = client.ioas();
  t.is(coherent(client, ioas), 1, 'nothing gets around the caches');
  world.driver.enforces = true;
  const enforcing = id(client.hwpt(device.id, ioas));
  t.is(coherent(client, ioas), 1);
  world.driver.enforces = false;
  const plain = id(client.hwpt(device.id, ioas));
  t.is(coherent(client, ioas), 0);
  t.is(client.destroy(plain), 'OK');
  t.is(coherent(client, ioas), 1);
  t.is(client.destroy(enforcing), 'OK');
  id(device.attach(ioas));
  t.is(coherent(client, ioas), 0, 'an auto-domain counts, too');
});

test('a driver that promises to enforce it and does not: no HWPT, nothing left', (t) => {
  const world = makeWorld();
  const { client, device } = bound(world.user());
  const ioas = client.ioas();
  world.driver.enforces = true;
  world.driver.enforced = false;
  t.is(client.hwpt(device.id, ioas), 'EINVAL');
  t.is(device.attach(ioas), 'EINVAL');
  t.is(world.driver.live.size, 0);
  t.is(client.destroy(ioas), 'OK');
});
