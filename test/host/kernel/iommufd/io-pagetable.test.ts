/** Areas and the domains that mirror them. */
import test from 'ava';
import {
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMUFD_CMD,
  iommu_option,
} from '../../../../host/uapi/iommufd.ts';
import { PROT_READ } from '../../../../host/uapi/poll.ts';
import { bound, id } from './client.ts';
import { ALL, allow, BASE, domains, ranges } from './ioas-client.ts';
import { makeWorld } from './world.ts';

test('a domain mirrors the areas; pages are pinned once and unpinned with the last', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const memory = user.map(0x200000);
  t.is(client.map(ioas, memory, 0x200000, BASE), 'OK');
  t.is(world.kernel.leftovers().pins, 0, 'nothing is pinned without a domain');
  const first = id(client.hwpt(device.id, ioas));
  t.is(world.kernel.leftovers().pins, 512);
  const second = id(client.hwpt(device.id, ioas));
  t.is(world.kernel.leftovers().pins, 512);
  t.is(client.map(ioas, memory, 0x1000, BASE + 0x1000000), 'OK');
  t.is(world.kernel.leftovers().pins, 512, 'the same frame again');
  const [one, two] = domains(world);
  t.is(one!.mapped.size, 513);
  t.deepEqual([...one!.mapped], [...two!.mapped]);
  const pfns = user.process.mm.pin(BigInt(memory), 512, true);
  user.process.mm.unpin(pfns);
  for (let n = 0; n < 512; n++) {
    t.is(one!.mapped.get(BigInt(BASE + n * 0x1000)), pfns[n]! * 0x1000);
  }
  // One call for each physically contiguous run.
  let runs = 1;
  for (let n = 1; n < 512; n++) if (pfns[n] !== pfns[n - 1]! + 1) runs++;
  t.is(one!.mapCalls.length, runs + 1);
  t.is(client.destroy(first), 'OK');
  t.is(world.kernel.leftovers().pins, 512);
  t.is(client.unmap(ioas, BigInt(BASE), 0x200000n), 0x200000n);
  t.is(world.kernel.leftovers().pins, 1, 'the small area still has its page');
  t.is(client.destroy(second), 'OK');
  t.is(world.kernel.leftovers().pins, 0);
});

test('HUGE_PAGES off maps page by page', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const option = (values: Parameters<typeof iommu_option.encode>[0]): bigint | string => {
    const { result, out } = user.call(client.fd, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, {
      option_id: IOMMU_OPTION_HUGE_PAGES,
      object_id: ioas,
      ...values,
    });
    return result === 'OK' ? out.val64 : result;
  };
  t.is(option({ op: IOMMU_OPTION_OP_GET }), 1n);
  t.is(option({ op: IOMMU_OPTION_OP_SET, val64: 2n }), 'EINVAL');
  t.is(option({ op: 5 }), 'EOPNOTSUPP');
  t.is(option({ option_id: 9 }), 'EOPNOTSUPP');
  t.is(option({ object_id: 99 }), 'ENOENT');
  t.is(option({ __reserved: 1 }), 'EOPNOTSUPP');
  t.is(option({ op: IOMMU_OPTION_OP_SET, val64: 0n }), 0n);
  t.is(option({ op: IOMMU_OPTION_OP_GET }), 0n);
  const memory = user.map(0x8000);
  t.is(client.map(ioas, memory, 0x8000, BASE), 'OK');
  id(client.hwpt(device.id, ioas));
  t.deepEqual(
    domains(world)[0]!.mapCalls.map(({ bytes }) => bytes),
    Array(8).fill(0x1000),
  );
  t.is(option({ op: IOMMU_OPTION_OP_SET, val64: 1n }), 1n);
  t.is(option({ op: IOMMU_OPTION_OP_SET, val64: 0n }), 'EINVAL', 'areas are mapped in a domain');
});

test('EFAULT for memory that is not there or not writable, once a domain wants the pages', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const readOnly = user.map(0x2000, PROT_READ);
  const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
  t.is(client.map(ioas, readOnly, 0x2000, BASE, RW), 'OK');
  t.is(client.hwpt(device.id, ioas), 'EFAULT');
  t.is(client.unmap(ioas, 0n, ALL), 0x2000n);
  const hwpt = id(client.hwpt(device.id, ioas));
  t.is(client.map(ioas, readOnly, 0x2000, BASE, RW), 'EFAULT');
  t.is(client.map(ioas, 0x10000, 0x2000, BASE, RW), 'EFAULT');
  t.is(client.map(ioas, readOnly, 0x2000, BASE, IOMMU_IOAS_MAP_READABLE), 'OK');
  t.is(client.unmap(ioas, BigInt(BASE), 0x2000n), 0x2000n);
  t.is(client.destroy(hwpt), 'OK');
  t.is(world.kernel.leftovers().pins, 0);
});

