import test from 'ava';
import { Errno } from '../../../host/kernel/errno.ts';
import type { FileOps, OpenFile } from '../../../host/kernel/file.ts';
import { EXIT_CODE, type Process } from '../../../host/kernel/process.ts';
import { WaitQueue } from '../../../host/machine/scheduler.ts';
import { Segfault, type Task } from '../../../host/syscall.ts';
import { ERRNO } from '../../../host/uapi/errno.ts';
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  PROT_READ,
  PROT_WRITE,
} from '../../../host/uapi/poll.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { fakeKernel, runProcess } from './support.ts';

const RW = PROT_READ | PROT_WRITE;
const PAGE = 4096;

/** A device that writes down what is asked of it. */
class Probe implements FileOps {
  readonly name = 'probe';
  readonly log: string[] = [];
  readonly gate = new WaitQueue();

  *ioctl(_p: unknown, _file: OpenFile, request: number, argument: number): Task<number> {
    this.log.push(`ioctl ${request} ${argument}`);
    if (request === 1) throw new Errno('EINVAL', 'request 1 is not for you');
    if (request === 2) yield this.gate;
    if (request === 3) yield this.gate.killable;
    this.log.push(`ioctl ${request} done`);
    return argument;
  }

  *pread(_p: unknown, _f: OpenFile, _buffer: number, count: number, at: number): Task<number> {
    this.log.push(`pread ${count}@${at}`);
    return count;
  }

  *write(_p: unknown, _f: OpenFile, _buffer: number, count: number): Task<number> {
    return count;
  }

  mmap(): { physicalAddress: number } {
    return { physicalAddress: 0x3800_0000_0000 };
  }

  *release(): Task {
    this.log.push('release');
  }

  describe(request: number, argument: number): { name: string; args: string } {
    return { name: `PROBE_${request}`, args: `arg=${argument}` };
  }
}

function world() {
  const machine = fakeKernel();
  const probe = new Probe();
  machine.kernel.registerDevice('/dev/probe', () => probe);
  const run = <T>(body: (p: Process) => Task<T>) => runProcess(machine.kernel, body);
  return { ...machine, probe, run };
}

test('open gives the lowest free number, close gives it back, the last close releases', (t) => {
  const { run, probe, kernel } = world();
  const { process } = run(function* (p) {
    t.is(yield* p.open('/dev/none', O_RDWR), -ERRNO.ENOENT);
    t.is(yield* p.open('/dev/probe', O_RDWR), 0);
    t.is(yield* p.open('/dev/probe', O_RDWR), 1);
    t.is(yield* p.dup(0), 2);
    t.is(kernel.openFds(), 3);
    t.is(yield* p.close(0), 0);
    t.deepEqual(probe.log, []);
    t.is(yield* p.close(0), -ERRNO.EBADF);
    t.is(yield* p.open('/dev/probe', O_RDWR), 0);
    t.is(yield* p.close(2), 0);
    t.deepEqual(probe.log, ['release']);
  });
  t.is(probe.log.length, 3);
  t.is(kernel.openFds(), 0);
  t.true(process.gone);
  t.is(process.exitCode, 0);
});

test('a process may have 1024 files open', (t) => {
  const { run } = world();
  run(function* (p) {
    for (let i = 0; i < 1024; i++) yield* p.eventfd(0, 0);
    t.is(yield* p.eventfd(0, 0), -ERRNO.EMFILE);
  });
});

test('ioctl gives the result or -errno, and costs time', (t) => {
  const { run, clock } = world();
  run(function* (p) {
    const fd = yield* p.open('/dev/probe', O_RDWR);
    const before = clock.now;
    t.is(yield* p.ioctl(fd, 7, 42), 42);
    t.true(clock.now > before);
    t.is(yield* p.ioctl(fd, 1, 0), -ERRNO.EINVAL);
    t.is(yield* p.ioctl(99, 1, 0), -ERRNO.EBADF);
    t.is(yield* p.ioctl(yield* p.eventfd(0, 0), 1, 0), -ERRNO.ENOTTY);
  });
});

test('the trace shows why other calls are refused, but not that there is nothing to read yet', (t) => {
  const { run, trace } = world();
  const records: EventRecord[] = [];
  trace.listen((record) => records.push(record));
  run(function* (p) {
    yield* p.open('/dev/none', O_RDWR);
    yield* p.read(33, 0, 1);
    yield* p.read(yield* p.eventfd(0, O_NONBLOCK), 0, 8);
    yield* p.mmap(PAGE, RW, 0, -1, 0);
  });
  const refused = records.filter(({ def }) => def.name === 'syscall:refused');
  t.deepEqual(
    refused.map(({ values }) => [values['call'], values['result'], values['reason']]),
    [
      ['open', '-ENOENT', 'there is no /dev/none'],
      ['read', '-EBADF', 'file descriptor 33 is not open'],
      ['mmap', '-EINVAL', 'mmap flags 0x0: neither shared nor private'],
    ],
  );
});

