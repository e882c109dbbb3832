/** Where mappings go. */
import test from 'ava';
import { IOMMUFD_CMD, iommu_ioas_allow_iovas } from '../../../../host/uapi/iommufd.ts';
import { Client } from './client.ts';
import { allow, setup } from './ioas-client.ts';
import { makeWorld } from './world.ts';

test('IOVA allocation: aligned like length and address, first hole, allowed ranges, never 0', (t) => {
  const { user, client, ioas } = setup();
  const memory = user.map(0x400000);
  const aligned = Math.ceil(memory / 0x200000) * 0x200000;
  t.is(client.mapAnywhere(ioas, aligned, 0x200000), 0x200000n);
  t.is(client.mapAnywhere(ioas, aligned, 0x1000), 0x1000n);
  t.is(client.mapAnywhere(ioas, aligned, 0x3000), 0x4000n, 'rounded up to a power of two');
  t.is(client.mapAnywhere(ioas, aligned + 0x1000, 0x3000), 0x7000n);
  t.is(client.mapAnywhere(ioas, aligned + 0x810, 0x20), 0x2810n, 'keeps the page offset');
  t.is(allow(client, ioas, [[0x9_0000n, 0x9_1fffn]]), 'OK');
  t.is(client.mapAnywhere(ioas, aligned, 0x2000), 0x9_0000n);
  t.is(client.mapAnywhere(ioas, aligned, 0x1000), 'ENOSPC');
  t.is(allow(client, ioas, []), 'OK');
  t.is(client.mapAnywhere(ioas, aligned, 2 ** 63), 'EOVERFLOW');
});

test('ALLOW_IOVAS takes a long list, in any order', (t) => {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  const ioas = client.ioas();
  const count = 150_000;
  const list = user.map(count * 16);
  const bytes = new BigUint64Array(2 * count);
  for (let n = 0; n < count; n++) {
    bytes[2 * n] = BigInt(count - n) << 12n;
    bytes[2 * n + 1] = (BigInt(count - n) << 12n) | 0xfffn;
  }
  const allowed = (): string =>
    user.refused(client.fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, {
      ioas_id: ioas,
      num_iovas: count,
      allowed_iovas: BigInt(list),
    });
  user.write(list, new Uint8Array(bytes.buffer));
  t.is(allowed(), 'OK');
  t.is(client.mapAnywhere(ioas, user.map(0x1000), 0x1000), 0x1000n);
  bytes[1]! += 1n;
  bytes[2 * count - 1]! += 1n;
  user.write(list, new Uint8Array(bytes.buffer));
  t.is(allowed(), 'EINVAL', 'the last one now overlaps its neighbour');
});
