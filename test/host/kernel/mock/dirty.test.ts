import test from 'ava';
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_SET,
  IOMMUFD_CMD,
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_set_dirty_tracking,
  iommu_option,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { id } from '../iommufd/client.ts';
import { BASE, makeMockWorld, NOTHING, type Tester } from './world.ts';

const UNIT = uapi.MOCK_PAGE_SIZE;
const NO_CLEAR = IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR;

function setUp(
  bytes: number,
  { release = '7.3', deviceFlags = 0, format = -1, singlePages = true } = {},
) {
  const world = makeMockWorld({ release });
  const it = world.tester();
  const ioas = it.ioas();
  if (singlePages) noHugePages(it, ioas);
  const { stdev, idev } = it.mock(ioas, deviceFlags);
  const hwpt = id(
    format < 0
      ? it.hwpt(idev, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
      : it.mockPaging(idev, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, format),
  );
  it.replace(stdev, hwpt);
  const address = it.user.map(bytes);
  if (it.map(ioas, address, bytes, BASE) !== 'OK') throw new Error('map');
  return { world, it, ioas, idev, hwpt, bits: bytes / UNIT, bitmap: it.user.map(8 << 12) };
}

function noHugePages(it: Tester, ioas: number): void {
  it.user.ok(it.fd, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, {
    option_id: IOMMU_OPTION_HUGE_PAGES,
    op: IOMMU_OPTION_OP_SET,
    object_id: ioas,
    val64: 0n,
  });
}

function track(it: Tester, hwpt: number, flags: number): string {
  const cmd = IOMMUFD_CMD.IOMMU_HWPT_SET_DIRTY_TRACKING;
  return it.user.refused(it.fd, cmd, iommu_hwpt_set_dirty_tracking, { hwpt_id: hwpt, flags });
}

/** Marks the bits; how many were mapped, or the error's name. */
function mark(it: Tester, hwpt: number, bits: number, set: readonly number[], at: number) {
  it.user.write(at, pack(bits, set));
  const { result, out } = it.op(uapi.IOMMU_TEST_OP_DIRTY, uapi.iommu_test_dirty, {
    id: hwpt,
    iova: BigInt(BASE),
    length: BigInt(bits * UNIT),
    page_size: BigInt(UNIT),
    uptr: BigInt(at),
  });
  return result === 'OK' ? Number(out.out_nr_dirty) : result;
}

/** The bits that are dirty. */
function dirty(it: Tester, hwpt: number, bits: number, at: number, flags = 0): number[] {
  it.user.write(at, new Uint8Array(bits / 8));
  it.user.ok(it.fd, IOMMUFD_CMD.IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, {
    hwpt_id: hwpt,
    flags,
    iova: BigInt(BASE),
    length: BigInt(bits * UNIT),
    page_size: BigInt(UNIT),
    data: BigInt(at),
  });
  const bytes = it.user.read(at, bits / 8);
  const all = Array.from({ length: bits }, (_, bit) => bit);
  return all.filter((bit) => (bytes[bit >> 3]! & (1 << (bit & 7))) !== 0);
}

function pack(bits: number, set: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(bits / 8));
  for (const bit of set) bytes[bit >> 3]! |= 1 << (bit & 7);
  return bytes;
}

/** What a device writes to, one item in each of several leaves of two, and what is told of it. */
const TOLD: readonly [release: string, written: (n: number) => number, told: number[]][] = [
  ['7.3', (n) => 4 * n, [0, 1]],
  ['7.3', (n) => 4 * n + 1, [0, 1]],
  ['7.2', (n) => 4 * n, [0]],
  ['7.2', (n) => 4 * n + 1, [0]],
  ['6.18', (n) => 4 * n, [0]],
  ['6.18', (n) => 4 * n + 1, [1]],
];

