import test from 'ava';
import { PciCommand, PcieCap, PciHeader } from '../../../../devices/spec/pci.ts';
import { Errno } from '../../../../host/kernel/errno.ts';
import { Segfault } from '../../../../host/syscall.ts';
import { errnoName } from '../../../../host/uapi/errno.ts';
import { MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from '../../../../host/uapi/poll.ts';
import {
  VFIO_DEVICE_ATTACH_PASID,
  VFIO_DEVICE_CMD,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
  vfio_device_feature,
  vfio_device_info,
  vfio_info_cap_header,
  vfio_irq_info,
  vfio_region_info,
} from '../../../../host/uapi/vfio.ts';
import { bound, Client, Device, id } from '../iommufd/client.ts';
import { BAR0_BYTES, TABLE, VECTORS } from '../iommufd/function.ts';
import type { User } from '../iommufd/world.ts';
import { makeWorld } from '../iommufd/world.ts';

const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };
const REGION = 2 ** 40;

function regionInfo(user: User, fd: number, index: number, argsz = 32): object {
  const { result, out } = user.call(
    fd,
    VFIO_DEVICE_CMD.VFIO_DEVICE_GET_REGION_INFO,
    vfio_region_info,
    { index, argsz },
  );
  const { flags, size, offset, cap_offset, argsz: needs } = out;
  return { result, flags, size, offset, cap_offset, argsz: needs };
}

function access(
  user: User,
  fd: number,
): {
  readonly read: (position: number, count: number) => number[] | string;
  readonly write: (position: number, bytes: readonly number[]) => number | string;
} {
  const buffer = user.scratch + 0x2000;
  return {
    read: (position, count) => {
      const n = user.run(user.process.pread(fd, buffer, count, position));
      return n < 0 ? errnoName(n) : [...user.read(buffer, n)];
    },
    write: (position, bytes) => {
      user.write(buffer, Uint8Array.from(bytes));
      const n = user.run(user.process.pwrite(fd, buffer, bytes.length, position));
      return n < 0 ? errnoName(n) : n;
    },
  };
}

