/** DMABUF_GET and DMABUF_REVOKE, and what accesses make of a dma-buf. */
import test from 'ava';
import { errnoName } from '../../../../host/uapi/errno.ts';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMUFD_CMD,
  iommu_ioas_map_file,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { BASE, makeMockWorld, NOTHING, PAGE, type Tester } from './world.ts';

const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;

/** The ioctl's result: the descriptor, or -errno. */
function get(it: Tester, length: number): number {
  const bytes = new Uint8Array(uapi.iommu_test_cmd.size);
  const view = new DataView(bytes.buffer);
  uapi.iommu_test_dmabuf_get.write(view, 0, { length });
  const op = uapi.IOMMU_TEST_OP_DMABUF_GET;
  uapi.iommu_test_cmd.write(view, 0, { size: bytes.length, op });
  it.user.write(it.user.scratch, bytes);
  return it.user.run(it.user.process.ioctl(it.fd, uapi.IOMMU_TEST_CMD, it.user.scratch));
}

const revoke = (it: Tester, dmabuf_fd: number, revoked = 1): string =>
  it.does(uapi.IOMMU_TEST_OP_DMABUF_REVOKE, uapi.iommu_test_dmabuf_revoke, { dmabuf_fd, revoked });

const map = (it: Tester, ioas: number, fd: number, length: number): string =>
  it.user.refused(it.fd, IOMMUFD_CMD.IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, {
    flags: IOMMU_IOAS_MAP_FIXED_IOVA | RW,
    ioas_id: ioas,
    fd,
    length: BigInt(length),
    iova: BigInt(BASE),
  });

test('a dma-buf of whole pages, up to 2 MiB; its memory goes with the last user', (t) => {
  const world = makeMockWorld();
  const { kernel } = world;
  const it = world.tester();
  const ioas = it.ioas();
  it.mock(ioas);
  const free = kernel.pages.freePages;
  t.is(errnoName(get(it, 0)), 'EINVAL');
  t.is(errnoName(get(it, (2 << 20) + 1)), 'EINVAL');
  t.is(kernel.pages.freePages, free);
  const fd = get(it, 3 * PAGE + 1);
  t.is(kernel.pages.freePages, free - 4);
  t.is(map(it, ioas, fd, 4 * PAGE), 'OK');
  t.is(it.user.close(fd), 0);
  t.is(kernel.pages.freePages, free - 4);
  t.is(revoke(it, fd), 'EBADF');
  t.is(it.unmap(ioas, BigInt(BASE), BigInt(4 * PAGE)), BigInt(4 * PAGE));
  t.is(kernel.pages.freePages, free);
  const large = get(it, 2 << 20);
  t.is(map(it, ioas, large, 2 << 20), 'OK');
  t.is(it.user.close(large), 0);
  it.close();
  t.deepEqual(kernel.leftovers(), NOTHING);
});

test('revoked it cannot be mapped; only a dma-buf can be revoked', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const fd = get(it, 4 * PAGE);
  t.is(revoke(it, it.fd), 'EINVAL');
  t.is(revoke(it, fd), 'OK');
  t.is(map(it, ioas, fd, PAGE), 'ENODEV');
  t.is(revoke(it, fd, 0), 'OK');
  t.is(map(it, ioas, fd, PAGE), 'OK');
});

test('no access pins or copies what a dma-buf has', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const fd = get(it, 4 * PAGE);
  t.is(map(it, ioas, fd, 4 * PAGE), 'OK');
  const access = it.access(ioas) as number;
  t.is(it.pin(access, BASE, PAGE, 0), 'EINVAL');
  const buffer = it.user.map(PAGE);
  t.is(it.rw(access, BASE, 16, buffer), 'EINVAL');
  t.is(it.rw(access, BASE, 16, buffer, uapi.MOCK_ACCESS_RW_WRITE), 'EINVAL');
});
