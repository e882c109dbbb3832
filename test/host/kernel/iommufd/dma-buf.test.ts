/** MAP_FILE of dma-bufs: exported memory, and what becomes of it when its owner takes it back. */
import test from 'ava';
import { DmaBuf, type DmaBufExporter } from '../../../../host/kernel/dma-buf.ts';
import { Errno } from '../../../../host/kernel/errno.ts';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_VFIO_IOAS_SET,
  IOMMUFD_CMD,
  iommu_ioas_change_process,
  iommu_ioas_copy,
  iommu_ioas_map_file,
  iommu_vfio_ioas,
} from '../../../../host/uapi/iommufd.ts';
import { O_RDWR } from '../../../../host/uapi/poll.ts';
import type { Values } from '../../../../host/uapi/struct.ts';
import {
  VFIO_CONTAINER_CMD,
  VFIO_TYPE1_IOMMU,
  vfio_iommu_type1_dma_unmap,
} from '../../../../host/uapi/vfio.ts';
import { bound, id } from './client.ts';
import type { MockDomain } from './mock-driver.ts';
import { makeWorld } from './world.ts';

const BASE = 0x100_0000n;
const ALL = 0xffff_ffff_ffff_ffffn;
const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };
const ADDRESS = 0x8_0000_0000;
const BYTES = 0x4000;

class Exporter implements DmaBufExporter {
  readonly bytes = BYTES;
  readonly address: number | null;
  revoked = false;
  released = 0;

  constructor(address: number | null = ADDRESS) {
    this.address = address;
  }

  physicalAddress(): number | null {
    if (this.revoked) throw new Errno('ENODEV', 'revoked');
    return this.address;
  }

  release(): void {
    this.released++;
  }
}

function setup(exporter = new Exporter()) {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const dmaBuf = new DmaBuf(exporter);
  const fd = user.process.files.install(dmaBuf, O_RDWR);
  const mapFile = (values: Partial<Values<typeof iommu_ioas_map_file.fields>>): bigint | string => {
    const flags = IOMMU_IOAS_MAP_FIXED_IOVA | RW;
    const { result, out } = user.call(
      client.fd,
      IOMMUFD_CMD.IOMMU_IOAS_MAP_FILE,
      iommu_ioas_map_file,
      { flags, ioas_id: ioas, fd, iova: BASE, length: BigInt(BYTES), ...values },
    );
    return result === 'OK' ? out.iova : result;
  };
  const copy = (dst_iova: bigint): string =>
    user.refused(client.fd, IOMMUFD_CMD.IOMMU_IOAS_COPY, iommu_ioas_copy, {
      flags: IOMMU_IOAS_MAP_FIXED_IOVA | RW,
      dst_ioas_id: ioas,
      src_ioas_id: ioas,
      length: BigInt(BYTES),
      dst_iova,
      src_iova: BASE,
    });
  const domain = (): MockDomain => {
    id(client.hwpt(device.id, ioas));
    return [...world.driver.live].at(-1) as MockDomain;
  };
  const revoke = (revoked: boolean): void => {
    exporter.revoked = revoked;
    world.run(dmaBuf.invalidateMappings());
  };
  const closeAll = (): void => {
    user.close(device.fd);
    user.close(client.fd);
    user.close(fd);
  };
  return {
    world,
    user,
    client,
    device,
    ioas,
    exporter,
    fd,
    mapFile,
    copy,
    domain,
    revoke,
    closeAll,
  };
}

/** What the domain maps, ascending: pairs of IOVA and physical address. */
const mapped = (domain: MockDomain): [bigint, number][] =>
  [...domain.mapped].sort(([a], [b]) => Number(a - b));

const pages = (iova: bigint, address: number, count: number): [bigint, number][] =>
  Array.from({ length: count }, (_, n) => [iova + BigInt(n * 0x1000), address + n * 0x1000]);

test('it is mapped where its memory is, without pins, and keeps it when its fd is closed', (t) => {
  const s = setup();
  const before = s.domain();
  t.is(s.mapFile({ start: 0x1000n, length: 0x2000n }), BASE);
  const after = s.domain();
  for (const domain of [before, after]) {
    t.deepEqual(mapped(domain), pages(BASE, ADDRESS + 0x1000, 2));
    t.is(domain.mapCalls.length, 1, 'one contiguous run');
  }
  t.is(s.world.kernel.leftovers().pins, 0);
  t.is(s.user.process.mm.pinnedVm, 0);
  t.is(s.user.close(s.fd), 0);
  t.is(s.exporter.released, 0);
  t.is(s.client.unmap(s.ioas, BASE, 0x2000n), 0x2000n);
  t.is(s.exporter.released, 1);
  t.deepEqual(mapped(before), []);
});

