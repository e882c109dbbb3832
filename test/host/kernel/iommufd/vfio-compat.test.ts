/** The VFIO container's ioctls on an iommufd. */
import test from 'ava';
import {
  IOMMU_VFIO_IOAS_CLEAR,
  IOMMU_VFIO_IOAS_GET,
  IOMMU_VFIO_IOAS_SET,
  IOMMUFD_CMD,
  iommu_vfio_ioas,
} from '../../../../host/uapi/iommufd.ts';
import {
  VFIO_CONTAINER_CMD,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_UNMAP_ALL,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
  vfio_iommu_type1_info,
} from '../../../../host/uapi/vfio.ts';
import { bound, Client, id } from './client.ts';
import { makeWorld } from './world.ts';

const CMD = VFIO_CONTAINER_CMD;
const RW = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };
const BASE = 0x100_0000n;

const scalar = (client: Client, cmd: number, argument: number): number =>
  client.user.run(client.user.process.ioctl(client.fd, cmd, argument));

function ioasOp(client: Client, op: number, ioas_id = 0): number | string {
  const cmd = IOMMUFD_CMD.IOMMU_VFIO_IOAS;
  const { result, out } = client.user.call(client.fd, cmd, iommu_vfio_ioas, { op, ioas_id });
  return result === 'OK' ? out.ioas_id : result;
}

const map = (client: Client, vaddr: number, iova: bigint, size: bigint, flags = RW): string =>
  client.user.refused(client.fd, CMD.VFIO_IOMMU_MAP_DMA, vfio_iommu_type1_dma_map, {
    flags,
    vaddr: BigInt(vaddr),
    iova,
    size,
  });

function unmap(client: Client, iova: bigint, size: bigint, flags = 0): bigint | string {
  const cmd = CMD.VFIO_IOMMU_UNMAP_DMA;
  const struct = vfio_iommu_type1_dma_unmap;
  const { result, out } = client.user.call(client.fd, cmd, struct, { flags, iova, size });
  return result === 'OK' ? out.size : result;
}

test('arguments are checked before there must be an IOAS', (t) => {
  const world = makeWorld();
  const client = new Client(world.user());
  t.is(scalar(client, CMD.VFIO_GET_API_VERSION, 0), 0);
  t.is(scalar(client, CMD.VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU), 1);
  t.is(scalar(client, CMD.VFIO_CHECK_EXTENSION, VFIO_UNMAP_ALL), 1);
  t.is(scalar(client, CMD.VFIO_CHECK_EXTENSION, 77), 0);
  t.is(scalar(client, CMD.VFIO_CHECK_EXTENSION, 4), -19);
  t.is(scalar(client, CMD.VFIO_SET_IOMMU, 2), -22);
  t.is(scalar(client, CMD.VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), -19);
  t.is(scalar(client, 0x3b75, 0), -25);
  t.is(map(client, 0, BASE, 0x1000n, 4), 'EINVAL');
  t.is(map(client, 0, BASE, 0x1000n), 'ENODEV');
  t.is(unmap(client, BASE, 0x1000n, 1), 'EINVAL');
  t.is(unmap(client, BASE, 0x1000n), 'ENODEV');
  const info = (argsz: number): string =>
    client.user.refused(client.fd, CMD.VFIO_IOMMU_GET_INFO, vfio_iommu_type1_info, { argsz });
  t.is(info(15), 'EINVAL');
  t.is(info(24), 'ENODEV');
  t.is(scalar(client, CMD.VFIO_IOMMU_GET_INFO, 0), -14);
});

test('VFIO_IOAS names the IOAS, which may go', (t) => {
  const world = makeWorld();
  const client = new Client(world.user());
  t.is(ioasOp(client, IOMMU_VFIO_IOAS_GET), 'ENODEV');
  t.is(ioasOp(client, IOMMU_VFIO_IOAS_SET, 5), 'ENOENT');
  t.is(ioasOp(client, 3), 'EOPNOTSUPP');
  const ioas = client.ioas();
  t.is(ioasOp(client, IOMMU_VFIO_IOAS_SET, ioas), ioas);
  t.is(ioasOp(client, IOMMU_VFIO_IOAS_GET), ioas);
  t.is(ioasOp(client, IOMMU_VFIO_IOAS_CLEAR), 0);
  t.is(ioasOp(client, IOMMU_VFIO_IOAS_GET), 'ENODEV');
  ioasOp(client, IOMMU_VFIO_IOAS_SET, ioas);
  t.is(client.destroy(ioas), 'OK');
  t.is(ioasOp(client, IOMMU_VFIO_IOAS_GET), 'ENODEV');
});

