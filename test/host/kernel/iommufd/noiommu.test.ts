/** IOMMU_IOAS_NOIOMMU_GET_PA on a kernel whose devices all have an IOMMU. */
import test from 'ava';
import { IOMMUFD_CMD, iommu_ioas_noiommu_get_pa } from '../../../../host/uapi/iommufd.ts';
import { Client } from './client.ts';
import { makeWorld } from './world.ts';

test('the size rules of every command, then EOPNOTSUPP', (t) => {
  const client = new Client(makeWorld().user());
  const cmd = IOMMUFD_CMD.IOMMU_IOAS_NOIOMMU_GET_PA;
  const { size } = iommu_ioas_noiommu_get_pa;
  const call = (stated: number, tail = 0): string => {
    const bytes = new Uint8Array(size + 1);
    bytes.set(iommu_ioas_noiommu_get_pa.encode({ size: stated, ioas_id: client.ioas() }));
    bytes[size] = tail;
    return client.user.raw(client.fd, cmd, bytes);
  };
  t.is(call(size - 1), 'EINVAL');
  t.is(call(size + 1, 1), 'E2BIG');
  t.is(call(size + 1), 'EOPNOTSUPP');
  t.is(call(size), 'EOPNOTSUPP');
  t.is(client.user.raw(client.fd, cmd + 1, new Uint8Array(8)), 'ENOTTY');
});