test('the trace shows the ioctl, its answer and the reason of a refusal', (t) => {
  const { run, trace } = world();
  const records: EventRecord[] = [];
  trace.listen((record) => records.push(record));
  run(function* (p) {
    const fd = yield* p.open('/dev/probe', O_RDWR);
    yield* p.ioctl(fd, 7, 42);
    yield* p.ioctl(fd, 1, 0);
    yield* p.ioctl(77, 1, 0);
  });
  const shown = records.map(({ def, values }) => [def.name, values['name'], values['result']]);
  t.deepEqual(shown, [
    ['syscalls:sys_enter_ioctl', 'PROBE_7', undefined],
    ['syscalls:sys_exit_ioctl', 'PROBE_7', '42'],
    ['syscalls:sys_enter_ioctl', 'PROBE_1', undefined],
    ['syscalls:sys_exit_ioctl', 'PROBE_1', '-EINVAL'],
    ['syscalls:sys_enter_ioctl', '0x1', undefined],
    ['syscalls:sys_exit_ioctl', '0x1', '-EBADF'],
  ]);
  t.is(records[0]!.values['args'], 'arg=42');
  t.is(records[3]!.values['reason'], 'request 1 is not for you');
  t.is(records[1]!.cause, records[0]!.seq);
  t.is(records[2]!.cause, 0);
});

test('reads and writes are checked against the file and its mode', (t) => {
  const { run } = world();
  run(function* (p) {
    const both = yield* p.open('/dev/probe', O_RDWR);
    const readOnly = yield* p.open('/dev/probe', O_RDONLY);
    const writeOnly = yield* p.open('/dev/probe', O_WRONLY);
    t.is(yield* p.write(both, 0, 5), 5);
    t.is(yield* p.write(readOnly, 0, 5), -ERRNO.EBADF);
    t.is(yield* p.pread(both, 0, 5, 100), 5);
    t.is(yield* p.pread(writeOnly, 0, 5, 100), -ERRNO.EBADF);
    t.is(yield* p.pread(both, 0, 5, -1), -ERRNO.EINVAL);
    t.is(yield* p.pread(both, 0, -5, 0), -ERRNO.EINVAL);
    t.is(yield* p.pread(both, 0, 2 ** 40, 0), 0x7fff_f000);
    t.is(yield* p.read(both, 0, 5), -ERRNO.EINVAL);
    t.is(yield* p.pwrite(both, 0, 5, 0), -ERRNO.ESPIPE);
    t.is(yield* p.read(9, 0, 5), -ERRNO.EBADF);
  });
});

