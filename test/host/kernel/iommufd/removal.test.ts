/** A device that vanishes with PASIDs attached. */
import test from 'ava';
import { attachDevice, bindDevice, removeDevice } from '../../../../host/kernel/iommufd/device.ts';
import { ctxFromFd } from '../../../../host/kernel/iommufd/main.ts';
import { IOMMU_HWPT_ALLOC_PASID } from '../../../../host/uapi/iommufd.ts';
import { Client, id } from './client.ts';
import { makeWorld } from './world.ts';

test('hot removal detaches PASIDs and the RID; HWPTs stay and can be destroyed', (t) => {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  const ioas = client.ioas();
  const idev = world.run(bindDevice(ctxFromFd(user.process, client.fd), world.pdevs[0]!));
  const hwpt = id(client.hwpt(idev.id, ioas, IOMMU_HWPT_ALLOC_PASID));
  const dev = world.devs[0]!;
  for (const pasid of [0, 7, 3]) world.run(attachDevice(idev, pasid, hwpt));
  t.is(client.destroy(hwpt), 'EBUSY');
  world.run(removeDevice(idev));
  t.is(world.driver.at(dev, 3), 'none');
  t.is(world.driver.at(dev, 7), 'none');
  world.run(world.kernel.iommu.removeDevice(world.pdevs[0]!));
  t.is(client.destroy(idev.id), 'ENOENT');
  t.is(client.destroy(hwpt), 'OK');
  t.is(client.destroy(ioas), 'OK');
  t.is(user.close(client.fd), 0);
  t.deepEqual(world.kernel.leftovers(), { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
});
