import test from 'ava';
import { Errno } from '../../../host/kernel/errno.ts';
import { SimulatedMm } from '../../../host/kernel/mm.ts';
import { Segfault, type Task } from '../../../host/syscall.ts';
import { PROT_NONE, PROT_READ, PROT_WRITE } from '../../../host/uapi/poll.ts';
import { FakeFunction, fakeKernel } from './support.ts';

const RW = PROT_READ | PROT_WRITE;
const PAGE = 4096;
const MIB = 1 << 20;

function world(ramBytes?: number) {
  const { kernel, ram, root, fn } = fakeKernel(ramBytes);
  const { pages, failpoints } = kernel;
  return {
    pages,
    ram,
    root,
    fn,
    mm: new SimulatedMm({ pages, failpoints, ram, root }),
    total: pages.freePages,
  };
}

const errno = (code: string) => ({ instanceOf: Errno, message: new RegExp(`^${code}`) });

test('anonymous memory is zero, comes page by page, and goes with munmap', (t) => {
  const { mm, pages, total } = world();
  const at = mm.mapAnonymous(3 * PAGE + 1, RW);
  t.is(at % PAGE, 0);
  t.is(pages.freePages, total);
  t.is(mm.memory.load(at + PAGE, 8), 0n);
  t.is(mm.residentPages, 1);
  mm.memory.store(at, 4, 0x1234_5678n);
  t.is(mm.memory.load(at, 2), 0x5678n);
  t.is(mm.memory.load(at + 3, 1), 0x12n);
  t.is(pages.freePages, total - 2);
  t.deepEqual(mm.unmap(at, 4 * PAGE), []);
  t.is(pages.freePages, total);
  t.throws(() => mm.memory.load(at, 1), { instanceOf: Segfault });
});

test('reads and writes cross pages wherever their frames are', (t) => {
  const { mm } = world();
  const at = mm.mapAnonymous(8 * PAGE, RW);
  for (const page of [5, 2, 7, 0]) mm.memory.store(at + page * PAGE, 1, 1n);
  const bytes = Uint8Array.from({ length: 6 * PAGE }, (_, i) => i * 7);
  mm.memory.write(at + 100, bytes);
  const back = new Uint8Array(bytes.length);
  mm.memory.read(at + 100, back);
  t.deepEqual(back, bytes);
  t.deepEqual([...mm.copyFrom(BigInt(at + PAGE - 2), 4)], [...bytes.subarray(3994, 3998)]);
});

test('copy is memmove, also when the ranges overlap across pages', (t) => {
  const { mm } = world();
  const at = mm.mapAnonymous(8 * PAGE, RW);
  const bytes = Uint8Array.from({ length: 3 * PAGE }, (_, i) => i ^ (i >> 8));
  const look = (from: number): Uint8Array => mm.copyFrom(BigInt(from), bytes.length);
  mm.memory.write(at, bytes);
  mm.memory.copy(at + 4 * PAGE + 3, at, bytes.length);
  t.deepEqual(look(at + 4 * PAGE + 3), bytes);
  mm.memory.copy(at + 77, at, bytes.length);
  t.deepEqual(look(at + 77), bytes);
  mm.memory.copy(at + 5, at + 77, bytes.length);
  t.deepEqual(look(at + 5), bytes);
});

test('a large mapping is aligned and gets 2 MiB blocks', (t) => {
  const { mm, pages, total } = world();
  const at = mm.mapAnonymous(6 * MIB, RW);
  t.is(at % (2 * MIB), 0);
  mm.memory.store(at + 3 * MIB, 1, 1n);
  t.is(pages.freePages, total - 512);
  const pfns = mm.pin(BigInt(at + 2 * MIB), 512, true);
  t.is(pfns[0]! % 512, 0);
  t.deepEqual(
    [...pfns],
    Array.from(pfns, (_, i) => pfns[0]! + i),
  );
  mm.unpin(pfns);
});