for (const skip of [0, 2048, 0xff1]) {
  for (const [release, written, told] of TOLD) {
    test(`${release}: what is written at ${written(0)} shows once, bitmap at offset ${skip}`, (t) => {
      const { world, it, hwpt, bits, bitmap } = setUp(128 << 10, { release });
      const pairs = Array.from({ length: bits / 4 }, (_, n) => n);
      const expected = pairs.flatMap((n) => told.map((bit) => 4 * n + bit));
      t.is(track(it, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 'OK');
      t.is(mark(it, hwpt, bits, pairs.map(written), bitmap), pairs.length);
      t.deepEqual(dirty(it, hwpt, bits, bitmap + skip, NO_CLEAR), expected);
      t.deepEqual(dirty(it, hwpt, bits, bitmap + skip), expected);
      t.deepEqual(dirty(it, hwpt, bits, bitmap + skip), []);
      it.close();
      t.deepEqual(world.kernel.leftovers(), NOTHING);
    });
  }
}

const HUGE = [
  { release: '7.3', format: uapi.MOCK_IOMMUPT_HUGE },
  { release: '7.2', format: uapi.MOCK_IOMMUPT_HUGE },
  { release: '6.18', deviceFlags: uapi.MOCK_FLAGS_DEVICE_HUGE_IOVA },
] as const;

for (const how of HUGE) {
  test(`${how.release}: a leaf of 1 MiB is dirty as a whole`, (t) => {
    const { it, hwpt, bits, bitmap } = setUp(4 << 20, { ...how, singlePages: false });
    t.is(track(it, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 'OK');
    t.is(mark(it, hwpt, bits, [0, 1024], bitmap), 2);
    const leaf = Array.from({ length: 512 }, (_, i) => i);
    const expected = [...leaf, ...leaf.map((bit) => bit + 1024)];
    t.deepEqual(dirty(it, hwpt, bits, bitmap, NO_CLEAR), expected);
    t.deepEqual(dirty(it, hwpt, bits, bitmap), expected);
    t.deepEqual(dirty(it, hwpt, bits, bitmap), []);
  });
}

test('leaves are as large as the memory allows: 2 MiB in the default format', (t) => {
  const { it, hwpt, bits, bitmap } = setUp(4 << 20, { singlePages: false });
  t.is(track(it, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 'OK');
  t.is(mark(it, hwpt, bits, [1030], bitmap), 1);
  t.deepEqual(
    dirty(it, hwpt, bits, bitmap),
    Array.from({ length: 1024 }, (_, i) => 1024 + i),
  );
});

test('tracking that is switched on begins with nothing', (t) => {
  const { it, hwpt, bits, bitmap } = setUp(16 << 10);
  t.is(track(it, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 'OK');
  t.is(mark(it, hwpt, bits, [3], bitmap), 1);
  t.is(track(it, hwpt, 0), 'OK');
  t.is(track(it, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 'OK');
  t.deepEqual(dirty(it, hwpt, bits, bitmap), []);
});

test('DIRTY: what is refused', (t) => {
  const { it, ioas, idev, hwpt, bits, bitmap } = setUp(16 << 10);
  t.is(mark(it, hwpt, bits, [0], bitmap), 'EINVAL', 'tracking is off');
  const plain = id(it.hwpt(idev, ioas));
  t.is(track(it, plain, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 'EOPNOTSUPP');
  t.is(track(it, hwpt, IOMMU_HWPT_DIRTY_TRACKING_ENABLE), 'OK');
  const good = { id: hwpt, iova: BigInt(BASE), length: 4096n, page_size: 2048n };
  const run = (more: Partial<typeof good & { uptr: bigint }>): string =>
    it.does(uapi.IOMMU_TEST_OP_DIRTY, uapi.iommu_test_dirty, {
      ...good,
      uptr: BigInt(bitmap),
      ...more,
    });
  t.is(run({}), 'OK');
  t.is(run({ page_size: 0n }), 'EINVAL');
  t.is(run({ length: 0n }), 'EINVAL');
  t.is(run({ length: 100n }), 'EINVAL');
  t.is(run({ iova: 100n }), 'EINVAL');
  t.is(run({ uptr: 0n }), 'EINVAL');
  t.is(run({ uptr: 0x1000n }), 'EFAULT');
  t.is(run({ page_size: 1n, length: 1n << 40n }), 'EOVERFLOW');
  t.is(run({ id: idev }), 'ENOENT');
  t.is(mark(it, hwpt, 2 * bits, [0, bits], bitmap), 1, 'only what is mapped counts');
});