test('before BIND everything is EINVAL', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { fd } = new Device(user);
  const { VFIO_DEVICE_GET_INFO, VFIO_DEVICE_RESET } = VFIO_DEVICE_CMD;
  t.is(user.refused(fd, VFIO_DEVICE_GET_INFO, vfio_device_info, {}), 'EINVAL');
  t.is(user.raw(fd, VFIO_DEVICE_RESET, new Uint8Array(0)), 'EINVAL');
  t.is(user.raw(fd, 0x9999, new Uint8Array(0)), 'EINVAL');
  t.is(access(user, fd).read(0, 4), 'EINVAL');
  t.is(access(user, fd).write(0, [1]), 'EINVAL');
  t.is(user.run(user.process.mmap(4096, PROT_READ, MAP_SHARED, fd, 0)), -22);
  t.is(user.close(fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('BIND: arguments, files, one user at a time', (t) => {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  const { fd } = new Device(user);
  const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_BIND_IOMMUFD;
  const bind = (values: Parameters<typeof vfio_device_bind_iommufd.encode>[0]): string =>
    user.refused(fd, cmd, vfio_device_bind_iommufd, { iommufd: client.fd, ...values });
  t.is(bind({ argsz: 15 }), 'EINVAL');
  t.is(bind({ flags: 2 }), 'EINVAL');
  t.is(bind({ flags: 1 }), 'EINVAL', 'no VF token here');
  t.is(bind({ iommufd: -1 }), 'EINVAL');
  t.is(bind({ iommufd: 50 }), 'EBADF');
  t.is(bind({ iommufd: fd }), 'EBADFD');
  const long = new Uint8Array(32);
  long.set(vfio_device_bind_iommufd.encode({ argsz: 32, iommufd: client.fd }));
  long[30] = 1;
  t.is(user.raw(fd, cmd, long), 'E2BIG');
  t.is(bind({ argsz: 16 }), 'OK');
  t.is(bind({}), 'EINVAL', 'bound already');
  const other = new Device(user);
  t.is(other.bind(client.fd), 'EINVAL', 'open in another file');
  const stranger = world.user();
  t.is(new Device(stranger).bind(new Client(stranger).fd), 'EINVAL');
  t.is(user.close(fd), 0);
  t.is(other.bind(client.fd), 'OK', 'free again');
});

test('BIND undoes itself at every failure point', (t) => {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  const device = new Device(user);
  let n = 1;
  for (; n < 50; n++) {
    world.kernel.failpoints.failNth(n, 'ENOMEM');
    const result = device.bind(client.fd);
    if (world.kernel.failpoints.armed) break;
    t.is(result, 'ENOMEM');
    t.is(world.kernel.leftovers().objects, 0);
    t.false(world.pdevs[0]!.memoryEnabled, 'as before');
  }
  t.true(n > 4);
  world.kernel.failpoints.disarm();
  t.true(device.id > 0);
});

test('BIND resets the function with bus mastering off; close leaves it clean', (t) => {
  const world = makeWorld();
  const user = world.user();
  const pdev = world.pdevs[0]!;
  const fn = world.functions[0]!;
  pdev.enableBusMaster();
  const { client, device } = bound(user);
  t.false(pdev.busMasterEnabled);
  t.true(pdev.memoryEnabled);
  t.is(fn.resets, 1);
  const { write } = access(user, device.fd);
  t.is(write(7 * REGION + PciHeader.COMMAND, [PciCommand.MEMORY | PciCommand.BUS_MASTER, 0]), 2);
  t.true(pdev.busMasterEnabled);
  t.is(write(0x10, [1, 2, 3, 4]), 4);
  t.is(fn.memory[0x11], 2);
  t.is(user.raw(device.fd, VFIO_DEVICE_CMD.VFIO_DEVICE_RESET, new Uint8Array(0)), 'OK');
  t.is(fn.memory[0x11], 0);
  t.true(pdev.busMasterEnabled, 'configuration survives');
  const ioas = client.ioas();
  id(device.attach(ioas));
  t.is(user.close(device.fd), 0);
  t.false(pdev.busMasterEnabled);
  t.false(pdev.memoryEnabled);
  t.is(fn.resets, 3);
  t.is(world.driver.at(world.devs[0]!, 0), 'blocked#0');
  t.is(client.destroy(ioas), 'OK', 'nothing is attached to it');
  t.is(user.close(client.fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('close detaches PASIDs in ascending order, then the RID', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const hwpt = id(client.hwpt(device.id, ioas, 8));
  id(device.attach(hwpt));
  for (const pasid of [9, 2, 5]) t.is(device.attachPasid(pasid, hwpt), hwpt);
  const before = world.events.length;
  t.is(user.close(device.fd), 0);
  const detached = world.events
    .slice(before)
    .filter(({ def }) => def.name === 'iommu:detach_device_pasid')
    .map(({ values }) => values['pasid']);
  t.deepEqual(detached, [2, 5, 9]);
  t.is(client.destroy(hwpt), 'OK');
});

test('ATTACH and DETACH arguments', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const hwpt = id(client.hwpt(device.id, ioas, 8));
  const attach = (values: Parameters<typeof vfio_device_attach_iommufd_pt.encode>[0]): string =>
    user.refused(
      device.fd,
      VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT,
      vfio_device_attach_iommufd_pt,
      { pt_id: hwpt, ...values },
    );
  t.is(attach({ argsz: 11 }), 'EINVAL');
  t.is(attach({ flags: 2 }), 'EINVAL');
  t.is(attach({ argsz: 12, flags: 1 }), 'EINVAL', 'no room for the PASID');
  t.is(attach({ argsz: 12 }), 'OK');
  t.is(attach({ flags: 1, pasid: 3 }), 'OK');
  const detach = (
    values: Parameters<typeof vfio_device_detach_iommufd_pt.encode>[0] = {},
  ): string =>
    user.refused(
      device.fd,
      VFIO_DEVICE_CMD.VFIO_DEVICE_DETACH_IOMMUFD_PT,
      vfio_device_detach_iommufd_pt,
      values,
    );
  t.is(detach({ argsz: 7 }), 'EINVAL');
  t.is(detach({ flags: 2 }), 'EINVAL');
  t.is(detach({ argsz: 8, flags: 1 }), 'EINVAL');
  t.is(client.destroy(hwpt), 'EBUSY');
  t.is(detach({ flags: 1, pasid: 3 }), 'OK');
  t.is(detach({ flags: 1, pasid: 3 }), 'OK', 'silent');
  t.is(detach({ argsz: 8 }), 'OK');
  t.is(client.destroy(hwpt), 'OK');
});

test('device, region and interrupt information', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { device } = bound(user);
  const { fd } = device;
  const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_GET_INFO;
  t.is(user.refused(fd, cmd, vfio_device_info, { argsz: 15 }), 'EINVAL');
  const info = user.ok(fd, cmd, vfio_device_info, { argsz: 16, cap_offset: 0xee });
  t.deepEqual([info.flags, info.num_regions, info.num_irqs, info.cap_offset], [3, 9, 5, 0xee]);
  const none = { result: 'OK', flags: 0, size: 0n, cap_offset: 0, argsz: 32 };
  const bar0 = { result: 'OK', flags: 15, size: BigInt(BAR0_BYTES), offset: 0n };
  t.deepEqual(regionInfo(user, fd, 0), { ...bar0, cap_offset: 0, argsz: 40 });
  t.deepEqual(regionInfo(user, fd, 0, 40), { ...bar0, cap_offset: 32, argsz: 40 });
  const cap = vfio_info_cap_header.read(new DataView(user.read(user.scratch + 32, 8).buffer));
  t.deepEqual(cap, { id: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version: 1, next: 0 });
  t.deepEqual(regionInfo(user, fd, 1), { ...none, offset: BigInt(REGION) }, 'upper half of BAR0');
  t.deepEqual(regionInfo(user, fd, 2), { ...none, flags: 7, size: 0x4000n, offset: 2n << 40n });
  t.deepEqual(regionInfo(user, fd, 4), { ...none, flags: 7, size: 0x100n, offset: 4n << 40n });
  t.deepEqual(regionInfo(user, fd, 6), { ...none, offset: 6n << 40n }, 'no ROM');
  const config = { ...none, flags: 3, size: 4096n, offset: 7n << 40n };
  t.deepEqual(regionInfo(user, fd, VFIO_PCI_CONFIG_REGION_INDEX), config);
  t.like(regionInfo(user, fd, 8), { result: 'EINVAL' });
  t.like(regionInfo(user, fd, 9), { result: 'EINVAL' });
  t.like(regionInfo(user, fd, VFIO_PCI_BAR0_REGION_INDEX, 31), { result: 'EINVAL' });
  const irq = (index: number): unknown => {
    const { result, out } = user.call(fd, VFIO_DEVICE_CMD.VFIO_DEVICE_GET_IRQ_INFO, vfio_irq_info, {
      index,
    });
    return result === 'OK' ? [out.flags, out.count] : result;
  };
  t.deepEqual([0, 1, 2, 3, 4, 5].map(irq), [
    [7, 0],
    [9, 0],
    [1, VECTORS],
    [9, 1],
    [9, 1],
    'EINVAL',
  ]);
  const feature = (flags: number): string =>
    user.refused(fd, VFIO_DEVICE_CMD.VFIO_DEVICE_FEATURE, vfio_device_feature, { flags });
  t.is(feature(1), 'EINVAL', 'neither GET nor SET');
  t.is(feature(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET | 1), 'EINVAL');
  t.is(feature(VFIO_DEVICE_FEATURE_GET | 1), 'ENOTTY');
  t.is(user.raw(fd, 0x3b74, new Uint8Array(40)), 'ENOTTY');
});

test('a function without reset says so', (t) => {
  const world = makeWorld({ functions: [{ flr: false }] });
  const user = world.user();
  const { device } = bound(user);
  const info = user.ok(device.fd, VFIO_DEVICE_CMD.VFIO_DEVICE_GET_INFO, vfio_device_info, {});
  t.is(info.flags, 2);
  t.is(user.raw(device.fd, VFIO_DEVICE_CMD.VFIO_DEVICE_RESET, new Uint8Array(0)), 'EINVAL');
  const index = { index: 3 };
  const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_GET_IRQ_INFO;
  t.is(user.refused(device.fd, cmd, vfio_irq_info, index), 'EINVAL', 'no PCI Express');
});

test('BAR accesses are split into natural sizes and kept out of the MSI-X table', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { device } = bound(user);
  const fn = world.functions[0]!;
  const { read, write } = access(user, device.fd);
  t.is(write(0x11, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]), 17);
  t.deepEqual(fn.log, ['w1@0x11', 'w2@0x12', 'w4@0x14', 'w8@0x18', 'w2@0x20']);
  fn.log.length = 0;
  t.deepEqual(read(0x14, 6), [4, 5, 6, 7, 8, 9]);
  t.deepEqual(fn.log, ['r4@0x14', 'r2@0x18']);
  fn.log.length = 0;
  const end = TABLE + VECTORS * 16;
  t.is(write(TABLE - 2, Array<number>(VECTORS * 16 + 4).fill(0x55)), VECTORS * 16 + 4);
  t.deepEqual(fn.log, [`w2@0x${(TABLE - 2).toString(16)}`, `w2@0x${end.toString(16)}`]);
  const around = read(TABLE - 2, VECTORS * 16 + 4) as number[];
  t.deepEqual(around.slice(0, 3), [0x55, 0x55, 0xff]);
  t.deepEqual(around.slice(-3), [0xff, 0x55, 0x55]);
  t.is((read(BAR0_BYTES - 4, 64) as number[]).length, 4, 'cut at the end');
  t.is(read(BAR0_BYTES, 1), 'EINVAL');
  t.is(read(REGION, 1), 'EINVAL', 'the upper half is no BAR');
  t.is(read(6 * REGION, 4), 'EINVAL');
  t.is(read(8 * REGION, 4), 'EINVAL');
  t.is(read(12 * REGION, 4), 'EINVAL');
  t.deepEqual(read(0, 0), []);
  t.is(errnoName(user.run(user.process.pread(device.fd, 8, 4, 0))), 'EFAULT');
  t.is(errnoName(user.run(user.process.pwrite(device.fd, 8, 4, 0))), 'EFAULT');
  world.pdevs[0]!.disableMemory();
  t.is(read(0, 4), 'EIO');
  t.is(write(0, [1]), 'EIO');
});

test('BARs can be mapped; a touch without memory decoding is a SIGBUS', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { device } = bound(user);
  const prot = PROT_READ | PROT_WRITE;
  const map = (length: number, flags: number, offset: number): number =>
    user.run(user.process.mmap(length, prot, flags, device.fd, offset));
  t.is(map(4096, MAP_PRIVATE, 0), -22);
  t.is(map(4096, MAP_SHARED, 7 * REGION), -22);
  t.is(map(4096, MAP_SHARED, 6 * REGION), -22);
  t.is(map(4096, MAP_SHARED, REGION), -22);
  t.is(map(BAR0_BYTES + 1, MAP_SHARED, 0), -22);
  t.is(map(4096, MAP_SHARED, BAR0_BYTES), -22);
  const address = map(0x2000, MAP_SHARED, 0x1000);
  t.true(address > 0);
  user.process.memory.store(address + 0x10, 8, 0x1122n);
  t.is(world.functions[0]!.memory[0x1010], 0x22);
  t.is(user.process.memory.load(address + 0x10, 4), 0x1122n);
  world.pdevs[0]!.disableMemory();
  t.throws(() => user.process.memory.load(address, 4), { instanceOf: Segfault });
  t.is(user.close(device.fd), 0);
  t.is(world.kernel.leftovers().objects, 1, 'the mapping keeps the device open');
  t.is(user.run(user.process.munmap(address, 0x2000)), 0);
  t.is(world.kernel.leftovers().objects, 0);
  t.throws(() => user.process.files.get(device.fd), { instanceOf: Errno });
});

test('ATTACH looks at argsz before it reads the PASID', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const pages = user.map(0x2000);
  t.is(user.run(user.process.munmap(pages + 0x1000, 0x1000)), 0);
  const at = pages + 0x1000 - 12;
  const attach = (argsz: number): string => {
    const struct = vfio_device_attach_iommufd_pt;
    const flags = VFIO_DEVICE_ATTACH_PASID;
    user.write(at, struct.encode({ argsz, flags, pt_id: client.ioas() }).subarray(0, 12));
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT;
    return errnoName(user.run(user.process.ioctl(device.fd, cmd, at)));
  };
  t.is(attach(12), 'EINVAL');
  t.is(attach(16), 'EFAULT');
});

test('resets by ioctl and through configuration space do not meet', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { device } = bound(user);
  const pdev = world.pdevs[0]!;
  const header = (): number[] => Array.from({ length: 16 }, (_, n) => pdev.read32(4 * n));
  const before = header();
  t.true(pdev.pasidEnabled);
  user.write(user.scratch, Uint8Array.of(PcieCap.DEVCTL_INITIATE_FLR >>> 8));
  const flr = VFIO_PCI_CONFIG_REGION_INDEX * REGION + 0x40 + PcieCap.DEVCTL + 1;
  const { process } = user;
  const { scheduler } = world.machine;
  const { resets } = world.functions[0]!;
  scheduler.spawn('ioctl', process.ioctl(device.fd, VFIO_DEVICE_CMD.VFIO_DEVICE_RESET, 0));
  scheduler.spawn('pwrite', process.pwrite(device.fd, user.scratch, 1, flr));
  world.settle();
  t.is(world.functions[0]!.resets, resets + 2);
  t.true(pdev.pasidEnabled);
  t.deepEqual(header(), before);
});
