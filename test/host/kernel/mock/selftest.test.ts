import test from 'ava';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import { BASE, makeMockWorld, NOTHING, PAGE } from './world.ts';

const CMD = uapi.IOMMU_TEST_CMD;

function bytes(size: number, op: number, length = size): Uint8Array {
  const out = new Uint8Array(Math.max(length, 8));
  const view = new DataView(out.buffer);
  view.setUint32(0, size, true);
  view.setUint32(4, op, true);
  return out;
}

test('without the option the command is as unknown as in a kernel without the selftest', (t) => {
  const it = makeMockWorld({ selftest: false }).tester();
  t.is(it.user.raw(it.fd, CMD, bytes(72, 9)), 'ENOTTY');
  t.is(it.memoryLimit(100), 'ENOTTY');
});

test('the size rules hold for it as for every command', (t) => {
  const it = makeMockWorld().tester();
  const op = uapi.IOMMU_TEST_OP_MD_CHECK_REFS;
  t.is(it.user.raw(it.fd, CMD, bytes(67, op, 72)), 'EINVAL');
  t.is(it.user.raw(it.fd, CMD, bytes(68, op, 72)), 'OK');
  const long = bytes(80, op);
  t.is(it.user.raw(it.fd, CMD, long), 'OK');
  long[79] = 1;
  t.is(it.user.raw(it.fd, CMD, long), 'E2BIG');
  t.is(it.user.run(it.user.process.ioctl(it.fd, CMD, 0)), -14, 'EFAULT');
});

test('an operation that is none', (t) => {
  const it = makeMockWorld().tester();
  for (const op of [0, uapi.IOMMU_TEST_OP_DMABUF_REVOKE + 1, 0xffff_ffff]) {
    t.is(it.user.raw(it.fd, CMD, bytes(72, op)), 'EOPNOTSUPP');
  }
});

test('slots between the last command and the test command are empty', (t) => {
  const it = makeMockWorld().tester();
  t.is(it.user.raw(it.fd, 0x3b9f, bytes(72, 0)), 'ENOTTY');
});

test('ADD_RESERVED: length, overflow, and what is there already', (t) => {
  const it = makeMockWorld().tester();
  const ioas = it.ioas();
  const address = it.user.map(2 * PAGE);
  t.is(it.reserve(ioas, 0n, 0n), 'EINVAL');
  t.is(it.reserve(ioas, 0xffff_ffff_ffff_f000n, 0x2000n), 'EOVERFLOW');
  t.is(it.reserve(99, 0n, 1n), 'ENOENT');
  t.is(it.map(ioas, address, PAGE, BASE), 'OK');
  t.is(it.reserve(ioas, BigInt(BASE), 1n), 'EADDRINUSE');
  t.is(it.reserve(ioas, BigInt(BASE + PAGE), BigInt(PAGE)), 'OK');
  t.is(it.map(ioas, address, PAGE, BASE + PAGE), 'EINVAL');
});

test('SET_TEMP_MEMORY_LIMIT: the smallest batch still pins everything', (t) => {
  const world = makeMockWorld();
  const it = world.tester();
  t.is(it.memoryLimit(11), 'EINVAL');
  t.is(it.memoryLimit(12), 'OK');
  const ioas = it.ioas();
  const { hwpt } = it.mock(ioas);
  const address = it.user.map(16 * PAGE);
  t.is(it.map(ioas, address, 16 * PAGE, BASE), 'OK');
  t.is(it.checkMap(hwpt, BASE, 16 * PAGE, address), 'OK');
  t.is(it.checkRefs(address, 16 * PAGE, 1), 'OK');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('the trace names the operation and reads the argument as its variant', (t) => {
  const world = makeMockWorld();
  const calls: string[] = [];
  world.kernel.trace.listen(({ def, values }) => {
    if (def.name === 'syscalls:sys_enter_ioctl')
      calls.push(`${String(values['name'])} ${String(values['args'])}`);
  });
  const it = world.tester();
  const ioas = it.ioas();
  it.mock(ioas, uapi.MOCK_FLAGS_DEVICE_PASID);
  it.memoryLimit(100);
  it.user.raw(it.fd, CMD, bytes(72, 99));
  t.deepEqual(calls.slice(1), [
    `IOMMU_TEST_CMD(MOCK_DOMAIN_FLAGS) id=${ioas} dev_flags=4`,
    'IOMMU_TEST_CMD(SET_TEMP_MEMORY_LIMIT) limit=100',
    '0x3ba0 op=99',
  ]);
});

test('what a view reads of an argument is no failure point', (t) => {
  const world = makeMockWorld();
  const passed = (): readonly string[] => {
    const it = world.tester();
    world.kernel.failpoints.disarm();
    it.memoryLimit(100);
    return [...world.kernel.failpoints.passed];
  };
  const unseen = passed();
  world.kernel.trace.listen(() => undefined);
  t.deepEqual(passed(), unseen);
  t.true(unseen.includes('copy_from_user'));
});
