/** MAP_FILE, CHANGE_PROCESS and who pays for pins. */
import test from 'ava';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  IOMMUFD_CMD,
  iommu_ioas_change_process,
  iommu_ioas_map_file,
  iommu_option,
} from '../../../../host/uapi/iommufd.ts';
import { MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from '../../../../host/uapi/poll.ts';
import type { Values } from '../../../../host/uapi/struct.ts';
import { bound, Client, Device, id } from './client.ts';
import type { MockDomain } from './mock-driver.ts';
import type { User } from './world.ts';
import { makeWorld } from './world.ts';

const BASE = 0x100_0000n;
const ALL = 0xffff_ffff_ffff_ffffn;
const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

function memfd(user: User, bytes: number): number {
  const fd = user.run(user.process.memfdCreate('test'));
  user.run(user.process.ftruncate(fd, bytes));
  return fd;
}

function mapFile(
  client: Client,
  values: Partial<Values<typeof iommu_ioas_map_file.fields>>,
): bigint | string {
  const { result, out } = client.user.call(
    client.fd,
    IOMMUFD_CMD.IOMMU_IOAS_MAP_FILE,
    iommu_ioas_map_file,
    { flags: IOMMU_IOAS_MAP_FIXED_IOVA | RW, iova: BASE, length: 0x1000n, ...values },
  );
  return result === 'OK' ? out.iova : result;
}

const change = (by: User, fd: number, __reserved = 0): string =>
  by.refused(fd, IOMMUFD_CMD.IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, { __reserved });

test('a memfd is mapped with the pages that programs see, and they outlive its fd', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const fd = memfd(user, 0x4000);
  const shared = PROT_READ | PROT_WRITE;
  const at = user.run(user.process.mmap(0x4000, shared, MAP_SHARED, fd, 0));
  t.is(user.run(user.process.mmap(0x4000, shared, MAP_PRIVATE, fd, 0)), -22);
  user.write(at + 0x1000, Uint8Array.of(7, 8, 9));
  const hwpt = id(client.hwpt(device.id, ioas));
  t.is(mapFile(client, { ioas_id: ioas, fd, start: 0x1000n, length: 0x2000n }), BASE);
  const domain = [...world.driver.live].at(-1) as MockDomain;
  const physical = domain.mapped.get(BASE)!;
  const { ram } = world.machine;
  t.deepEqual([...ram.bytes.subarray(physical, physical + 3)], [7, 8, 9]);
  ram.bytes[physical] = 42;
  t.is(user.read(at + 0x1000, 1)[0], 42, 'DMA lands in the mapping');
  t.is(user.close(fd), 0);
  t.is(user.run(user.process.munmap(at, 0x4000)), 0);
  t.is(client.unmap(ioas, 0n, ALL), 0x2000n);
  t.is(client.destroy(hwpt), 'OK');
  t.is(user.close(device.fd), 0);
  t.is(user.close(client.fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('MAP_FILE refuses as MAP does, and what is no memory file when pages are wanted', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const fd = memfd(user, 0x1000);
  const values = { ioas_id: ioas, fd };
  t.is(mapFile(client, { ...values, flags: 8 | RW }), 'EOPNOTSUPP');
  t.is(mapFile(client, { ...values, flags: 0 }), 'EINVAL');
  t.is(mapFile(client, { ...values, length: ALL }), 'EOVERFLOW');
  t.is(mapFile(client, { ...values, ioas_id: 99 }), 'ENOENT');
  t.is(mapFile(client, { ...values, length: 0n }), 'EINVAL');
  t.is(mapFile(client, { ...values, start: ALL, length: 2n }), 'EOVERFLOW');
  t.is(mapFile(client, { ...values, fd: 77 }), 'EBADF');
  t.is(mapFile(client, { ...values, length: 0x2000n }), BASE, 'no domain looks at the end');
  t.is(client.hwpt(device.id, ioas), 'EINVAL');
  t.is(client.unmap(ioas, 0n, ALL), 0x2000n);
  t.is(mapFile(client, { ...values, fd: client.fd }), BASE);
  t.is(client.hwpt(device.id, ioas), 'EINVAL');
  t.is(client.unmap(ioas, 0n, ALL), 0x1000n);
  id(client.hwpt(device.id, ioas));
  t.is(mapFile(client, { ...values, length: 0x2000n }), 'EINVAL');
  t.is(mapFile(client, values), BASE);
  t.is(mapFile(client, values), 'EEXIST');
  t.is(user.close(fd), 0);
  t.is(user.close(device.fd), 0);
  t.is(user.close(client.fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('MAP_FILE undoes itself at every failure point', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const fd = memfd(user, 0x4000);
  id(client.hwpt(device.id, ioas));
  const { failpoints } = world.kernel;
  let n = 1;
  for (; ; n++) {
    failpoints.failNth(n);
    const result = mapFile(client, { ioas_id: ioas, fd, length: 0x4000n });
    const done = failpoints.armed;
    failpoints.disarm();
    if (done) break;
    t.is(typeof result, 'string');
    t.is(world.kernel.leftovers().pins, 0);
  }
  t.true(n > 4);
});

for (const mode of ['user', 'mm'] as const) {
  test(`CHANGE_PROCESS moves what is charged, by ${mode}`, (t) => {
    const world = makeWorld();
    const [old, next] = [world.user('old'), world.user('next')];
    for (const [n, { process }] of [old, next].entries()) {
      process.credentials.ipcLock = false;
      process.credentials.uid = 1000 + n;
      process.mm.lockLimit = 2;
    }
    const client = new Client(old);
    if (mode === 'mm') {
      old.ok(client.fd, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, {
        option_id: IOMMU_OPTION_RLIMIT_MODE,
        op: IOMMU_OPTION_OP_SET,
        val64: 1n,
      });
    }
    const device = deviceOf(old, client);
    const ioas = client.ioas();
    id(client.hwpt(device, ioas));
    const fd = memfd(old, 0x3000);
    t.is(mapFile(client, { ioas_id: ioas, fd, length: 0x3000n }), 'ENOMEM');
    t.is(mapFile(client, { ioas_id: ioas, fd, length: 0x2000n }), BASE);
    const counts = (): number[] => [
      old.process.mm.pinnedVm,
      old.process.mm.lockedVm,
      next.process.mm.pinnedVm,
      next.process.mm.lockedVm,
    ];
    const locked = mode === 'mm' ? 2 : 0;
    t.deepEqual(counts(), [2, locked, 0, 0]);
    const copy = next.process.files.add(old.process.files.get(client.fd).get());
    t.is(change(next, copy, 1), 'EOPNOTSUPP');
    next.process.mm.lockLimit = 1;
    t.is(change(next, copy), 'ENOMEM');
    t.deepEqual(counts(), [2, locked, 0, 0]);
    next.process.mm.lockLimit = 2;
    t.is(change(next, copy), 'OK');
    t.deepEqual(counts(), [0, 0, 2, locked]);
    t.is(change(next, copy), 'OK', 'nothing to do');
    const memory = old.map(0x1000);
    t.is(client.map(ioas, memory, 0x1000, 0x200_0000), 'OK');
    t.is(change(next, copy), 'EINVAL', 'memory of a process cannot move');
    t.is(client.unmap(ioas, 0n, ALL), 0x3000n);
    t.deepEqual(counts(), [0, 0, 0, 0]);
  });
}

test('RLIMIT_MODE needs CAP_SYS_RESOURCE', (t) => {
  const world = makeWorld();
  const user = world.user();
  user.process.credentials.sysResource = false;
  const client = new Client(user);
  const values = { option_id: IOMMU_OPTION_RLIMIT_MODE, op: IOMMU_OPTION_OP_SET };
  t.is(user.refused(client.fd, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, values), 'EPERM');
  user.process.credentials.sysResource = true;
  t.is(user.refused(client.fd, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, values), 'OK');
});

/** Binds the first device: its id. */
function deviceOf(user: User, client: Client): number {
  const device = new Device(user);
  if (device.bind(client.fd) !== 'OK') throw new Error('bind');
  return device.id;
}