test('mmap gives memory, device memory of a file that stays open, or a refusal', (t) => {
  const { run, probe, root } = world();
  root.write(0xb000_8004, 2, 2n);
  run(function* (p) {
    const at = yield* p.mmap(PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p.memory.store(at, 8, 3n);
    t.is(yield* p.munmap(at, PAGE), 0);
    t.throws(() => p.memory.load(at, 8), { instanceOf: Segfault });
    t.is(yield* p.munmap(at + 1, PAGE), -ERRNO.EINVAL);
    const fd = yield* p.open('/dev/probe', O_RDWR);
    const readOnly = yield* p.open('/dev/probe', O_RDONLY);
    const eventfd = yield* p.eventfd(0, 0);
    for (const [flags, file, offset, error] of [
      [MAP_ANONYMOUS, -1, 0, 'EINVAL'],
      [MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0, 'EINVAL'],
      [MAP_SHARED, fd, 1, 'EINVAL'],
      [MAP_SHARED, 99, 0, 'EBADF'],
      [MAP_SHARED, readOnly, 0, 'EACCES'],
      [MAP_SHARED, eventfd, 0, 'ENODEV'],
    ] as const) {
      t.is(yield* p.mmap(PAGE, RW, flags, file, offset), -ERRNO[error]);
    }
    t.is(yield* p.mmap(0, RW, MAP_SHARED, fd, 0), -ERRNO.EINVAL);
    const device = yield* p.mmap(PAGE, RW, MAP_SHARED, fd, 0);
    yield* p.close(fd);
    yield* p.close(readOnly);
    t.deepEqual(probe.log, ['release']);
    p.memory.store(device, 4, 0x55n);
    t.is(root.read(0x3800_0000_0000, 4), 0x55n);
    yield* p.munmap(device, PAGE);
    t.is(probe.log.length, 2);
  });
});

test('threads of a process run side by side and end with it', (t) => {
  const { run } = world();
  const seen: string[] = [];
  const { process } = run(function* (p) {
    const tid = yield* p.clone('child', function* () {
      seen.push('child');
      yield 10;
      seen.push('child again');
      yield 1_000_000;
      seen.push('not reached');
    });
    t.true(tid > p.pid);
    yield 1000;
    seen.push('main');
  });
  t.deepEqual(seen, ['child', 'child again', 'main']);
  t.true(process.gone);
});

test('exit ends every thread with the code; nothing after it runs', (t) => {
  const { run, clock } = world();
  const seen: string[] = [];
  const { process, thread } = run(function* (p): Task {
    yield* p.clone('other', function* () {
      yield 1_000_000;
      seen.push('not reached');
    });
    try {
      yield* p.exit(3);
    } finally {
      seen.push('unwound');
    }
  });
  t.deepEqual(seen, ['unwound']);
  t.true(thread.done);
  t.is(process.exitCode, 3);
  t.true(process.gone);
  t.false(clock.step());
});

test('memory goes before files: pages pinned by a file are released by its release', (t) => {
  const { kernel } = world();
  const { pages } = kernel;
  const free = pages.freePages;
  let freeAtRelease = -1;
  let aliveAtRelease = true;
  kernel.registerDevice('/dev/pin', (p) => {
    let pfns = new Float64Array();
    return {
      name: 'pin',
      *ioctl(caller, _file, _request, argument): Task<number> {
        pfns = caller.mm.pin(BigInt(argument), 2, true);
        return 0;
      },
      *release(): Task {
        freeAtRelease = pages.freePages;
        aliveAtRelease = p.mm.alive;
        p.mm.unpin(pfns);
      },
    };
  });
  runProcess(kernel, function* (p) {
    const at = yield* p.mmap(8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const fd = yield* p.open('/dev/pin', O_RDWR);
    t.is(yield* p.ioctl(fd, 0, at), 0);
    t.is(kernel.leftovers().pins, 2);
  });
  t.is(freeAtRelease, free - 2);
  t.false(aliveAtRelease);
  t.is(pages.freePages, free);
  t.deepEqual(kernel.leftovers(), { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
});

test('a kill takes a process out of a killable wait, through its finally blocks', (t) => {
  const { kernel, probe, clock } = world();
  const seen: string[] = [];
  const process = kernel.createProcess('victim');
  process.start(function* () {
    const fd = yield* process.open('/dev/probe', O_RDWR);
    try {
      yield* process.ioctl(fd, 3, 0);
      seen.push('not reached');
    } finally {
      seen.push('unwound');
    }
  });
  clock.after(10_000, () => process.kill());
  clock.run();
  t.deepEqual(seen, ['unwound']);
  t.deepEqual(probe.log, ['ioctl 3 0', 'release']);
  t.is(process.exitCode, EXIT_CODE.KILLED);
  t.true(process.gone);
  t.is(probe.gate.waiting, 0);
});

test('a kill waits for a call that must not be cut short', (t) => {
  const { kernel, probe, clock } = world();
  const seen: string[] = [];
  const process = kernel.createProcess('victim');
  process.start(function* () {
    const fd = yield* process.open('/dev/probe', O_RDWR);
    yield* process.ioctl(fd, 2, 0);
    seen.push('not reached');
  });
  clock.after(10_000, () => process.kill());
  clock.run();
  t.false(process.gone);
  t.deepEqual(probe.log, ['ioctl 2 0']);
  probe.gate.wake();
  clock.run();
  t.deepEqual(probe.log, ['ioctl 2 0', 'ioctl 2 done', 'release']);
  t.deepEqual(seen, []);
  t.true(process.gone);
});

test('a file that is closed while a call is under way is released after the call', (t) => {
  const { run, probe } = world();
  run(function* (p) {
    const fd = yield* p.open('/dev/probe', O_RDWR);
    yield* p.clone('closer', function* () {
      yield 5000;
      t.is(yield* p.close(fd), 0);
      t.deepEqual(probe.log, ['ioctl 2 0']);
      probe.gate.wake();
    });
    t.is(yield* p.ioctl(fd, 2, 0), 0);
    t.deepEqual(probe.log, ['ioctl 2 0', 'ioctl 2 done', 'release']);
  });
});

test('a segmentation fault ends the process and is seen by the harness', (t) => {
  const { kernel, clock, scheduler } = world();
  const process = kernel.createProcess('bad');
  const thread = process.start(function* () {
    yield 1;
    process.memory.load(0x1000, 8);
  });
  clock.run();
  t.true(thread.error instanceof Segfault);
  t.is(process.exitCode, EXIT_CODE.SEGFAULT);
  t.true(process.gone);
  t.throws(() => scheduler.rethrow(), { instanceOf: Segfault });
});

test('any other error in a thread ends the process too', (t) => {
  const { kernel, clock, scheduler } = world();
  const process = kernel.createProcess('bad');
  process.start(function* () {
    yield* process.clone('helper', function* () {
      throw new Error('broken program');
    });
    yield 1_000_000_000;
    t.fail();
  });
  clock.run();
  t.is(process.exitCode, EXIT_CODE.CRASHED);
  t.throws(() => scheduler.rethrow(), { message: 'broken program' });
});

test('wait tells when everything is gone', (t) => {
  const { kernel, clock, scheduler } = world();
  const child = kernel.createProcess('child');
  child.start(function* () {
    yield 500;
    yield* child.exit(9);
  });
  const waiter = scheduler.spawn('waiter', child.wait());
  clock.run();
  t.is(waiter.result, 9);
  t.throws(() => child.start(function* () {}), { message: /has ended/ });
});
