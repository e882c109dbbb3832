/** What all ioctls share: sizes, ids, replies, and the end of the file. */
import test from 'ava';
import { IOMMUFD_CMD, iommu_destroy, iommu_ioas_alloc } from '../../../../host/uapi/iommufd.ts';
import { bound, id } from './client.ts';
import { BASE, NOTHING, setup } from './ioas-client.ts';
import { makeWorld } from './world.ts';

test('the size rules of 1.1, in their order', (t) => {
  const { user, client } = setup();
  const { fd } = client;
  const alloc = IOMMUFD_CMD.IOMMU_IOAS_ALLOC;
  const sized = (size: number, extra: number[]): Uint8Array => {
    const bytes = new Uint8Array(12 + extra.length);
    bytes.set(iommu_ioas_alloc.encode({ size }));
    bytes.set(extra, 12);
    return bytes;
  };
  t.is(user.raw(fd, alloc, sized(11, [])), 'EINVAL');
  t.is(user.raw(fd, alloc, sized(13, [1])), 'E2BIG');
  t.is(user.raw(fd, alloc, sized(13, [0])), 'OK');
  t.is(user.raw(fd, 0x13b88, sized(12, [])), 'ENOTTY', 'a number with another type');
  t.is(user.raw(fd, 0x3ba0, sized(12, [])), 'ENOTTY');
  t.is(user.raw(fd, 0x3b7f, sized(12, [])), 'ENOTTY');
  const bad = user.run(user.process.ioctl(fd, alloc, 0));
  t.is(bad, -14);
  t.is(user.run(user.process.ioctl(fd, 0x1234, 0)), -25, 'a foreign number is ENOTTY unread');
  t.is(user.refused(fd, IOMMUFD_CMD.IOMMU_DESTROY, iommu_destroy, { size: 7, id: 1 }), 'EINVAL');
});

test('ids are the lowest free ones from 1, and DESTROY frees them', (t) => {
  const { user, client, ioas } = setup();
  t.is(ioas, 1);
  t.is(client.ioas(), 2);
  t.is(client.destroy(1), 'OK');
  t.is(client.destroy(1), 'ENOENT');
  t.is(client.ioas(), 1);
  t.is(client.ioas(), 3);
  const flags = user.refused(client.fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOC, iommu_ioas_alloc, {
    flags: 1,
  });
  t.is(flags, 'EOPNOTSUPP');
});

test('an object whose reply cannot be copied is undone', (t) => {
  const { world, user, client } = setup();
  world.kernel.failpoints.failAt('copy_to_user');
  const { fd } = client;
  t.is(user.refused(fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOC, iommu_ioas_alloc, {}), 'EFAULT');
  t.is(world.kernel.leftovers().objects, 1);
  t.is(client.ioas(), 2);
});

test('closing the file frees everything, also while the process dies with it', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  t.is(client.map(ioas, user.map(0x4000), 0x4000, BASE), 'OK');
  id(device.attach(ioas));
  t.is(client.destroy(ioas), 'EBUSY');
  t.is(client.destroy(device.id), 'EBUSY');
  t.is(user.close(client.fd), 0);
  t.is(world.kernel.leftovers().objects, 3, 'the bound device keeps the context');
  t.is(user.close(device.fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
  t.is(world.driver.live.size, 0);
  const second = world.user();
  const again = bound(second);
  const other = again.client.ioas();
  t.is(again.client.map(other, second.map(0x4000), 0x4000, BASE), 'OK');
  id(again.device.attach(other));
  second.process.kill();
  world.settle();
  t.true(second.process.gone);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
  t.is(world.driver.live.size, 0);
});
