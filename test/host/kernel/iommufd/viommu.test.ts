/** vIOMMUs, vDEVICEs, event queues and hardware queues, on the selftest's IOMMU. */
import test from 'ava';
import { errnoName } from '../../../../host/uapi/errno.ts';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
  IOMMUFD_CMD,
  iommu_hw_queue_alloc,
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_set_dirty_tracking,
  iommu_vdevice_alloc,
  iommu_veventq_alloc,
  iommu_viommu_alloc,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ } from '../../../../host/uapi/poll.ts';
import type { Values } from '../../../../host/uapi/struct.ts';
import { BASE, type MockWorld, makeMockWorld, NOTHING, type Tester } from '../mock/world.ts';
import { type IdOrError, id } from './client.ts';

const C = IOMMUFD_CMD;
const ALL = 0xffff_ffff_ffff_ffffn;

interface Setup {
  readonly world: MockWorld;
  readonly tester: Tester;
  readonly ioas: number;
  readonly idev: number;
  readonly stdev: number;
  readonly parent: number;
}

function setup(): Setup {
  const world = makeMockWorld();
  const tester = world.tester();
  const ioas = tester.ioas();
  const { idev, stdev } = tester.mock(ioas);
  const parent = id(tester.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT));
  return { world, tester, ioas, idev, stdev, parent };
}

function viommu(
  { tester, idev, parent }: Setup,
  values: Partial<Values<typeof iommu_viommu_alloc.fields>> = {},
): IdOrError {
  const { result, out } = tester.user.call(tester.fd, C.IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, {
    type: IOMMU_VIOMMU_TYPE_SELFTEST,
    dev_id: idev,
    hwpt_id: parent,
    ...values,
  });
  return result === 'OK' ? out.out_viommu_id : result;
}

function vdevice({ tester, idev }: Setup, viommu_id: number, virt_id: bigint): IdOrError {
  const values = { viommu_id, dev_id: idev, virt_id };
  const { user, fd } = tester;
  const { result, out } = user.call(fd, C.IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, values);
  return result === 'OK' ? out.out_vdevice_id : result;
}

function veventq(
  { tester }: Setup,
  values: Partial<Values<typeof iommu_veventq_alloc.fields>>,
): { id: number; fd: number } | string {
  const { result, out } = tester.user.call(tester.fd, C.IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, {
    type: IOMMU_VEVENTQ_TYPE_SELFTEST,
    veventq_depth: 2,
    ...values,
  });
  return result === 'OK' ? { id: out.out_veventq_id, fd: out.out_veventq_fd } : result;
}

const trigger = ({ tester, idev }: Setup): string =>
  tester.does(uapi.IOMMU_TEST_OP_TRIGGER_VEVENT, uapi.iommu_test_trigger_vevent, { dev_id: idev });

function closeAll({ world, tester }: Setup): typeof NOTHING {
  tester.close();
  return world.kernel.leftovers();
}

test('VIOMMU_ALLOC and its refusals, in order', (t) => {
  const s = setup();
  t.is(viommu(s, { flags: 1, dev_id: 99 }), 'EOPNOTSUPP');
  t.is(viommu(s, { type: 0, dev_id: 99 }), 'EOPNOTSUPP');
  t.is(viommu(s, { dev_id: 99 }), 'ENOENT');
  t.is(viommu(s, { type: 1, hwpt_id: 99 }), 'EOPNOTSUPP');
  t.is(viommu(s, { hwpt_id: s.ioas }), 'ENOENT');
  const plain = id(s.tester.hwpt(s.idev, s.ioas));
  t.is(viommu(s, { hwpt_id: plain }), 'EINVAL');
  const made = id(viommu(s));
  t.is(s.tester.destroy(s.parent), 'EBUSY');
  const device = id(vdevice(s, made, 0x10n));
  t.is(vdevice(s, 99, 0x11n), 'ENOENT');
  t.is(vdevice(s, made, 0x11n), 'EEXIST');
  t.is(s.tester.destroy(made), 'EBUSY');
  t.is(s.tester.destroy(device), 'OK');
  t.is(s.tester.destroy(made), 'OK');
  t.is(s.tester.destroy(s.parent), 'OK');
  t.deepEqual(closeAll(s), NOTHING);
});