test('without a whole block left, single pages do', (t) => {
  const { mm, pages } = world();
  while (pages.tryRun(512) >= 0);
  const at = mm.mapAnonymous(2 * MIB, RW);
  const before = pages.freePages;
  mm.memory.store(at + 5 * PAGE, 8, 5n);
  t.is(pages.freePages, before - 1);
});

test('populate takes all pages at once', (t) => {
  const { mm } = world();
  mm.mapAnonymous(5 * MIB, RW, true);
  t.is(mm.residentPages, 1280);
});

test('unmapping the middle of a mapping leaves both ends as they were', (t) => {
  const { mm, pages, total } = world();
  const at = mm.mapAnonymous(5 * PAGE, RW);
  for (let page = 0; page < 5; page++) mm.memory.store(at + page * PAGE, 8, BigInt(page + 1));
  mm.unmap(at + PAGE, 2 * PAGE);
  t.is(pages.freePages, total - 3);
  t.is(mm.memory.load(at, 8), 1n);
  t.is(mm.memory.load(at + 3 * PAGE, 8), 4n);
  t.is(mm.memory.load(at + 4 * PAGE, 8), 5n);
  for (const page of [1, 2]) {
    t.throws(() => mm.memory.load(at + page * PAGE, 8), { instanceOf: Segfault });
  }
  t.throws(() => mm.copyFrom(BigInt(at), 2 * PAGE), errno('EFAULT'));
  mm.unmap(at - 10 * PAGE, 40 * PAGE);
  t.is(pages.freePages, total);
});

test('a freed address is given out again', (t) => {
  const { mm } = world();
  const a = mm.mapAnonymous(PAGE, RW);
  const b = mm.mapAnonymous(PAGE, RW);
  t.is(b, a - PAGE);
  mm.unmap(a, PAGE);
  t.is(mm.mapAnonymous(2 * PAGE, RW), b - 2 * PAGE);
  t.is(mm.mapAnonymous(PAGE, RW), a);
});

test('munmap refuses what is not page aligned, empty or out of range', (t) => {
  const { mm } = world();
  const at = mm.mapAnonymous(PAGE, RW);
  for (const [address, length] of [
    [at + 1, PAGE],
    [at, 0],
    [at, -PAGE],
    [-PAGE, PAGE],
    [at, 2 ** 47],
    [at, NaN],
  ] as const) {
    t.throws(() => mm.unmap(address, length), errno('EINVAL'));
  }
});

test('mappings that cannot be are refused', (t) => {
  const { mm } = world();
  for (const length of [0, -1, 0.5, NaN]) {
    t.throws(() => mm.mapAnonymous(length, RW), errno('EINVAL'));
  }
  t.throws(() => mm.mapAnonymous(2 ** 46, RW), errno('ENOMEM'));
  const most = 4 * (64 << 20);
  const at = mm.mapAnonymous(most, RW);
  t.throws(() => mm.mapAnonymous(PAGE, RW), errno('ENOMEM'));
  mm.unmap(at, most);
  t.notThrows(() => mm.mapAnonymous(PAGE, RW));
});

test('protection is enforced: EFAULT for the kernel, a segmentation fault for the program', (t) => {
  const { mm } = world();
  const readOnly = mm.mapAnonymous(PAGE, PROT_READ);
  const none = mm.mapAnonymous(PAGE, PROT_NONE);
  const bytes = new Uint8Array(8);
  t.notThrows(() => mm.copyFrom(BigInt(readOnly), 8));
  t.throws(() => mm.copyTo(BigInt(readOnly), bytes), errno('EFAULT'));
  t.throws(() => mm.pin(BigInt(readOnly), 1, true), errno('EFAULT'));
  t.throws(() => mm.copyFrom(BigInt(none), 8), errno('EFAULT'));
  t.throws(() => mm.memory.store(readOnly, 8, 1n), { message: /not writable/ });
  t.throws(() => mm.memory.load(none, 8), { message: /not readable/ });
  t.throws(() => mm.memory.load(readOnly + 4, 8), { message: /aligned/ });
});

