import test from 'ava';
import { COST } from '../../../../host/kernel/iommufd/cost.ts';
import type { Task } from '../../../../host/syscall.ts';
import { ERRNO } from '../../../../host/uapi/errno.ts';
import {
  IOMMU_HW_CAP_PCI_PASID_EXEC,
  IOMMU_HW_CAP_PCI_PASID_PRIV,
  IOMMU_HW_INFO_FLAG_INPUT_TYPE,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_SET,
  IOMMUFD_CMD,
  iommu_destroy,
  iommu_hw_info,
  iommu_hwpt_alloc,
  iommu_hwpt_invalidate,
  iommu_hwpt_vtd_s1_invalidate,
  iommu_option,
} from '../../../../host/uapi/iommufd.ts';
import {
  VFIO_DEVICE_CMD,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
} from '../../../../host/uapi/vfio.ts';
import { bound, Client, Device, id } from './client.ts';
import { MOCK_DATA_TYPE } from './mock-driver.ts';
import type { World } from './world.ts';
import { makeWorld } from './world.ts';

const PARENT = IOMMU_HWPT_ALLOC_NEST_PARENT;
const PASID = IOMMU_HWPT_ALLOC_PASID;
const FAULT = IOMMU_HWPT_FAULT_ID_VALID;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

interface Setup {
  readonly world: World;
  readonly client: Client;
  readonly device: Device;
  readonly ioas: number;
  /** Where the RID (0) or a PASID goes. */
  readonly at: (pasid: number) => string;
}

function setup(): Setup {
  const world = makeWorld();
  const user = world.user();
  const { client, device } = bound(user);
  const ioas = client.ioas();
  if (client.map(ioas, user.map(0x4000), 0x4000, 0x100_0000) !== 'OK') throw new Error('map');
  return { world, client, device, ioas, at: (pasid) => world.driver.at(world.devs[0]!, pasid) };
}

test('HWPT_ALLOC refuses in the order of the kernel', (t) => {
  const { client, device, ioas } = setup();
  const alloc = (values: Parameters<typeof iommu_hwpt_alloc.encode>[0]): string =>
    client.user.refused(client.fd, IOMMUFD_CMD.IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, {
      dev_id: device.id,
      pt_id: ioas,
      ...values,
    });
  t.is(alloc({ __reserved: 1 }), 'EOPNOTSUPP');
  t.is(alloc({ data_len: 8 }), 'EINVAL');
  t.is(alloc({ data_type: 1 }), 'EINVAL');
  t.is(alloc({ dev_id: ioas }), 'ENOENT', 'an IOAS is no device');
  t.is(alloc({ pt_id: 99 }), 'EINVAL', 'not ENOENT');
  t.is(alloc({ pt_id: device.id }), 'EINVAL');
  t.is(alloc({ flags: 16 }), 'EOPNOTSUPP');
  t.is(alloc({ flags: IOMMU_HWPT_ALLOC_DIRTY_TRACKING }), 'EOPNOTSUPP');
  t.is(alloc({ flags: FAULT | PARENT }), 'EOPNOTSUPP');
  t.is(alloc({ flags: FAULT, fault_id: 99 }), 'ENOENT');
  t.is(alloc({ flags: FAULT, fault_id: ioas }), 'ENOENT');
  t.is(alloc({ size: 23 }), 'EINVAL');
  t.is(alloc({ size: 24, __reserved2: 7 }), 'OK', 'the first version of the structure');
  t.is(alloc({ __reserved2: 7 }), 'OK', 'not checked');
});

test('nested HWPTs: parents, flags, data', (t) => {
  const { client, device, ioas, world } = setup();
  const plain = id(client.hwpt(device.id, ioas, PASID));
  const parent = id(client.hwpt(device.id, ioas, PARENT | PASID));
  const objects = world.kernel.leftovers().objects;
  t.is(client.hwpt(device.id, parent, PASID), 'EOPNOTSUPP', 'no data');
  t.is(client.nested(device.id, parent, PARENT), 'EOPNOTSUPP');
  t.is(client.nested(device.id, plain, PASID), 'EINVAL', 'not a nest parent');
  t.is(client.nested(device.id, parent, PASID, { type: 77 }), 'EOPNOTSUPP');
  t.is(client.nested(device.id, parent, PASID, { length: 20 }), 'EINVAL');
  t.is(client.nested(device.id, parent, PASID, { length: 0x7fff_ffff }), 'EINVAL');
  t.is(client.nested(device.id, parent, FAULT, { fault: 99 }), 'ENOENT');
  t.is(world.kernel.leftovers().objects, objects);
  t.is(world.driver.live.size, 2);
  const nested = id(client.nested(device.id, parent, PASID, { type: MOCK_DATA_TYPE }));
  t.is(client.nested(device.id, nested, PASID), 'EINVAL', 'nested on nested');
  t.is(client.destroy(parent), 'EBUSY');
  const auto = id(device.attach(ioas));
  t.is(auto > 0 && client.nested(device.id, auto, PASID), 'EINVAL', 'an auto-domain');
  t.is(client.destroy(nested), 'OK');
  t.is(client.destroy(parent), 'OK');
});