test('a nested HWPT through a vIOMMU holds it, and the device needs a vDEVICE', (t) => {
  const s = setup();
  const { tester } = s;
  const made = id(viommu(s));
  t.is(tester.mockNested(s.idev, made, IOMMU_HWPT_ALLOC_NEST_PARENT), 'EOPNOTSUPP');
  const nested = id(tester.mockNested(s.idev, made));
  t.is(tester.destroy(made), 'EBUSY');
  t.is(tester.replace(s.stdev, nested), 'ENOENT');
  id(vdevice(s, made, 0x10n));
  t.is(tester.replace(s.stdev, nested), nested);
  t.is(tester.replace(s.stdev, s.ioas) === nested, false);
  t.is(tester.destroy(nested), 'OK');
  t.deepEqual(closeAll(s), NOTHING);
});

test('a vDEVICE goes with its device and leaves a tombstone: its id is never given again', (t) => {
  const s = setup();
  const { tester } = s;
  const made = id(viommu(s));
  const device = id(vdevice(s, made, 0x10n));
  t.is(tester.destroy(s.stdev), 'OK');
  t.is(tester.destroy(device), 'ENOENT');
  const ids = Array.from({ length: 8 }, () => tester.ioas());
  t.false(ids.includes(device));
  t.is(tester.destroy(made), 'OK');
  t.deepEqual(closeAll(s), NOTHING);
});

test('events: sequence numbers, lost events, and queues that are not there', (t) => {
  const s = setup();
  const { tester } = s;
  const { user } = tester;
  const made = id(viommu(s));
  id(vdevice(s, made, 0x10n));
  const nested = id(tester.mockNested(s.idev, made));
  tester.replace(s.stdev, nested);
  t.is(trigger(s), 'EOPNOTSUPP');
  t.is(veventq(s, { viommu_id: made, flags: 1 }), 'EOPNOTSUPP');
  t.is(veventq(s, { viommu_id: made, type: 0 }), 'EOPNOTSUPP');
  t.is(veventq(s, { viommu_id: made, veventq_depth: 0 }), 'EINVAL');
  t.is(veventq(s, { viommu_id: made, veventq_depth: (1 << 19) + 1 }), 'EINVAL');
  t.is(veventq(s, { viommu_id: s.parent }), 'ENOENT');
  const queue = veventq(s, { viommu_id: made });
  if (typeof queue === 'string') throw new Error(queue);
  t.is(veventq(s, { viommu_id: made }), 'EEXIST');
  const read = (bytes: number): number[][] => {
    const count = user.run(user.process.read(queue.fd, tester.payload, bytes));
    const view = new DataView(user.read(tester.payload, count).buffer);
    const events: number[][] = [];
    for (let at = 0; at < count; ) {
      const lost = view.getUint32(at, true) === 1;
      const event = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      if (!lost) event.push(view.getUint32(at + 8, true));
      events.push(event);
      at += lost ? 8 : 12;
    }
    return events;
  };
  const readError = (bytes: number): string =>
    errnoName(user.run(user.process.read(queue.fd, tester.payload, bytes)));
  t.deepEqual(read(64), []);
  t.deepEqual(read(8), []);
  t.is(readError(0), 'EINVAL');
  t.is(readError(7), 'EINVAL', 'no room for a header');
  t.is(trigger(s), 'OK');
  t.is(readError(11), 'EINVAL', 'no part of an event');
  t.deepEqual(read(64), [[0, 0, 0x10]]);
  for (let n = 0; n < 4; n++) t.is(trigger(s), 'OK');
  t.deepEqual(read(24), [
    [0, 1, 0x10],
    [0, 2, 0x10],
  ]);
  t.deepEqual(read(64), [[1, 4]]);
  t.is(trigger(s), 'OK');
  t.deepEqual(read(64), [[0, 5, 0x10]]);
  t.is(tester.destroy(queue.id), 'EBUSY');
  t.is(user.close(queue.fd), 0);
  t.is(tester.destroy(queue.id), 'OK');
  t.deepEqual(closeAll(s), NOTHING);
});