test('addresses that no process has give EFAULT', (t) => {
  const { mm } = world();
  for (const address of [0n, 0xfffn, 2n ** 47n, 2n ** 64n - 1n, -1n, 2n ** 53n + 1n]) {
    t.throws(() => mm.copyFrom(address, 8), errno('EFAULT'));
    t.throws(() => mm.copyTo(address, new Uint8Array(8)), errno('EFAULT'));
    t.throws(() => mm.pin(address, 1, false), errno('EFAULT'));
  }
  const at = BigInt(mm.mapAnonymous(PAGE, RW));
  t.throws(() => mm.copyFrom(at, PAGE + 1), errno('EFAULT'));
  t.throws(() => mm.pin(at, 2 ** 40, true), errno('EFAULT'));
  t.throws(() => mm.copyFrom(at, 2 ** 53), errno('EFAULT'));
});

test('a copy that would fail half way writes nothing', (t) => {
  const { mm } = world();
  const at = mm.mapAnonymous(2 * PAGE, RW);
  mm.unmap(at + PAGE, PAGE);
  t.throws(() => mm.copyTo(BigInt(at + PAGE - 8), new Uint8Array(16).fill(1)), errno('EFAULT'));
  t.is(mm.memory.load(at + PAGE - 8, 8), 0n);
});

test('pin gives the frames that hold the bytes, from the page of the address on', (t) => {
  const { mm, ram, pages } = world();
  const at = mm.mapAnonymous(3 * PAGE, RW);
  mm.memory.store(at + PAGE, 8, 0xabcdn);
  const pfns = mm.pin(BigInt(at + 0x123), 3, true);
  t.is(pfns.length, 3);
  t.is(ram.read64(pfns[1]! * PAGE), 0xabcdn);
  t.is(pages.pinned, 3);
  mm.unpin(pfns);
  t.is(pages.pinned, 0);
});

test('a pin that cannot have all has none', (t) => {
  const { mm, pages } = world();
  const at = mm.mapAnonymous(3 * PAGE, RW);
  mm.unmap(at + 2 * PAGE, PAGE);
  const before = pages.freePages;
  t.throws(() => mm.pin(BigInt(at), 3, true), errno('EFAULT'));
  t.is(pages.pinned, 0);
  t.is(pages.freePages, before);
  const big = mm.mapAnonymous(100 << 20, RW);
  t.throws(() => mm.pin(BigInt(big), (100 << 20) / PAGE, true), errno('ENOMEM'));
  t.is(pages.pinned, 0);
});

test('when memory is exhausted a touch is a fault, and the kernel says EFAULT', (t) => {
  const { mm, pages } = world();
  const at = mm.mapAnonymous(2 * PAGE, RW);
  while (pages.tryRun(1) >= 0);
  t.throws(() => mm.memory.load(at, 8), { instanceOf: Segfault, message: /out of memory/ });
  t.throws(() => mm.copyFrom(BigInt(at), 8), errno('EFAULT'));
});

test('memory that is pinned outlives its mapping and its process', (t) => {
  const { mm, pages, ram, total } = world();
  const at = mm.mapAnonymous(2 * PAGE, RW);
  mm.memory.store(at, 8, 7n);
  const pfns = mm.pin(BigInt(at), 1, true);
  mm.memory.store(at + PAGE, 8, 8n);
  mm.destroy();
  t.false(mm.alive);
  t.is(pages.freePages, total - 1);
  t.is(ram.read64(pfns[0]! * PAGE), 7n);
  t.throws(() => mm.copyFrom(BigInt(at), 1), errno('EFAULT'));
  mm.unpin(pfns);
  t.is(pages.freePages, total);
});