test('alignment and aperture follow the domains', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const memory = user.map(0x4000);
  t.deepEqual(ranges(client, ioas, 4), {
    result: 'OK',
    list: [`0-${ALL.toString(16)}`],
    n: 1,
    alignment: 1n,
  });
  t.is(client.map(ioas, memory + 0x10, 0x7ff, BASE + 3), 'OK', 'any byte without a domain');
  t.is(client.hwpt(device.id, ioas), 'EADDRINUSE', 'the area is not page aligned');
  t.is(client.unmap(ioas, 0n, ALL), 0x7ffn);
  t.is(client.map(ioas, memory, 0x1000, 0x1000), 'OK');
  t.is(client.hwpt(device.id, ioas), 'EADDRINUSE', 'below the aperture');
  t.is(client.unmap(ioas, 0n, ALL), 0x1000n);
  const hwpt = id(client.hwpt(device.id, ioas));
  t.deepEqual(ranges(client, ioas, 4), {
    result: 'OK',
    list: ['1000000-7fffffff'],
    n: 1,
    alignment: 4096n,
  });
  t.is(client.map(ioas, memory, 0x800, BASE), 'EINVAL');
  t.is(client.map(ioas, memory, 0x1000, BASE + 0x800), 'EINVAL');
  t.is(client.map(ioas, memory + 0x800, 0x1000, BASE), 'EINVAL');
  t.is(client.map(ioas, memory, 0x1000, 0x1000), 'EINVAL', 'reserved: outside the aperture');
  t.is(device.attach(hwpt), hwpt);
  const split = ['1000000-7fedffff', '7fef0000-7fffffff'];
  t.deepEqual(ranges(client, ioas, 4), { result: 'OK', list: split, n: 2, alignment: 4096n });
  t.deepEqual(ranges(client, ioas, 1), {
    result: 'EMSGSIZE',
    list: split.slice(0, 1),
    n: 2,
    alignment: 4096n,
  });
  t.is(client.map(ioas, memory, 0x1000, 0x7fee_0000), 'EINVAL', 'reserved by the device');
  t.is(device.detach(), 'OK');
  t.is(ranges(client, ioas, 4).n, 1);
});

test('a device cannot be attached over what is mapped in its reserved ranges', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const memory = user.map(0x1000);
  t.is(client.map(ioas, memory, 0x1000, 0x7fee_0000), 'OK');
  t.is(device.attach(ioas), 'EADDRINUSE');
  t.is(world.kernel.leftovers().objects, 2, 'the auto-domain went too');
  t.is(client.unmap(ioas, 0n, ALL), 0x1000n);
  t.is(allow(client, ioas, [[0x7fed_0000n, 0x7fef_0000n]]), 'OK');
  t.is(device.attach(ioas), 'EADDRINUSE', 'the user wants to be able to');
  t.is(allow(client, ioas, []), 'OK');
  const hwpt = id(device.attach(ioas));
  t.is(allow(client, ioas, [[0x7fed_0000n, 0x7fef_0000n]]), 'EADDRINUSE');
  t.is(allow(client, ioas, [[0x5000n, 0x5000n]]), 'EINVAL');
  t.is(
    allow(client, ioas, [
      [0x1000_0000n, 0x2000_0000n],
      [0x1800_0000n, 0x2800_0000n],
    ]),
    'EINVAL',
  );
  t.true(hwpt > 0);
});

test('a failure while filling a second domain leaves the first whole', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  const memory = user.map(0x40000);
  id(client.hwpt(device.id, ioas));
  id(client.hwpt(device.id, ioas));
  let n = 1;
  for (; n < 100; n++) {
    world.kernel.failpoints.failNth(n, 'ENOMEM');
    const result = client.map(ioas, memory, 0x40000, BASE);
    if (world.kernel.failpoints.armed) break;
    t.is(result, 'ENOMEM');
    t.deepEqual(
      domains(world).map(({ mapped }) => mapped.size),
      [0, 0],
    );
    t.is(world.kernel.leftovers().pins, 0);
  }
  t.true(n > 5);
  world.kernel.failpoints.disarm();
  t.deepEqual(
    domains(world).map(({ mapped }) => mapped.size),
    [64, 64],
  );
});