test('a hardware queue keeps its memory mapped', (t) => {
  const s = setup();
  const { tester } = s;
  const memory = tester.user.map(0x4000);
  t.is(tester.map(s.ioas, memory, 0x1000, BASE), 'OK');
  const made = id(viommu(s));
  const queue = (values: Partial<Values<typeof iommu_hw_queue_alloc.fields>>): IdOrError => {
    const struct = iommu_hw_queue_alloc;
    const { result, out } = tester.user.call(tester.fd, C.IOMMU_HW_QUEUE_ALLOC, struct, {
      viommu_id: made,
      type: IOMMU_HW_QUEUE_TYPE_SELFTEST,
      nesting_parent_iova: BigInt(BASE),
      length: 0x800n,
      ...values,
    });
    return result === 'OK' ? out.out_hw_queue_id : result;
  };
  t.is(queue({ flags: 1 }), 'EOPNOTSUPP');
  t.is(queue({ type: 0 }), 'EOPNOTSUPP');
  t.is(queue({ length: 0n }), 'EINVAL');
  t.is(queue({ length: ALL }), 'EOVERFLOW');
  t.is(queue({ viommu_id: s.parent }), 'ENOENT');
  t.is(queue({ type: 1 }), 'EOPNOTSUPP');
  t.is(queue({ nesting_parent_iova: 0x5000_0000n }), 'ENOENT');
  t.is(queue({ index: 1 }), 'EIO');
  const first = id(queue({}));
  t.is(queue({}), 'EEXIST');
  t.is(tester.unmap(s.ioas, BigInt(BASE), 0x1000n), 'EBUSY');
  const second = id(queue({ index: 1 }));
  t.is(tester.destroy(first), 'EBUSY', 'the second depends on it');
  t.is(tester.destroy(second), 'OK');
  t.is(tester.destroy(first), 'OK');
  t.is(tester.unmap(s.ioas, BigInt(BASE), 0x1000n), 0x1000n);
  t.deepEqual(closeAll(s), NOTHING);
});

test('memory of a vIOMMU is mapped whole, shared and not executable, and keeps it', (t) => {
  const s = setup();
  const { user, fd, payload } = s.tester;
  const struct = uapi.iommu_viommu_selftest;
  user.write(payload, struct.encode({ in_data: 0xbeef }));
  const made = id(viommu(s, { data_len: struct.size, data_uptr: BigInt(payload) }));
  const out = struct.read(new DataView(user.read(payload, struct.size).buffer));
  t.is(out.out_data, 0xbeef);
  const [offset, bytes] = [Number(out.out_mmap_offset), Number(out.out_mmap_length)];
  const mmap = (length: number, prot: number, flags: number): number =>
    user.run(user.process.mmap(length, prot, flags, fd, offset));
  t.is(mmap(bytes, PROT_READ, MAP_PRIVATE), -22);
  t.is(mmap(bytes, PROT_READ | PROT_EXEC, MAP_SHARED), -1);
  t.is(mmap(bytes / 2, PROT_READ, MAP_SHARED), -6);
  const at = mmap(bytes, PROT_READ, MAP_SHARED);
  t.is(new DataView(user.read(at, 4).buffer).getUint32(0, true), 0xbeef);
  t.is(s.tester.destroy(made), 'EBUSY');
  t.is(user.run(user.process.munmap(at, bytes)), 0);
  t.is(s.tester.destroy(made), 'OK');
  t.deepEqual(closeAll(s), NOTHING);
});