test('type 1 cuts mappings at both ends, v2 does not', (t) => {
  for (const type of [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU]) {
    const world = makeWorld();
    const user = world.user();
    const { client, device } = bound(user);
    const ioas = client.ioas();
    ioasOp(client, IOMMU_VFIO_IOAS_SET, ioas);
    t.is(scalar(client, CMD.VFIO_SET_IOMMU, type), 0);
    const hwpt = id(client.hwpt(device.id, ioas));
    const memory = user.map(0x8000);
    t.is(map(client, memory, BASE, 0x8000n), 'OK');
    t.is(map(client, memory, BASE, 0x1000n), 'EEXIST');
    t.is(unmap(client, 0x400_0000n, 0x1000n), 0n, 'nothing is there');
    t.is(unmap(client, BASE, 0n), 'EINVAL');
    t.is(unmap(client, 0x1000n, 0n, VFIO_DMA_UNMAP_FLAG_ALL), 'EINVAL');
    const pins = (): number => world.kernel.leftovers().pins;
    if (type === VFIO_TYPE1_IOMMU) {
      t.is(unmap(client, BASE + 0x2000n, 0x3000n), 0x3000n);
      t.is(pins(), 5);
      t.is(unmap(client, BASE + 0x800n, 0x1000n), 'EINVAL', 'a cut inside a page');
      t.is(unmap(client, 0n, 0n, VFIO_DMA_UNMAP_FLAG_ALL), 0x5000n);
    } else {
      t.is(unmap(client, BASE + 0x2000n, 0x3000n), 'ENOENT');
      t.is(pins(), 8);
      t.is(unmap(client, BASE - 0x1000n, 0x10000n), 0x8000n);
    }
    t.is(pins(), 0);
    t.is(client.destroy(hwpt), 'OK');
    t.is(user.close(device.fd), 0);
    t.is(user.close(client.fd), 0);
    t.deepEqual(world.kernel.leftovers(), NOTHING);
  }
});

test('GET_INFO tells as much as there is room for', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  ioasOp(client, IOMMU_VFIO_IOAS_SET, ioas);
  id(client.hwpt(device.id, ioas));
  const ask = (argsz: number): DataView => {
    const bytes = new Uint8Array(128).fill(0xee);
    bytes.set(vfio_iommu_type1_info.encode({ argsz }));
    t.is(user.raw(client.fd, CMD.VFIO_IOMMU_GET_INFO, bytes), 'OK');
    return new DataView(user.read(user.scratch, 128).buffer);
  };
  const total = 24 + 16 + 16 + 16;
  const short = vfio_iommu_type1_info.read(ask(24));
  t.deepEqual([short.argsz, short.flags, short.cap_offset], [total, 3, 0]);
  t.is(short.iova_pgsizes, 0x4020_1000n);
  const whole = ask(total);
  t.is(vfio_iommu_type1_info.read(whole).cap_offset, 24);
  t.deepEqual([whole.getUint16(24, true), whole.getUint32(28, true)], [3, 40]);
  t.is(whole.getUint32(32, true), 0xffff_ffff);
  t.deepEqual([whole.getUint16(40, true), whole.getUint32(48, true)], [1, 1]);
  t.deepEqual(
    [whole.getBigUint64(56, true), whole.getBigUint64(64, true)],
    [0x100_0000n, 0x7fff_ffffn],
  );
  t.is(whole.getUint8(72), 0xee);
});

test('/dev/vfio/vfio is an iommufd that charges the process', (t) => {
  const world = makeWorld();
  const user = world.user();
  const fd = user.open('/dev/vfio/vfio');
  t.is(user.run(user.process.ioctl(fd, CMD.VFIO_GET_API_VERSION, 0)), 0);
  t.is(user.close(fd), 0);
});