function deviceFile() {
  const file = {
    references: 1,
    get(): void {
      file.references++;
    },
    *put(): Task {
      file.references--;
    },
  };
  return file;
}

test('device memory is reached by loads, stores and 64-byte stores', (t) => {
  const { mm, fn, root } = world();
  const bar0 = 0x3800_0000_0000;
  root.write(0xb000_8004, 2, 2n);
  fn.log.length = 0;
  const at = mm.mapDevice(2 * PAGE, RW, { physicalAddress: bar0 + PAGE }, deviceFile());
  mm.memory.store(at + 8, 8, 0x0102_0304_0506_0708n);
  t.is(mm.memory.load(at + 12, 4), 0x0102_0304n);
  mm.memory.movdir64b(at + PAGE, new Uint8Array(64).fill(9));
  t.true(mm.memory.enqcmd(at + PAGE, new Uint8Array(64).fill(9)));
  t.deepEqual(fn.log, [
    `barWrite 0 ${PAGE + 8} 8 72623859790382856`,
    `barRead 0 ${PAGE + 12} 4`,
    `barWrite64 0 ${2 * PAGE} 9`,
    `barEnqueue 0 ${2 * PAGE} 9`,
  ]);
});

test('a block access to device memory is made of aligned pieces', (t) => {
  const { mm, fn, root } = world();
  root.write(0xb000_8004, 2, 2n);
  fn.log.length = 0;
  const at = mm.mapDevice(PAGE, RW, { physicalAddress: 0x3800_0000_0000 }, deviceFile());
  const bytes = Uint8Array.from({ length: 15 }, (_, i) => i + 1);
  mm.memory.write(at + 1, bytes);
  const sizes = fn.log.map((line) => line.split(' ').slice(2, 4).join(':'));
  t.deepEqual(sizes, ['1:1', '2:2', '4:4', '8:8']);
  const back = new Uint8Array(15);
  mm.memory.read(at + 1, back);
  t.deepEqual(back, bytes);
  const ram = mm.mapAnonymous(PAGE, RW);
  t.throws(() => mm.memory.copy(ram, at, 8), { instanceOf: Segfault });
});

test('device memory cannot be pinned, nor be an argument of a system call', (t) => {
  const { mm } = world();
  const at = mm.mapDevice(PAGE, RW, { physicalAddress: 0x3800_0000_0000 }, deviceFile());
  t.throws(() => mm.pin(BigInt(at), 1, true), errno('EFAULT'));
  t.throws(() => mm.copyFrom(BigInt(at), 8), errno('EFAULT'));
});

test('a touch while the device does not decode memory is a SIGBUS', (t) => {
  const { mm } = world();
  let on = false;
  const mapping = { physicalAddress: 0x3800_0000_0000, accessible: () => on };
  const at = mm.mapDevice(PAGE, RW, mapping, deviceFile());
  t.throws(() => mm.memory.load(at, 4), { instanceOf: Segfault, message: /SIGBUS/ });
  on = true;
  t.notThrows(() => mm.memory.load(at, 4));
});

test('every part of a device mapping keeps the file open', (t) => {
  const { mm, fn, root } = world();
  t.true(fn instanceof FakeFunction);
  root.write(0xb000_8004, 2, 2n);
  const file = deviceFile();
  const at = mm.mapDevice(5 * PAGE, RW, { physicalAddress: 0x3800_0000_0000 }, file);
  t.is(file.references, 2);
  const putAll = (files: { put(): Task }[]): void => {
    for (const each of files) each.put().next();
  };
  putAll(mm.unmap(at + 2 * PAGE, PAGE));
  t.is(file.references, 3);
  mm.memory.store(at + 3 * PAGE, 4, 5n);
  t.is(root.read(0x3800_0000_0000 + 3 * PAGE, 4), 5n);
  putAll(mm.destroy());
  t.is(file.references, 1);
});