test('the PASID contract, step by step (iommufd_device_pasid.pasid_attach)', (t) => {
  const { world, client, device, ioas, at } = setup();
  id(device.attach(ioas));
  t.is(device.detachPasid(100), 'OK', 'never attached');
  const parent = id(client.hwpt(device.id, ioas, PARENT));
  const s2 = id(client.hwpt(device.id, ioas, PASID));
  const nested0 = id(client.nested(device.id, parent, PASID));
  const nested1 = id(client.nested(device.id, parent, PASID));
  const label = (hwpt: number): string => ({ [s2]: 'paging#3', [nested0]: 'nested#4' })[hwpt]!;

  t.is(device.attach(parent), parent);
  t.is(device.attachPasid(100, s2), 'EINVAL', "the RID's HWPT has no PASID flag");
  t.is(device.attach(s2), s2);
  t.is(device.attachPasid(100, nested0), nested0);
  t.is(at(100), label(nested0));
  t.is(device.attach(parent), 'EINVAL', 'a PASID is in use');
  t.is(at(0), label(s2));
  t.is(device.detachPasid(100), 'OK');
  t.is(at(100), 'none');
  t.is(device.attachPasid(100, parent), 'EINVAL');
  t.is(device.attachPasid(100, ioas), 'EINVAL', 'an auto-domain has no PASID flag');
  t.is(at(100), 'none');
  t.is(device.attachPasid(100, s2), s2);
  t.is(device.attachPasid(100, ioas), 'EINVAL');
  t.is(at(100), label(s2), 's2 stays');
  t.is(device.attachPasid(100, nested0), nested0, 'what is attached is replaced');
  t.is(at(100), label(nested0));
  t.is(device.attachPasid(100, nested0), nested0, 'the same again does nothing');
  t.is(client.destroy(nested0), 'EBUSY');
  t.is(device.attachPasid(100, nested1), nested1);
  t.is(client.destroy(nested0), 'OK');
  t.is(device.detachPasid(100), 'OK');

  t.is(device.attachPasid(1024, s2), s2);
  world.kernel.failpoints.failAt('mock:after');
  t.is(device.attachPasid(1024, nested1), 'ENOMEM');
  t.is(at(1024), label(s2), 'the old attachment is whole');
  t.is(client.destroy(nested1), 'OK', 'nobody holds it');
  t.is(device.detachPasid(1024), 'OK');

  t.is(device.attachPasid(1 << 20, s2), 'EINVAL', 'beyond max_pasids');
  t.is(device.attachPasid(2 ** 31, s2), 'ENOSPC');
  t.is(device.attachPasid(5, 99), 'ENOENT');
  t.is(device.attachPasid(5, device.id), 'EINVAL', 'no page table');
  t.is(device.attachPasid(0, s2), 'EBUSY', 'PASID 0 is the RID');
  t.is(typeof device.attach(ioas), 'number');
});

test('attach of a PASID while the RID is not attached', (t) => {
  const { client, device, ioas, at } = setup();
  const s2 = id(client.hwpt(device.id, ioas, PASID));
  t.is(device.attachPasid(7, s2), s2);
  t.is(at(7), 'paging#1');
  t.is(device.attach(ioas), 'EINVAL', 'an auto-domain cannot be beside a PASID');
  t.is(client.destroy(s2), 'EBUSY');
  t.is(device.detachPasid(7), 'OK');
  t.is(client.destroy(s2), 'OK');
});

