import test from 'ava';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  IOMMUFD_CMD,
  iommu_destroy,
  iommu_ioas_alloc,
  iommu_ioas_allow_iovas,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_ioas_map,
  iommu_iova_range,
  iommu_option,
} from '../../../../host/uapi/iommufd.ts';
import { PROT_READ } from '../../../../host/uapi/poll.ts';
import { bound, Client, id } from './client.ts';
import { MockDomain } from './mock-driver.ts';
import type { User, World } from './world.ts';
import { makeWorld } from './world.ts';

const ALL = 0xffff_ffff_ffff_ffffn;
const BASE = 0x100_0000;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

const domains = (world: World): MockDomain[] => [...world.driver.live] as MockDomain[];

function ranges(
  client: Client,
  ioas: number,
  room: number,
): { result: string; list: string[]; n: number; alignment: bigint } {
  const { user, fd, payload } = client;
  user.write(payload, new Uint8Array(0x100).fill(0xee));
  const { result, out } = user.call(
    fd,
    IOMMUFD_CMD.IOMMU_IOAS_IOVA_RANGES,
    iommu_ioas_iova_ranges,
    { ioas_id: ioas, num_iovas: room, allowed_iovas: BigInt(payload) },
  );
  const view = new DataView(user.read(payload, 0x100).buffer);
  const list: string[] = [];
  for (let n = 0; n < Math.min(room, out.num_iovas); n++) {
    const { start, last } = iommu_iova_range.read(view, n * iommu_iova_range.size);
    list.push(`${start.toString(16)}-${last.toString(16)}`);
  }
  const beyond = view.getUint8(list.length * iommu_iova_range.size);
  if (beyond !== 0xee) throw new Error('written beyond the array');
  return { result, list, n: out.num_iovas, alignment: out.out_iova_alignment };
}

function allow(client: Client, ioas: number, list: readonly (readonly [bigint, bigint])[]): string {
  const { user, fd, payload } = client;
  list.forEach(([start, last], n) =>
    user.write(payload + n * 16, iommu_iova_range.encode({ start, last })),
  );
  return user.refused(fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, {
    ioas_id: ioas,
    num_iovas: list.length,
    allowed_iovas: BigInt(payload),
  });
}

function copy(
  client: Client,
  values: { dst: number; src: number; length: bigint; from: bigint; to?: bigint; flags?: number },
): bigint | string {
  const fixed = values.to === undefined ? 0 : IOMMU_IOAS_MAP_FIXED_IOVA;
  const { result, out } = client.user.call(
    client.fd,
    IOMMUFD_CMD.IOMMU_IOAS_COPY,
    iommu_ioas_copy,
    {
      flags: fixed | (values.flags ?? IOMMU_IOAS_MAP_READABLE),
      dst_ioas_id: values.dst,
      src_ioas_id: values.src,
      length: values.length,
      dst_iova: values.to ?? 0n,
      src_iova: values.from,
    },
  );
  return result === 'OK' ? out.dst_iova : result;
}

function setup(): { world: World; user: User; client: Client; ioas: number } {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  return { world, user, client, ioas: client.ioas() };
}

test('the size rules of 1.1, in their order', (t) => {
  const { user, client } = setup();
  const { fd } = client;
  const alloc = IOMMUFD_CMD.IOMMU_IOAS_ALLOC;
  const sized = (size: number, extra: number[]): Uint8Array => {
    const bytes = new Uint8Array(12 + extra.length);
    bytes.set(iommu_ioas_alloc.encode({ size }));
    bytes.set(extra, 12);
    return bytes;
  };
  t.is(user.raw(fd, alloc, sized(11, [])), 'EINVAL');
  t.is(user.raw(fd, alloc, sized(13, [1])), 'E2BIG');
  t.is(user.raw(fd, alloc, sized(13, [0])), 'OK');
  t.is(user.raw(fd, 0x13b88, sized(12, [])), 'ENOTTY', 'a number with another type');
  t.is(user.raw(fd, 0x3ba0, sized(12, [])), 'ENOTTY');
  t.is(user.raw(fd, 0x3b7f, sized(12, [])), 'ENOTTY');
  const bad = user.run(user.process.ioctl(fd, alloc, 0));
  t.is(bad, -14);
  t.is(user.run(user.process.ioctl(fd, 0x1234, 0)), -25, 'a foreign number is ENOTTY unread');
  t.is(user.refused(fd, IOMMUFD_CMD.IOMMU_DESTROY, iommu_destroy, { size: 7, id: 1 }), 'EINVAL');
});

test('ids are the lowest free ones from 1, and DESTROY frees them', (t) => {
  const { user, client, ioas } = setup();
  t.is(ioas, 1);
  t.is(client.ioas(), 2);
  t.is(client.destroy(1), 'OK');
  t.is(client.destroy(1), 'ENOENT');
  t.is(client.ioas(), 1);
  t.is(client.ioas(), 3);
  const flags = user.refused(client.fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOC, iommu_ioas_alloc, {
    flags: 1,
  });
  t.is(flags, 'EOPNOTSUPP');
});

test('an object whose reply cannot be copied is undone', (t) => {
  const { world, user, client } = setup();
  world.kernel.failpoints.failAt('copy_to_user');
  const { fd } = client;
  t.is(user.refused(fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOC, iommu_ioas_alloc, {}), 'EFAULT');
  t.is(world.kernel.leftovers().objects, 1);
  t.is(client.ioas(), 2);
});

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

test('closing the file frees everything, also while the process dies with it', (t) => {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  t.is(client.map(ioas, user.map(0x4000), 0x4000, BASE), 'OK');
  id(device.attach(ioas));
  t.is(client.destroy(ioas), 'EBUSY');
  t.is(client.destroy(device.id), 'EBUSY');
  t.is(user.close(client.fd), 0);
  t.is(world.kernel.leftovers().objects, 3, 'the bound device keeps the context');
  t.is(user.close(device.fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
  t.is(world.driver.live.size, 0);
  const second = world.user();
  const again = bound(second);
  const other = again.client.ioas();
  t.is(again.client.map(other, second.map(0x4000), 0x4000, BASE), 'OK');
  id(again.device.attach(other));
  second.process.kill();
  world.settle();
  t.true(second.process.gone);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
  t.is(world.driver.live.size, 0);
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