test('what cannot be mapped is refused, in order', (t) => {
  const s = setup();
  t.is(s.mapFile({ length: 0n, fd: 99 }), 'EINVAL');
  t.is(s.mapFile({ start: ALL - 0xfffn, length: 0x1001n, fd: 99 }), 'EOVERFLOW');
  t.is(s.mapFile({ fd: 99 }), 'EBADF');
  s.exporter.revoked = true;
  t.is(s.mapFile({ start: BigInt(BYTES) }), 'EINVAL', 'beyond its end, revoked or not');
  t.is(s.mapFile({ length: BigInt(BYTES) + 1n }), 'EINVAL');
  t.is(s.mapFile({}), 'ENODEV');
  s.exporter.revoked = false;
  t.is(s.mapFile({}), BASE);
  t.is(s.mapFile({}), 'EEXIST');
  const shy = setup(new Exporter(null));
  t.is(shy.mapFile({}), 'EOPNOTSUPP');
  for (const { closeAll, world, exporter } of [s, shy]) {
    closeAll();
    t.is(exporter.released, 1, 'no import is left');
    t.deepEqual(world.kernel.leftovers(), NOTHING);
  }
});

test('revoked: translations go from every domain, areas stay, and a new mapping works again', (t) => {
  const s = setup();
  const [one, two] = [s.domain(), s.domain()];
  t.is(s.mapFile({}), BASE);
  t.is(s.copy(BASE + 0x10_0000n), 'OK', 'a copy shares the import');
  t.is(mapped(one).length, 8);
  s.revoke(true);
  t.deepEqual([mapped(one), mapped(two)], [[], []]);
  t.is(s.mapFile({ iova: BASE + 0x20_0000n }), 'ENODEV');
  t.deepEqual(mapped(s.domain()), [], 'nor does a new domain get them');
  t.is(s.copy(BASE + 0x30_0000n), 'OK', 'a copy of nothing');
  s.revoke(false);
  t.deepEqual(mapped(one), [], 'what was revoked stays so');
  t.is(s.mapFile({}), 'EEXIST');
  t.is(s.mapFile({ iova: BASE + 0x20_0000n }), BASE + 0x20_0000n);
  const again = pages(BASE + 0x20_0000n, ADDRESS, 4);
  t.deepEqual(mapped(two), again);
  t.is(s.client.unmap(s.ioas, BASE, BigInt(BYTES)), BigInt(BYTES));
  t.is(s.mapFile({}), BASE, 'restored at its IOVA');
  t.deepEqual(mapped(one), [...pages(BASE, ADDRESS, 4), ...again]);
  s.revoke(false);
  t.deepEqual(mapped(one), [], 'any move of the exporter ends what was mapped');
  t.is(s.client.unmap(s.ioas, 0n, ALL), BigInt(4 * BYTES));
  s.closeAll();
  t.is(s.exporter.released, 1);
  t.deepEqual(s.world.kernel.leftovers(), NOTHING);
});

test('no other process takes it over, and type 1 does not cut it', (t) => {
  const s = setup();
  const { user, client } = s;
  const set = { op: IOMMU_VFIO_IOAS_SET, ioas_id: s.ioas };
  user.ok(client.fd, IOMMUFD_CMD.IOMMU_VFIO_IOAS, iommu_vfio_ioas, set);
  const setIommu = user.process.ioctl(
    client.fd,
    VFIO_CONTAINER_CMD.VFIO_SET_IOMMU,
    VFIO_TYPE1_IOMMU,
  );
  t.is(user.run(setIommu), 0);
  const one = s.domain();
  t.is(s.mapFile({}), BASE);
  const change = IOMMUFD_CMD.IOMMU_IOAS_CHANGE_PROCESS;
  t.is(user.refused(client.fd, change, iommu_ioas_change_process, {}), 'EINVAL');
  const unmap = (size: bigint): string =>
    user.refused(client.fd, VFIO_CONTAINER_CMD.VFIO_IOMMU_UNMAP_DMA, vfio_iommu_type1_dma_unmap, {
      iova: BASE,
      size,
    });
  t.is(unmap(0x1000n), 'EOPNOTSUPP');
  t.is(mapped(one).length, 4);
  t.is(unmap(BigInt(BYTES)), 'OK');
  t.deepEqual(mapped(one), []);
});

test('whatever fails on the way, no import and no translation is left', (t) => {
  const s = setup();
  const [one, two] = [s.domain(), s.domain()];
  const { failpoints } = s.world.kernel;
  for (let n = 1; ; n++) {
    failpoints.failNth(n);
    const result = s.mapFile({});
    const { armed } = failpoints;
    failpoints.disarm();
    if (armed) {
      t.is(result, BASE);
      t.true(n > 4, `${n - 1} points`);
      break;
    }
    if (result === BASE) s.client.unmap(s.ioas, BASE, BigInt(BYTES));
    t.deepEqual([mapped(one), mapped(two)], [[], []], `point ${n}`);
  }
  s.closeAll();
  t.is(s.exporter.released, 1);
  t.deepEqual(s.world.kernel.leftovers(), NOTHING);
});