test('auto-domains: one per IOAS, shared, and gone with the last attachment', (t) => {
  const world = makeWorld({ functions: [{}, {}] });
  const user = world.user();
  const client = new Client(user);
  const [one, two] = [new Device(user, 0), new Device(user, 1)];
  t.is(one.bind(client.fd), 'OK');
  t.is(two.bind(client.fd), 'OK');
  const ioas = client.ioas();
  const other = client.ioas();
  const auto = id(one.attach(ioas));
  t.is(two.attach(ioas), auto);
  t.is(one.attach(ioas), auto, 'replaced by itself');
  const second = id(one.attach(other));
  t.not(second, auto);
  t.is(client.destroy(auto), 'EBUSY');
  t.is(two.attach(other), second);
  t.is(client.destroy(auto), 'ENOENT', 'it went with its last attachment');
  t.is(one.detach(), 'OK');
  t.is(one.detach(), 'OK');
  t.is(two.detach(), 'OK');
  t.is(client.destroy(second), 'ENOENT');
  t.is(client.destroy(other), 'OK');
  t.is(client.destroy(ioas), 'OK');
  t.is(world.driver.live.size, 0);
});

test('explicit HWPTs survive, and a device follows them', (t) => {
  const { client, device, ioas, at } = setup();
  const hwpt = id(client.hwpt(device.id, ioas));
  t.is(device.attach(99), 'ENOENT');
  t.is(device.attach(hwpt), hwpt);
  t.is(at(0), 'paging#1');
  t.is(client.destroy(hwpt), 'EBUSY');
  t.is(device.detach(), 'OK');
  t.is(at(0), 'blocked#0');
  t.is(client.destroy(hwpt), 'OK');
});

test('every failure point of nested alloc, attach and replace leaves the old state whole', (t) => {
  const { world, client, device, ioas, at } = setup();
  const parent = id(client.hwpt(device.id, ioas, PARENT | PASID));
  t.is(device.attach(parent), parent);
  const before = id(client.nested(device.id, parent, PASID));
  t.is(device.attachPasid(9, before), before);
  const state = (): object => ({
    ...world.kernel.leftovers(),
    domains: world.driver.live.size,
    rid: at(0),
    nine: at(9),
    ten: at(10),
  });
  const { failpoints } = world.kernel;
  const old = state();
  const steps: readonly (() => string | number)[] = [
    () => client.nested(device.id, parent, PASID),
    () => device.attachPasid(10, before),
    () => device.attachPasid(9, parent),
    () => device.attach(before),
    () => device.attach(ioas),
  ];
  const points = steps.map((step, index) => {
    // Attaching the RID to an IOAS is only allowed once no PASID is attached.
    if (index === 4) t.is(device.detachPasid(9), 'OK');
    const base = index === 4 ? state() : old;
    for (let n = 1; n < 60; n++) {
      failpoints.failNth(n, 'ENOMEM');
      const result = step();
      const { armed } = failpoints;
      const lost = index > 0 && failpoints.passed.at(-1) === 'copy_to_user';
      failpoints.disarm();
      if (lost && !armed) {
        // VFIO takes the RID back when its answer is lost, whatever was attached, as upstream.
        t.is(at(0), 'blocked#0');
        if (index === 1) t.is(device.detachPasid(10), 'OK');
        if (index === 2) t.is(device.attachPasid(9, before), before);
        t.is(device.attach(parent), parent);
        t.deepEqual(state(), base, `step ${index}, the answer lost`);
        continue;
      }
      if (armed) {
        t.is(typeof result, 'number', `step ${index} succeeds`);
        if (index === 0) t.is(client.destroy(result as number), 'OK');
        if (index === 1) t.is(device.detachPasid(10), 'OK');
        if (index === 2) t.is(device.attachPasid(9, before), before);
        if (index === 3) t.is(device.attach(parent), parent);
        if (index < 4) t.deepEqual(state(), old);
        return n - 1;
      }
      t.is(result, 'ENOMEM', `step ${index}, point ${n}`);
      t.deepEqual(state(), base, `step ${index}, point ${n}`);
    }
    return 0;
  });
  for (const [index, n] of points.entries()) t.true(n >= 4, `step ${index} has ${n} points`);
  client.user.process.kill();
  world.settle();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
  t.is(world.driver.live.size, 0);
});

