import test from 'ava';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMUFD_CMD,
  iommu_ioas_copy,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { id } from '../iommufd/client.ts';
import { BASE, makeMockWorld, NOTHING, PAGE, type Tester } from './world.ts';

const WRITE = uapi.MOCK_ACCESS_RW_WRITE;
const SLOW = uapi.MOCK_ACCESS_RW_SLOW_PATH;
const PAGES = 8;
const BYTES = PAGES * PAGE;
const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;

/** A mapping in an IOAS, and an access to it. */
function setUp(pins = true) {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const address = it.user.map(BYTES);
  const pattern = Uint8Array.from({ length: BYTES }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
  it.user.write(address, pattern);
  if (it.map(ioas, address, BYTES, BASE) !== 'OK') throw new Error('map');
  return { world, it, ioas, address, pattern, fd: id(it.access(ioas, pins)) };
}

function copy(it: Tester, from: number, to: number, iova: number, length: number): string {
  return it.user.refused(it.fd, IOMMUFD_CMD.IOMMU_IOAS_COPY, iommu_ioas_copy, {
    flags: IOMMU_IOAS_MAP_FIXED_IOVA | RW,
    src_ioas_id: from,
    dst_ioas_id: to,
    src_iova: BigInt(iova),
    dst_iova: BigInt(iova),
    length: BigInt(length),
  });
}

test('pages are pinned by range, each range as often as it is asked for', (t) => {
  const { world, it, address, fd } = setUp();
  for (let pages = 1; pages < PAGES; pages++) {
    const length = pages * PAGE;
    const once = id(it.pin(fd, BASE, length, address));
    t.is(it.checkRefs(address, length, 1), 'OK');
    t.is(it.checkRefs(address + length, BYTES - length, 0), 'OK');
    const twice = id(it.pin(fd, BASE, length, address));
    t.is(twice, once + 1);
    t.is(it.unpin(fd, once), 'OK');
    t.is(it.checkRefs(address, length, 1), 'OK', 'the second is still there');
    t.is(it.unpin(fd, once), 'ENOENT');
    t.is(it.unpin(fd, twice), 'OK');
    t.is(it.checkRefs(address, BYTES, 0), 'OK');
  }
  t.is(it.user.close(fd), 0);
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('a domain comes and goes while pages are pinned', (t) => {
  const { it, ioas, address, fd } = setUp();
  const pages = id(it.pin(fd, BASE + PAGE, 2 * PAGE, address + PAGE));
  const mock = it.mock(ioas);
  t.is(it.checkMap(mock.hwpt, BASE, BYTES, address), 'OK');
  t.is(it.checkRefs(address, BYTES, 1), 'OK', 'pinned once, whoever wants them');
  t.is(it.destroy(mock.stdev), 'OK');
  t.is(it.checkRefs(address + PAGE, 2 * PAGE, 1), 'OK');
  t.is(it.checkRefs(address, PAGE, 0), 'OK');
  t.is(it.unpin(fd, pages), 'OK');
  t.is(it.checkRefs(address, BYTES, 0), 'OK');
});

test('unmap tells the access, which lets go', (t) => {
  const { it, ioas, address, fd } = setUp();
  const inside = id(it.pin(fd, BASE + PAGE, PAGE, address + PAGE));
  t.is(it.unmap(ioas, BigInt(BASE), BigInt(BYTES)), BigInt(BYTES));
  t.is(it.checkRefs(address, BYTES, 0), 'OK');
  t.is(it.unpin(fd, inside), 'ENOENT');
  t.is(it.pin(fd, BASE, PAGE, address), 'ENOENT', 'nothing is mapped');
});

test('unmap of one area leaves the pins of another alone', (t) => {
  const { it, ioas, address, fd } = setUp();
  t.is(it.map(ioas, address, PAGE, BASE + BYTES), 'OK');
  const kept = id(it.pin(fd, BASE, PAGE, address));
  const gone = id(it.pin(fd, BASE + BYTES, PAGE, address));
  t.is(it.unmap(ioas, BigInt(BASE + BYTES), BigInt(PAGE)), BigInt(PAGE));
  t.is(it.unpin(fd, gone), 'ENOENT');
  t.is(it.unpin(fd, kept), 'OK');
});

test('CREATE_ACCESS: flags, the IOAS, and areas that are not page aligned', (t) => {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const address = it.user.map(2 * PAGE);
  t.is(it.access(ioas, true, 2), 'EOPNOTSUPP');
  t.is(it.access(99), 'ENOENT');
  t.is(world.kernel.leftovers().objects, 1, 'only the IOAS');
  t.is(it.map(ioas, address + 1, 100, BASE), 'OK');
  t.is(it.access(ioas), 'EADDRINUSE', 'it would pin pages');
  const fd = id(it.access(ioas, false));
  t.is(it.destroy(ioas), 'EBUSY');
  t.is(it.user.close(fd), 0);
  t.is(it.destroy(ioas), 'OK');
});

test('an access that pins makes the IOAS page aligned', (t) => {
  const { it, ioas, address, fd } = setUp();
  t.is(it.map(ioas, address, 100, BASE + BYTES), 'EINVAL');
  t.is(it.user.close(fd), 0);
  t.is(it.map(ioas, address, 100, BASE + BYTES), 'OK');
});

test('ACCESS_PAGES: what cannot be pinned', (t) => {
  const { it, ioas, address, fd } = setUp();
  const reader = IOMMU_IOAS_MAP_READABLE;
  t.is(it.map(ioas, address, PAGE, BASE + BYTES, reader), 'OK');
  t.is(it.pin(fd, BASE, 17 << 20, address), 'ENOMEM');
  t.is(it.pin(fd, BASE, PAGE, address, 2), 'EOPNOTSUPP');
  t.is(it.pin(it.fd, BASE, PAGE, address), 'EBADFD');
  t.is(it.pin(999, BASE, PAGE, address), 'EBADFD');
  t.is(it.pin(fd, BASE, 0, address), 'EINVAL');
  t.is(it.pin(fd, BASE, PAGE, address + PAGE), 'EBADE');
  t.is(it.pin(fd, BASE - PAGE, 2 * PAGE, 0), 'ENOENT');
  t.is(it.pin(fd, BASE, BYTES + 2 * PAGE, 0), 'ENOENT');
  t.is(it.pin(fd, BASE + 1, PAGE, 0), 'EINVAL', 'starts inside a page');
  t.is(it.pin(fd, BASE + BYTES, PAGE, address, 1), 'EPERM');
  t.is(it.checkRefs(address, BYTES, 0), 'OK', 'nothing is left pinned');
  t.is(typeof it.pin(fd, BASE + BYTES, PAGE, address), 'number');
  const copier = id(it.access(ioas, false));
  t.is(it.pin(copier, BASE, PAGE, address), 'EOPNOTSUPP');
});

test('pages of adjoining areas are pinned together', (t) => {
  const { it, ioas, address, fd } = setUp();
  t.is(it.map(ioas, address + BYTES - PAGE, PAGE, BASE + BYTES), 'OK');
  const pages = id(it.pin(fd, BASE + BYTES - PAGE, 2 * PAGE, 0));
  t.is(it.checkRefs(address + BYTES - PAGE, PAGE, 2), 'OK', 'two page sets have the page');
  t.is(it.unpin(fd, pages), 'OK');
  t.is(it.checkRefs(address, BYTES, 0), 'OK');
});

for (const [name, flags] of [
  ['fast', 0],
  ['slow', SLOW],
] as const) {
  test(`ACCESS_RW, ${name}: every length around a page boundary`, (t) => {
    const { it, address, pattern, fd } = setUp(false);
    const buffer = it.user.map(PAGE);
    for (let length = 1; length < 64; length++) {
      const at = PAGE - Math.floor(length / 2);
      t.is(it.rw(fd, BASE + at, length, buffer, flags), 'OK');
      t.deepEqual(it.user.read(buffer, length), pattern.slice(at, at + length));
      const fresh = new Uint8Array(length).fill(length);
      it.user.write(buffer, fresh);
      t.is(it.rw(fd, BASE + at, length, buffer, flags | WRITE), 'OK');
      t.deepEqual(it.user.read(address + at, length), fresh);
      pattern.set(fresh, at);
    }
    t.deepEqual(it.user.read(address, BYTES), pattern);
    const whole = it.user.map(BYTES);
    t.is(it.rw(fd, BASE, BYTES, whole, flags), 'OK');
    t.deepEqual(it.user.read(whole, BYTES), pattern);
    t.is(it.checkRefs(address, BYTES, 0), 'OK');
  });
}

test('ACCESS_RW at an offset inside a page is byte-exact', (t) => {
  const { it, ioas, address, pattern } = setUp(false);
  const fd = id(it.access(ioas, false));
  t.is(it.map(ioas, address + 0x800, 2 * PAGE, BASE + 0x10_0800), 'OK');
  const buffer = it.user.map(PAGE);
  t.is(it.rw(fd, BASE + 0x10_0ff0, 64, buffer), 'OK');
  t.deepEqual(it.user.read(buffer, 64), pattern.slice(0xff0, 0xff0 + 64));
});

test('ACCESS_RW: what is refused', (t) => {
  const { it, ioas, address, fd } = setUp(false);
  const buffer = it.user.map(PAGE);
  t.is(it.map(ioas, address, PAGE, BASE + 0x10_0000, IOMMU_IOAS_MAP_READABLE), 'OK');
  t.is(it.rw(fd, BASE, 17 << 20, buffer), 'ENOMEM');
  t.is(it.rw(fd, BASE, 8, buffer, 2), 'EOPNOTSUPP');
  t.is(it.rw(it.fd, BASE, 8, buffer), 'EBADFD');
  t.is(it.rw(fd, BASE, 0, buffer), 'EINVAL');
  t.is(it.rw(fd, BASE - 1, 2, buffer), 'ENOENT');
  t.is(it.rw(fd, BASE + BYTES - 1, 2, buffer), 'ENOENT');
  t.is(it.rw(fd, BASE, 8, 0x1000), 'EFAULT');
  t.is(it.rw(fd, BASE, 8, 0x1000, WRITE), 'EFAULT');
  t.is(it.rw(fd, BASE + 0x10_0000, 8, buffer, WRITE), 'EPERM');
  t.is(it.rw(fd, BASE + 0x10_0000, 8, buffer), 'OK');
});

test('memory of a process that is gone: what is pinned stays, the rest faults', (t) => {
  const world = makeMockWorld();
  const owner = world.user();
  const it = world.tester(owner);
  const ioas = it.ioas();
  const address = owner.map(2 * PAGE);
  owner.write(address, Uint8Array.of(1, 2, 3));
  const other = world.user();
  // The file outlives its opener, as with a fork.
  const heir = other.process.files.add(owner.process.files.get(it.fd).get());
  const twin = world.tester(other);
  twin.close();
  Object.assign(twin, { fd: heir });
  t.is(it.map(ioas, address, 2 * PAGE, BASE), 'OK');
  const { idev } = it.mock(ioas);
  const bare = it.ioas();
  t.is(it.map(bare, address, PAGE, BASE), 'OK');
  owner.process.kill();
  world.run(owner.process.wait());
  const fd = id(twin.access(ioas, false));
  const orphan = id(twin.access(bare, false));
  const buffer = other.map(2 * PAGE);
  for (const length of [3, PAGE + 3]) {
    t.is(twin.rw(fd, BASE, length, buffer), 'OK', 'through the pins of the domain');
    t.deepEqual([...other.read(buffer, 3)], [1, 2, 3]);
    t.is(twin.rw(orphan, BASE, Math.min(length, PAGE), buffer), 'EFAULT', 'nobody pinned them');
  }
  t.is(typeof twin.hwpt(idev, ioas), 'number', 'a second domain is filled from the first');
  t.is(twin.hwpt(idev, bare), 'EFAULT');
  for (const open of [fd, orphan, heir]) t.is(other.close(open), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('replacing the IOAS gives up the pins, and the other IOAS serves from then on', (t) => {
  const { it, ioas, address, fd } = setUp();
  const next = it.ioas();
  t.is(copy(it, ioas, next, BASE, BYTES), 'OK');
  const mock = it.mock(next);
  const pages = id(it.pin(fd, BASE, BYTES, address));
  t.is(it.checkMap(mock.hwpt, BASE, BYTES, address), 'OK');
  t.is(it.checkRefs(address, BYTES, 1), 'OK', 'copies share their pins');
  t.is(it.accessReplace(fd, next), 'OK');
  t.is(it.unpin(fd, pages), 'ENOENT');
  t.is(it.accessReplace(fd, 99), 'ENOENT');
  t.is(it.destroy(ioas), 'OK');
  const again = id(it.pin(fd, BASE, BYTES, address));
  t.is(it.unpin(fd, again), 'OK');
  t.is(it.destroy(next), 'EBUSY');
  t.is(it.accessReplace(it.fd, next), 'EBADFD');
});

test('the access keeps the context alive after its file is closed', (t) => {
  const { world, it, address, fd } = setUp();
  t.is(typeof it.pin(fd, BASE, BYTES, address), 'number');
  it.close();
  t.is(world.kernel.leftovers().pins, PAGES);
  t.is(it.user.close(fd), 0);
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('a fuzzer names IOVAs by area and offset', (t) => {
  const { it, pattern, fd } = setUp(false);
  const buffer = it.user.map(PAGE);
  const syz = uapi.MOCK_FLAGS_ACCESS_SYZ;
  t.is(it.rw(fd, 5 * 2 ** 32, 8, buffer, syz), 'OK');
  t.deepEqual(it.user.read(buffer, 8), pattern.slice(5, 13));
  t.is(it.rw(fd, 1, 8, buffer, syz), 'ENOENT', 'there is no second area');
});
