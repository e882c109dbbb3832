/** Who pays for pins. */
import test from 'ava';
import {
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  IOMMUFD_CMD,
  iommu_ioas_alloc,
  iommu_option,
} from '../../../../host/uapi/iommufd.ts';
import { bound, id } from './client.ts';
import { ALL, BASE } from './ioas-client.ts';
import { makeWorld } from './world.ts';

test('RLIMIT_MODE is set before any object exists, and MM mode charges the mm', (t) => {
  const world = makeWorld();
  const user = world.user();
  const fd = user.open('/dev/iommu');
  const option = (values: Parameters<typeof iommu_option.encode>[0]): bigint | string => {
    const { result, out } = user.call(fd, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, {
      option_id: IOMMU_OPTION_RLIMIT_MODE,
      ...values,
    });
    return result === 'OK' ? out.val64 : result;
  };
  t.is(option({ object_id: 1 }), 'EOPNOTSUPP');
  t.is(option({ op: IOMMU_OPTION_OP_GET }), 0n);
  t.is(option({ op: IOMMU_OPTION_OP_SET, val64: 2n }), 'EINVAL');
  t.is(option({ op: IOMMU_OPTION_OP_SET, val64: 1n }), 1n);
  t.is(option({ op: IOMMU_OPTION_OP_GET }), 1n);
  user.ok(fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOC, iommu_ioas_alloc, {});
  t.is(option({ op: IOMMU_OPTION_OP_SET, val64: 0n }), 'EBUSY');
});

test('RLIMIT_MEMLOCK bounds what a process without CAP_IPC_LOCK pins', (t) => {
  const world = makeWorld();
  const user = world.user();
  user.process.mm.lockLimit = 4;
  user.process.credentials.ipcLock = false;
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const memory = user.map(0x8000);
  t.is(client.map(ioas, memory, 0x5000, BASE), 'OK', 'mapping alone pins nothing');
  t.is(client.hwpt(device.id, ioas), 'ENOMEM');
  t.is(world.kernel.leftovers().pins, 0);
  t.is(client.unmap(ioas, 0n, ALL), 0x5000n);
  t.is(client.map(ioas, memory, 0x4000, BASE), 'OK');
  const hwpt = id(client.hwpt(device.id, ioas));
  t.is(user.process.mm.pinnedVm, 4);
  t.is(client.map(ioas, memory + 0x4000, 0x1000, BASE + 0x10000), 'ENOMEM');
  t.is(client.destroy(hwpt), 'OK');
  t.is(user.process.mm.pinnedVm, 0);
});