test('GET_HW_INFO: length rules, types, capabilities', (t) => {
  const { client, device } = setup();
  const { user, fd, payload } = client;
  const info = (
    values: Parameters<typeof iommu_hw_info.encode>[0],
  ): { result: string; out: ReturnType<typeof iommu_hw_info.read> } =>
    user.call(fd, IOMMUFD_CMD.IOMMU_GET_HW_INFO, iommu_hw_info, {
      dev_id: device.id,
      data_uptr: BigInt(payload),
      ...values,
    });
  t.is(info({ flags: 2 }).result, 'EOPNOTSUPP');
  t.is(info({ __reserved: [0, 1, 0] }).result, 'EOPNOTSUPP');
  t.is(info({ dev_id: 99 }).result, 'ENOENT');
  t.is(info({ flags: IOMMU_HW_INFO_FLAG_INPUT_TYPE, out_data_type: 5 }).result, 'EOPNOTSUPP');
  t.is(info({ out_data_type: 5 }).result, 'OK', 'without the flag it is not an input');
  t.is(info({ size: 32 }).result, 'OK');
  user.write(payload, new Uint8Array(64).fill(0xee));
  const short = info({ data_len: 4 });
  t.is(short.out.data_len, 24);
  t.deepEqual([...user.read(payload, 6)], [1, 2, 3, 4, 0xee, 0xee]);
  const long = info({ data_len: 40 });
  t.is(long.out.data_len, 24);
  t.deepEqual([...user.read(payload + 22, 20)], [23, 24, ...Array<number>(16).fill(0), 0xee, 0xee]);
  t.is(long.out.out_max_pasid_log2, 20);
  t.is(long.out.out_data_type, 1);
  const pasid = IOMMU_HW_CAP_PCI_PASID_EXEC | IOMMU_HW_CAP_PCI_PASID_PRIV;
  t.is(long.out.out_capabilities, BigInt(pasid));
  t.is(info({ data_len: 4, data_uptr: 8n }).result, 'EFAULT');
});

test('HWPT_INVALIDATE: progress is always reported', (t) => {
  const { world, client, device, ioas } = setup();
  const parent = id(client.hwpt(device.id, ioas, PARENT | PASID));
  const nested = id(client.nested(device.id, parent, PASID));
  const { user, fd, payload } = client;
  const entry = iommu_hwpt_vtd_s1_invalidate;
  const invalidate = (
    values: Parameters<typeof iommu_hwpt_invalidate.encode>[0],
  ): [string, number] => {
    const { result, out } = user.call(
      fd,
      IOMMUFD_CMD.IOMMU_HWPT_INVALIDATE,
      iommu_hwpt_invalidate,
      {
        hwpt_id: nested,
        data_uptr: BigInt(payload),
        entry_len: entry.size,
        ...values,
      },
    );
    return [result, out.entry_num];
  };
  [0x1000n, 0x2000n, 0x2001n].forEach((addr, n) =>
    user.write(payload + n * entry.size, entry.encode({ addr, npages: 1n })),
  );
  t.deepEqual(invalidate({ entry_num: 2 }), ['OK', 2]);
  t.deepEqual(world.driver.invalidated, [0x1000n, 0x2000n]);
  t.deepEqual(invalidate({ entry_num: 3 }), ['EINVAL', 2], 'the third is misaligned');
  t.deepEqual(invalidate({ entry_num: 0, data_uptr: 0n, entry_len: 0 }), ['OK', 0]);
  t.deepEqual(invalidate({ entry_num: 0, data_type: 9 }), ['EINVAL', 0]);
  t.deepEqual(invalidate({ entry_num: 2, __reserved: 1 }), ['EOPNOTSUPP', 0]);
  t.deepEqual(invalidate({ entry_num: 2, data_uptr: 0n }), ['EINVAL', 0]);
  t.deepEqual(invalidate({ entry_num: 2, entry_len: 0 }), ['EINVAL', 0]);
  t.deepEqual(invalidate({ entry_num: 2, entry_len: 12 }), ['EINVAL', 0]);
  t.deepEqual(invalidate({ entry_num: 2, entry_len: 32 }), ['EINVAL', 0]);
  t.deepEqual(invalidate({ entry_num: 2, data_uptr: 8n }), ['EFAULT', 0]);
  t.deepEqual(invalidate({ entry_num: 2, hwpt_id: 99 }), ['ENOENT', 0]);
  t.deepEqual(invalidate({ entry_num: 2, hwpt_id: parent }), ['EINVAL', 0]);
});

