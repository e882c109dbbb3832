/** MAP, UNMAP and COPY. */
import test from 'ava';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMUFD_CMD,
  iommu_ioas_map,
} from '../../../../host/uapi/iommufd.ts';
import { bound, id } from './client.ts';
import { ALL, BASE, copy, setup } from './ioas-client.ts';
import { makeWorld } from './world.ts';

test('MAP checks in the order of the kernel', (t) => {
  const { user, client, ioas } = setup();
  const memory = user.map(0x10000);
  const map = (values: Parameters<typeof iommu_ioas_map.encode>[0]): string =>
    user.refused(client.fd, IOMMUFD_CMD.IOMMU_IOAS_MAP, iommu_ioas_map, {
      flags: IOMMU_IOAS_MAP_READABLE,
      ioas_id: ioas,
      user_va: BigInt(memory),
      length: 0x1000n,
      ...values,
    });
  t.is(map({ flags: 8 }), 'EOPNOTSUPP');
  t.is(map({ __reserved: 1 }), 'EOPNOTSUPP');
  t.is(map({ iova: ALL }), 'EOVERFLOW');
  t.is(map({ length: ALL }), 'EOVERFLOW');
  t.is(map({ flags: 0 }), 'EINVAL');
  t.is(map({ ioas_id: 77 }), 'ENOENT');
  t.is(map({ length: 0n }), 'EINVAL');
  t.is(map({ user_va: ALL - 10n }), 'EOVERFLOW');
  const fixed = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_FIXED_IOVA;
  t.is(map({ flags: fixed, iova: ALL - 0xfffn }), 'OK', 'the very last page');
  t.is(map({ flags: fixed, iova: ALL - 0xffen }), 'EOVERFLOW');
  t.is(map({}), 'OK');
});

test('overlap is EEXIST; unmap takes whole areas only', (t) => {
  const { user, client, ioas } = setup();
  const memory = user.map(0x10000);
  t.is(client.map(ioas, memory, 0x4000, BASE), 'OK');
  t.is(client.map(ioas, memory, 0x1000, BASE + 0x3000), 'EEXIST');
  t.is(client.map(ioas, memory, 0x1000, BASE - 0x800), 'EEXIST');
  t.is(client.map(ioas, memory, 0x1000, BASE + 0x4000), 'OK');
  t.is(client.unmap(ioas, BigInt(BASE), 0x2000n), 'ENOENT');
  t.is(client.unmap(ioas, BigInt(BASE + 0x1000), 0x3000n), 'ENOENT');
  t.is(client.unmap(ioas, 0x5000n, 0x1000n), 'ENOENT');
  t.is(client.unmap(ioas, 0x5000n, 0n), 'EINVAL');
  t.is(client.unmap(ioas, ALL, 1n), 'EOVERFLOW');
  t.is(client.unmap(ioas, BigInt(BASE), 0x4800n), 'ENOENT', 'the second area is cut');
  t.is(client.unmap(ioas, BigInt(BASE), 0x4000n), 'ENOENT', 'the first has gone meanwhile');
  t.is(client.unmap(ioas, 0n, ALL), 0x1000n);
  t.is(client.unmap(ioas, 0n, ALL), 0n);
});

test('COPY shares the pages and follows the rules of MAP', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const src = client.ioas();
  const dst = client.ioas();
  const memory = user.map(0x8000);
  t.is(client.map(src, memory, 0x4000, BASE), 'OK');
  t.is(client.map(src, memory + 0x4000, 0x1000, BASE + 0x4000, IOMMU_IOAS_MAP_READABLE), 'OK');
  const from = BigInt(BASE);
  t.is(copy(client, { dst, src, from, length: 0x6000n, to: from }), 'ENOENT', 'a hole at the end');
  t.is(copy(client, { dst, src, from: from - 1n, length: 2n, to: from }), 'ENOENT');
  t.is(copy(client, { dst, src, from, length: 0n, to: from }), 'EINVAL');
  t.is(copy(client, { dst, src, from: ALL, length: 1n, to: from }), 'EOVERFLOW');
  t.is(copy(client, { dst: 99, src, from, length: 1n, to: from }), 'ENOENT');
  t.is(copy(client, { dst, src: 99, from, length: 1n, to: from }), 'ENOENT');
  t.is(copy(client, { dst, src, from, length: 0x1000n, flags: 8 }), 'EOPNOTSUPP');
  const write = IOMMU_IOAS_MAP_WRITEABLE;
  t.is(copy(client, { dst, src, from, length: 0x5000n, to: from, flags: write }), 'EPERM');
  t.is(copy(client, { dst, src, from, length: 0x5000n, to: from }), from, 'across two areas');
  t.is(copy(client, { dst, src, from: from + 0x1000n, length: 0x2000n }), 0x1000n);
  const hwpt = id(client.hwpt(device.id, src));
  t.is(world.kernel.leftovers().pins, 5);
  t.is(client.unmap(dst, 0x1000n, 0x2000n), 0x2000n);
  const other = id(client.hwpt(device.id, dst));
  t.is(world.kernel.leftovers().pins, 5, 'pinned once for both');
  t.is(client.unmap(src, 0n, ALL), 0x5000n);
  t.is(world.kernel.leftovers().pins, 5, 'the copy keeps them');
  t.is(client.destroy(hwpt), 'OK');
  t.is(client.destroy(other), 'OK');
  t.is(world.kernel.leftovers().pins, 0);
});
