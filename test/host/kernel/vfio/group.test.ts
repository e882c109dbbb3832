import test from 'ava';
import { errnoName } from '../../../../host/uapi/errno.ts';
import {
  IOMMU_VFIO_IOAS_CLEAR,
  IOMMUFD_CMD,
  iommu_vfio_ioas,
} from '../../../../host/uapi/iommufd.ts';
import {
  VFIO_DEVICE_CMD,
  VFIO_GROUP_CMD,
  VFIO_GROUP_FLAGS_CONTAINER_SET,
  VFIO_GROUP_FLAGS_VIABLE,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_info,
  vfio_group_status,
} from '../../../../host/uapi/vfio.ts';
import { Client, Device } from '../iommufd/client.ts';
import { makeWorld, type User } from '../iommufd/world.ts';

const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };
const DEVICE = '0000:00:01.0';

class Group {
  readonly user: User;
  readonly fd: number;

  constructor(user: User) {
    this.user = user;
    this.fd = user.open('/dev/vfio/0');
  }

  status(): number {
    const cmd = VFIO_GROUP_CMD.VFIO_GROUP_GET_STATUS;
    return this.user.ok(this.fd, cmd, vfio_group_status, {}).flags;
  }

  setContainer(fd: number): string {
    const bytes = new Uint8Array(Int32Array.of(fd).buffer);
    return this.user.raw(this.fd, VFIO_GROUP_CMD.VFIO_GROUP_SET_CONTAINER, bytes);
  }

  unsetContainer(): string {
    return this.user.raw(this.fd, VFIO_GROUP_CMD.VFIO_GROUP_UNSET_CONTAINER, new Uint8Array(4));
  }

  /** The descriptor, or the error's name. */
  device(name: string): number | string {
    const { process, scratch } = this.user;
    this.user.write(scratch, new TextEncoder().encode(`${name}\0`));
    const cmd = VFIO_GROUP_CMD.VFIO_GROUP_GET_DEVICE_FD;
    const result = this.user.run(process.ioctl(this.fd, cmd, scratch));
    return result < 0 ? errnoName(result) : result;
  }
}

const info = (user: User, fd: number): string =>
  user.refused(fd, VFIO_DEVICE_CMD.VFIO_DEVICE_GET_INFO, vfio_device_info, {});

test('a device opened through its group is bound and attached to the container', (t) => {
  const world = makeWorld();
  const { kernel } = world;
  const user = world.user();
  const group = new Group(user);
  t.is(group.status(), VFIO_GROUP_FLAGS_VIABLE);
  t.is(group.device(DEVICE), 'EINVAL', 'no container');
  t.is(group.unsetContainer(), 'EINVAL');
  t.is(group.setContainer(99), 'EBADF');
  t.is(group.setContainer(group.fd), 'EBADFD');
  const container = user.open('/dev/vfio/vfio');
  t.is(group.setContainer(container), 'OK');
  t.is(group.setContainer(container), 'EINVAL', 'it has one');
  t.is(group.status(), VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
  t.is(group.device('0000:00:1f.7'), 'ENODEV');
  t.is(group.device(`${DEVICE} vf_token=x`), 'EINVAL');
  t.is(group.device('x'.repeat(8000)), 'EINVAL');
  const first = group.device(DEVICE) as number;
  const second = group.device(DEVICE) as number;
  t.is(info(user, first), 'OK');
  const bind = VFIO_DEVICE_CMD.VFIO_DEVICE_BIND_IOMMUFD;
  t.is(user.refused(first, bind, vfio_device_bind_iommufd, { iommufd: container }), 'EINVAL');
  const attach = VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT;
  t.is(user.refused(first, attach, vfio_device_attach_iommufd_pt, { pt_id: 1 }), 'ENOTTY');
  t.is(user.raw(group.fd, 0x3b6b, new Uint8Array(64)), 'ENOTTY');
  // Both files share what was opened, and hold the group and the container open.
  user.close(first);
  t.is(info(user, second), 'OK');
  user.close(group.fd);
  user.close(container);
  t.is(info(user, second), 'OK');
  t.is(errnoName(user.open('/dev/vfio/0')), 'EBUSY');
  user.close(second);
  t.deepEqual(kernel.leftovers(), NOTHING);
});

test("a group and its device's own node shut each other out", (t) => {
  const world = makeWorld();
  const { kernel } = world;
  const user = world.user();
  const client = new Client(user);
  const device = new Device(user);
  const group = new Group(user);
  t.is(errnoName(user.open('/dev/vfio/0')), 'EBUSY', 'one file at a time');
  t.is(device.bind(client.fd), 'EBUSY');
  user.close(group.fd);
  t.is(device.bind(99), 'EBADF');
  t.is(device.bind(client.fd), 'OK');
  t.is(errnoName(user.open('/dev/vfio/0')), 'EBUSY');
  user.close(device.fd);
  const again = user.open('/dev/vfio/0');
  t.true(again >= 0);
  for (const fd of [again, client.fd]) user.close(fd);
  t.deepEqual(kernel.leftovers(), NOTHING);
});

test('a failed open of the device leaves nothing, and the container may lose its IOAS', (t) => {
  const world = makeWorld();
  const { kernel } = world;
  const user = world.user();
  const group = new Group(user);
  const client = new Client(user);
  t.is(group.setContainer(client.fd), 'OK');
  for (let n = 1; ; n++) {
    kernel.failpoints.failNth(n, 'ENOMEM');
    const fd = group.device(DEVICE);
    const fired = !kernel.failpoints.armed;
    kernel.failpoints.disarm();
    if (typeof fd === 'number') {
      t.true(n > 3);
      user.close(fd);
      break;
    }
    t.true(fired);
    t.is(fd, 'ENOMEM');
    t.is(kernel.openFds(), 2);
  }
  const op = IOMMU_VFIO_IOAS_CLEAR;
  t.is(user.refused(client.fd, IOMMUFD_CMD.IOMMU_VFIO_IOAS, iommu_vfio_ioas, { op }), 'OK');
  t.is(group.device(DEVICE), 'ENODEV');
  t.is(group.unsetContainer(), 'OK');
  for (const fd of [group.fd, client.fd]) user.close(fd);
  t.deepEqual(kernel.leftovers(), NOTHING);
});