test('the trace names objects, ioctls and arguments', (t) => {
  const { world, device, client, ioas } = setup();
  const s2 = id(client.hwpt(device.id, ioas, PASID));
  t.is(device.attachPasid(3, s2), s2);
  t.is(device.attachPasid(4, 99), 'ENOENT');
  const texts = world.events.map(
    ({ def, values }) =>
      `${def.name} ${JSON.stringify(values, (_, v: unknown) => (typeof v === 'bigint' ? Number(v) : v))}`,
  );
  const has = (text: string): boolean => texts.some((line) => line.includes(text));
  t.true(has(`"name":"IOMMU_HWPT_ALLOC","args":"flags=PASID dev_id=${device.id} pt_id=${ioas}"`));
  t.true(has(`"name":"VFIO_DEVICE_ATTACH_IOMMUFD_PT","args":"flags=PASID pt_id=${s2} pasid=3"`));
  t.true(has('"result":"-ENOENT","out":"","reason":"no object has id 99"'));
  t.true(
    has(
      `iommufd:object_new {"pid":1,"id":${s2},"type":"HWPT_PAGING","parent":${ioas},"detail":"of IOAS ${ioas} PASID"}`,
    ),
  );
  t.true(has(`"result":"0","out":"out_hwpt_id=${s2}"`));
  t.true(has('iommufd:pin_user_pages'));
});

/** Starts ioctls, each with its own argument, and gives their results when all are done. */
function together(
  { world, client }: Setup,
  calls: readonly (readonly [fd: number, request: number, argument: Uint8Array, delay?: number])[],
): number[] {
  const { user } = client;
  const threads = calls.map(([fd, request, argument, delay = 0], n) => {
    const address = user.scratch + 0x3000 + 0x100 * n;
    user.write(address, argument);
    function* call(): Task<number> {
      yield delay;
      return yield* user.process.ioctl(fd, request, address);
    }
    return world.machine.scheduler.spawn('test', call());
  });
  world.settle();
  return threads.map(({ result }) => result ?? NaN);
}

test('an auto-domain that is being attached cannot be destroyed', (t) => {
  const world = makeWorld({ functions: [{}, {}] });
  const user = world.user();
  const { client, device } = bound(user);
  const second = new Device(user, 1);
  t.is(second.bind(client.fd), 'OK');
  const ioas = client.ioas();
  const auto = id(device.attach(ioas));
  const setup: Setup = { world, client, device, ioas, at: () => '' };
  // The first device lets go of it while the second is on its way to it.
  const results = together(setup, [
    [
      second.fd,
      VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT,
      vfio_device_attach_iommufd_pt.encode({ argsz: 16, pt_id: ioas }),
    ],
    [
      device.fd,
      VFIO_DEVICE_CMD.VFIO_DEVICE_DETACH_IOMMUFD_PT,
      vfio_device_detach_iommufd_pt.encode({ argsz: 12 }),
    ],
    [client.fd, IOMMUFD_CMD.IOMMU_DESTROY, iommu_destroy.encode({ size: 8, id: auto })],
  ]);
  t.deepEqual(results, [0, 0, -ERRNO.EBUSY]);
  t.is(world.driver.at(world.devs[1]!, 0), 'paging#1');
  t.is(world.driver.live.size, 1);
  user.process.kill();
  world.settle();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('HUGE_PAGES waits for a domain that is being filled', (t) => {
  const made = setup();
  const { client, device, ioas } = made;
  const option = {
    size: 24,
    option_id: IOMMU_OPTION_HUGE_PAGES,
    op: IOMMU_OPTION_OP_SET,
    object_id: ioas,
  };
  const results = together(made, [
    [
      client.fd,
      IOMMUFD_CMD.IOMMU_HWPT_ALLOC,
      iommu_hwpt_alloc.encode({ size: 48, dev_id: device.id, pt_id: ioas }),
    ],
    [client.fd, IOMMUFD_CMD.IOMMU_OPTION, iommu_option.encode(option), COST.IOCTL + 5],
  ]);
  t.deepEqual(results, [0, -ERRNO.EINVAL], 'what is mapped would change');
});

test('a device that is being bound keeps the context', (t) => {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  const ioas = client.ioas();
  const device = new Device(user);
  const group = world.kernel.iommu.groupOf(world.devs[0]!);
  world.run(group.mutex.lock());
  user.write(user.scratch, vfio_device_bind_iommufd.encode({ argsz: 16, iommufd: client.fd }));
  const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_BIND_IOMMUFD;
  const bind = world.machine.scheduler.spawn(
    'bind',
    user.process.ioctl(device.fd, cmd, user.scratch),
  );
  world.settle();
  t.is(user.close(client.fd), 0);
  group.mutex.unlock();
  world.settle();
  t.is(bind.result, 0);
  t.is(typeof device.attach(ioas), 'number');
  t.is(user.close(device.fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});
