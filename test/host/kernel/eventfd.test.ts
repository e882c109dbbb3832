import test from 'ava';
import { EventFd } from '../../../host/kernel/eventfd.ts';
import type { Process } from '../../../host/kernel/process.ts';
import type { Task } from '../../../host/syscall.ts';
import { ERRNO } from '../../../host/uapi/errno.ts';
import {
  EFD_NONBLOCK,
  EFD_SEMAPHORE,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  POLLERR,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  PROT_READ,
  PROT_WRITE,
  pollfd,
} from '../../../host/uapi/poll.ts';
import { fakeKernel, runProcess } from './support.ts';

const ULLONG_MAX = 2n ** 64n - 1n;

function* buffer(p: Process): Task<number> {
  return yield* p.mmap(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

function counter(p: Process, fd: number): EventFd {
  const { ops } = p.files.get(fd);
  if (!(ops instanceof EventFd)) throw new Error('not an eventfd');
  return ops;
}

test('a read takes the whole count, or one with the semaphore flag', (t) => {
  const { kernel } = fakeKernel();
  runProcess(kernel, function* (p) {
    const at = yield* buffer(p);
    const fd = yield* p.eventfd(5, 0);
    t.is(yield* p.read(fd, at, 8), 8);
    t.is(p.memory.load(at, 8), 5n);
    t.is(counter(p, fd).count, 0n);
    const semaphore = yield* p.eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    for (const left of [1n, 0n]) {
      t.is(yield* p.read(semaphore, at, 100), 8);
      t.is(p.memory.load(at, 8), 1n);
      t.is(counter(p, semaphore).count, left);
    }
    t.is(yield* p.read(semaphore, at, 8), -ERRNO.EAGAIN);
  });
});

test('a write adds; what cannot be added blocks or gives EAGAIN', (t) => {
  const { kernel } = fakeKernel();
  runProcess(kernel, function* (p) {
    const at = yield* buffer(p);
    const fd = yield* p.eventfd(1, EFD_NONBLOCK);
    p.memory.store(at, 8, ULLONG_MAX - 2n);
    t.is(yield* p.write(fd, at, 8), 8);
    t.is(counter(p, fd).count, ULLONG_MAX - 1n);
    p.memory.store(at, 8, 1n);
    t.is(yield* p.write(fd, at, 8), -ERRNO.EAGAIN);
    p.memory.store(at, 8, ULLONG_MAX);
    t.is(yield* p.write(fd, at, 8), -ERRNO.EINVAL);
    p.memory.store(at, 8, 0n);
    t.is(yield* p.write(fd, at, 8), 8);
  });
});

test('a full counter lets a blocking writer go on when it is read', (t) => {
  const { kernel, clock } = fakeKernel();
  runProcess(kernel, function* (p) {
    const at = yield* buffer(p);
    const fd = yield* p.eventfd(0, 0);
    counter(p, fd).signal(1);
    p.memory.store(at, 8, ULLONG_MAX - 1n);
    yield* p.clone('reader', function* () {
      yield 50_000;
      t.is(yield* p.read(fd, at + 16, 8), 8);
      t.is(p.memory.load(at + 16, 8), 1n);
    });
    t.is(yield* p.write(fd, at, 8), 8);
    t.true(clock.now >= 50_000);
    t.is(counter(p, fd).count, ULLONG_MAX - 1n);
  });
});

test('a blocking read sleeps until the kernel signals', (t) => {
  const { kernel, clock } = fakeKernel();
  runProcess(kernel, function* (p) {
    const at = yield* buffer(p);
    const fd = yield* p.eventfd(0, 0);
    clock.after(7000, () => counter(p, fd).signal(3));
    t.is(yield* p.read(fd, at, 8), 8);
    t.is(p.memory.load(at, 8), 3n);
    t.true(clock.now >= 7000);
  });
});

test('bad arguments are refused', (t) => {
  const { kernel } = fakeKernel();
  runProcess(kernel, function* (p) {
    const fd = yield* p.eventfd(1, EFD_NONBLOCK);
    t.is(yield* p.read(fd, 0x1000, 7), -ERRNO.EINVAL);
    t.is(yield* p.write(fd, 0x1000, 7), -ERRNO.EINVAL);
    t.is(yield* p.write(fd, 0x1000, 8), -ERRNO.EFAULT);
    t.is(yield* p.read(fd, 0x1000, 8), -ERRNO.EFAULT);
    t.is(yield* p.eventfd(0, 2), -ERRNO.EINVAL);
    t.is(yield* p.eventfd(-1, 0), -ERRNO.EINVAL);
    t.is(yield* p.eventfd(2 ** 32, 0), -ERRNO.EINVAL);
  });
});

test("the kernel's signal saturates, and poll then says error", (t) => {
  const eventfd = new EventFd(0, false);
  t.is(eventfd.poll().events, POLLOUT);
  eventfd.signal();
  t.is(eventfd.poll().events, POLLIN | POLLOUT);
  for (let i = 0; i < 3000; i++) eventfd.signal(Number.MAX_SAFE_INTEGER);
  t.is(eventfd.count, ULLONG_MAX);
  t.is(eventfd.poll().events, POLLIN | POLLERR);
});

function setPoll(p: Process, at: number, index: number, fd: number, events: number): void {
  p.memory.write(at + index * pollfd.size, pollfd.encode({ fd, events, revents: -1 }));
}

function revents(p: Process, at: number, index: number): number {
  return Number(p.memory.load(at + index * pollfd.size + 6, 2));
}

test('poll tells what is ready, ignores negative numbers and marks closed ones', (t) => {
  const { kernel } = fakeKernel();
  runProcess(kernel, function* (p) {
    const at = yield* buffer(p);
    const [full, empty] = [yield* p.eventfd(1, 0), yield* p.eventfd(0, 0)];
    setPoll(p, at, 0, full, POLLIN);
    setPoll(p, at, 1, empty, POLLIN);
    setPoll(p, at, 2, -1, POLLIN);
    setPoll(p, at, 3, 99, POLLIN);
    setPoll(p, at, 4, empty, POLLIN | POLLOUT);
    t.is(yield* p.poll(at, 5, 0), 3);
    t.deepEqual(
      [0, 1, 2, 3, 4].map((i) => revents(p, at, i)),
      [POLLIN, 0, 0, POLLNVAL, POLLOUT],
    );
  });
});

test('poll waits for any of its files', (t) => {
  const { kernel, clock } = fakeKernel();
  runProcess(kernel, function* (p) {
    const at = yield* buffer(p);
    const fds = [yield* p.eventfd(0, 0), yield* p.eventfd(0, 0)];
    fds.forEach((fd, i) => setPoll(p, at, i, fd, POLLIN));
    clock.after(9000, () => counter(p, fds[1]!).signal());
    t.is(yield* p.poll(at, 2, -1), 1);
    t.deepEqual([revents(p, at, 0), revents(p, at, 1)], [0, POLLIN]);
    t.true(clock.now >= 9000);
  });
});

test('poll ends at its timeout, even if something it does not ask for happens meanwhile', (t) => {
  const { kernel, clock } = fakeKernel();
  runProcess(kernel, function* (p) {
    const at = yield* buffer(p);
    const fd = yield* p.eventfd(0, 0);
    setPoll(p, at, 0, fd, POLLERR);
    const start = clock.now;
    clock.after(5000, () => counter(p, fd).signal());
    t.is(yield* p.poll(at, 1, 20_000), 0);
    t.true(clock.now >= start + 20_000 && clock.now < start + 21_000);
    t.is(revents(p, at, 0), 0);
    t.is(yield* p.poll(at, 0, 100), 0);
  });
});

test('poll refuses a bad array', (t) => {
  const { kernel } = fakeKernel();
  runProcess(kernel, function* (p) {
    t.is(yield* p.poll(0x1000, 1, 0), -ERRNO.EFAULT);
    t.is(yield* p.poll(0x1000, 1025, 0), -ERRNO.EINVAL);
    t.is(yield* p.poll(0x1000, -1, 0), -ERRNO.EINVAL);
  });
});

test('a killed process leaves its poll and its blocking read', (t) => {
  const { kernel, clock } = fakeKernel();
  const process = kernel.createProcess('victim');
  process.start(function* () {
    const at = yield* buffer(process);
    const fd = yield* process.eventfd(0, 0);
    setPoll(process, at, 0, fd, POLLIN);
    yield* process.clone('reader', function* () {
      yield* process.read(fd, at + 64, 8);
      t.fail();
    });
    yield* process.poll(at, 1, -1);
    t.fail();
  });
  clock.after(50_000, () => process.kill());
  clock.run();
  t.true(process.gone);
  t.is(kernel.openFds(), 0);
});