test('the dirty bitmap may be at any byte; it is only ever added to', (t) => {
  const s = setup();
  const { tester, ioas, idev } = s;
  const { user, fd } = tester;
  const memory = user.map(0x10000);
  t.is(tester.map(ioas, memory, 0x10000, BASE), 'OK');
  const plain = id(tester.hwpt(idev, ioas));
  const hwpt = id(tester.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING));
  const set = (values: Partial<Values<typeof iommu_hwpt_set_dirty_tracking.fields>>): string =>
    user.refused(fd, C.IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking, values);
  const get = (values: Partial<Values<typeof iommu_hwpt_get_dirty_bitmap.fields>>): string =>
    user.refused(fd, C.IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, {
      hwpt_id: hwpt,
      iova: BigInt(BASE),
      length: 0x10000n,
      page_size: 0x1000n,
      data: BigInt(tester.payload + 0xff1),
      ...values,
    });
  t.is(set({ hwpt_id: hwpt, flags: 2 }), 'EOPNOTSUPP');
  t.is(set({ hwpt_id: hwpt, __reserved: 1 }), 'EOPNOTSUPP');
  t.is(set({ hwpt_id: ioas }), 'ENOENT');
  t.is(set({ hwpt_id: plain }), 'EOPNOTSUPP');
  t.is(set({ hwpt_id: hwpt, flags: IOMMU_HWPT_DIRTY_TRACKING_ENABLE }), 'OK');
  t.is(get({ flags: 2 }), 'EOPNOTSUPP');
  t.is(get({ hwpt_id: ioas }), 'ENOENT');
  t.is(get({ length: 0n }), 'EINVAL');
  t.is(get({ iova: 0x1000n, length: ALL }), 'EOVERFLOW');
  t.is(get({ iova: BigInt(BASE) + 1n }), 'EINVAL');
  t.is(get({ page_size: 0n }), 'EINVAL');
  t.is(get({ page_size: 0x20000n }), 'EINVAL');
  t.is(get({ hwpt_id: plain }), 'EOPNOTSUPP');
  user.write(tester.payload, Uint8Array.of(0b101));
  const dirtied = tester.does(uapi.IOMMU_TEST_OP_DIRTY, uapi.iommu_test_dirty, {
    id: hwpt,
    iova: BigInt(BASE),
    length: 0x10000n,
    page_size: 0x1000n,
    uptr: BigInt(tester.payload),
  });
  t.is(dirtied, 'OK');
  const bits = (): number[] => [...user.read(tester.payload + 0xff1, 2)];
  user.write(tester.payload + 0xff1, Uint8Array.of(0x80, 0));
  t.is(get({ flags: IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR }), 'OK');
  t.is(bits()[0]! & 0x85, 0x85);
  user.write(tester.payload + 0xff1, new Uint8Array(2));
  t.is(get({}), 'OK');
  t.is(bits()[0]! & 5, 5);
  user.write(tester.payload + 0xff1, new Uint8Array(2));
  t.is(get({}), 'OK');
  t.deepEqual(bits(), [0, 0]);
  t.is(get({ data: 0n }), 'OK', 'a bitmap that is not there is passed over');
  t.deepEqual(closeAll(s), NOTHING);
});

test('every allocation of the vIOMMU objects undoes itself at every failure point', (t) => {
  const s = setup();
  const { kernel } = s.world;
  t.is(s.tester.map(s.ioas, s.tester.user.map(0x1000), 0x1000, BASE), 'OK');
  const base = id(viommu(s));
  const steps: readonly (() => unknown)[] = [
    () => viommu(s),
    () => vdevice(s, base, 0x10n),
    () => veventq(s, { viommu_id: base }),
    () => s.tester.mockNested(s.idev, base),
  ];
  for (const step of steps) {
    const before = kernel.leftovers();
    for (let n = 1; ; n++) {
      kernel.failpoints.failNth(n);
      const result = step();
      const done = kernel.failpoints.armed;
      kernel.failpoints.disarm();
      if (done) break;
      t.is(typeof result, 'string');
      t.deepEqual(kernel.leftovers(), before);
    }
  }
});
