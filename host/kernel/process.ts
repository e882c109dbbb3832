import type { Machine } from '../machine/machine.ts';
import { type Thread, WaitQueue } from '../machine/scheduler.ts';
import { Segfault, type Syscalls, type Task, type UserMemory } from '../syscall.ts';
import { EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, O_NONBLOCK, O_RDWR } from '../uapi/poll.ts';
import { KERNEL_NS } from './costs.ts';
import { rootCredentials } from './credentials.ts';
import { Errno } from './errno.ts';
import { EventFd } from './eventfd.ts';
import type { FailPoints } from './failpoint.ts';
import { FdTable } from './fd-table.ts';
import type { Caller, FileOps } from './file.ts';
import {
  controlFile,
  mapMemory,
  noteRefusal,
  readFile,
  unmapMemory,
  writeFile,
} from './file-calls.ts';
import { MemFile } from './memfd.ts';
import { SimulatedMm } from './mm.ts';
import type { PageAllocator } from './page-alloc.ts';
import { pollFiles } from './poll.ts';

/** Exit codes of a process that a signal ended, as a shell shows them. */
export const EXIT_CODE = { CRASHED: 134, KILLED: 137, SEGFAULT: 139 } as const;

const UINT32_MAX = 0xffff_ffff;
const MEMFD_NAME_MAX = 249;

/** The parts of the machine that processes run on. */
export type Platform = Pick<Machine, 'clock' | 'trace' | 'scheduler' | 'ram' | 'root'>;

/** What a process needs of the kernel. */
export interface ProcessHost {
  readonly machine: Platform;
  readonly pages: PageAllocator;
  readonly failpoints: FailPoints;
  /** Numbers of processes and threads. */
  nextPid(): number;
  /** Opens a device node. Errno ENOENT, and what the device says. */
  openDevice(path: string, caller: Caller, flags: number): FileOps;
}

/**
 * A user process: memory, open files, threads, and its system calls, which end with >= 0 or -errno.
 *
 * A kill waits for a call that is under way, unless it waits killably; then its `finally` blocks
 * run. When a process ends, its memory goes before its files (do_exit: exit_mm, exit_files).
 */
export class Process implements Syscalls, Caller {
  readonly pid: number;
  readonly name: string;
  readonly mm: SimulatedMm;
  readonly memory: UserMemory;
  readonly files = new FdTable();
  /** Those of root, until somebody changes them. */
  readonly credentials = rootCredentials();
  /** Woken when everything of the process is gone. */
  readonly exited = new WaitQueue();
  readonly #host: ProcessHost;
  readonly #threads: Thread[] = [];
  #exitCode: number | undefined;
  #gone = false;

  constructor(host: ProcessHost, name: string) {
    const { ram, root } = host.machine;
    this.#host = host;
    this.pid = host.nextPid();
    this.name = name;
    const { pages, failpoints } = host;
    this.mm = new SimulatedMm({ pages, failpoints, ram, root });
    this.memory = this.mm.memory;
  }

  /** Set when the process begins to end. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** Whether everything of the process is gone. */
  get gone(): boolean {
    return this.#gone;
  }

  /** The main thread; the process ends with it. What escapes from it is the thread's error. */
  start<T>(body: () => Task<T>): Thread<T> {
    return this.#spawn(this.name, this.#main(body));
  }

  /** SIGKILL. */
  kill(): void {
    this.#end(EXIT_CODE.KILLED);
  }

  /** Waits until everything of the process is gone, and gives its exit code. */
  *wait(): Task<number> {
    while (!this.#gone) yield this.exited.killable;
    return this.#exitCode!;
  }

  open(path: string, flags: number): Task<number> {
    return this.#call('open', () =>
      this.files.install(this.#host.openDevice(path, this, flags), flags),
    );
  }

  close(fd: number): Task<number> {
    const { files } = this;
    return this.#blockingCall(
      'close',
      (function* () {
        yield* files.close(fd);
        return 0;
      })(),
    );
  }

  ioctl(fd: number, request: number, argument: number): Task<number> {
    const { trace } = this.#host.machine;
    return this.#blockingCall(null, controlFile(trace, this, fd, request, argument));
  }

  read(fd: number, buffer: number, count: number): Task<number> {
    return this.#blockingCall('read', readFile(this, fd, buffer, count));
  }

  write(fd: number, buffer: number, count: number): Task<number> {
    return this.#blockingCall('write', writeFile(this, fd, buffer, count));
  }

  pread(fd: number, buffer: number, count: number, offset: number): Task<number> {
    return this.#blockingCall('pread', readFile(this, fd, buffer, count, offset));
  }

  pwrite(fd: number, buffer: number, count: number, offset: number): Task<number> {
    return this.#blockingCall('pwrite', writeFile(this, fd, buffer, count, offset));
  }

  mmap(length: number, prot: number, flags: number, fd: number, offset: number): Task<number> {
    return this.#call('mmap', () => mapMemory(this, length, prot, flags, fd, offset));
  }

  munmap(address: number, length: number): Task<number> {
    return this.#blockingCall('munmap', unmapMemory(this, address, length));
  }

  /** Errno EINVAL (unknown flags, a value beyond 32 bits), EMFILE. */
  eventfd(initial: number, flags: number): Task<number> {
    return this.#call('eventfd', () => {
      if ((flags & ~(EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC)) !== 0) {
        throw new Errno('EINVAL', `eventfd flags 0x${flags.toString(16)}`);
      }
      if (!Number.isInteger(initial) || initial < 0 || initial > UINT32_MAX) {
        throw new Errno('EINVAL', `eventfd initial value ${initial}`);
      }
      const eventfd = new EventFd(initial, (flags & EFD_SEMAPHORE) !== 0);
      return this.files.install(eventfd, O_RDWR | (flags & O_NONBLOCK));
    });
  }

  /** A file of shared memory, empty. Errno EINVAL (a name too long), EMFILE. */
  memfdCreate(name: string): Task<number> {
    return this.#call('memfd_create', () => {
      if (name.length > MEMFD_NAME_MAX) throw new Errno('EINVAL', `a name of ${name.length}`);
      const { pages, machine } = this.#host;
      return this.files.install(new MemFile(name, pages, machine.ram), O_RDWR);
    });
  }

  /** Errno EBADF, EINVAL (a negative length, a file without length), EFBIG. */
  ftruncate(fd: number, length: number): Task<number> {
    return this.#call('ftruncate', () => {
      const { ops } = this.files.get(fd);
      if (!(ops instanceof MemFile)) throw new Errno('EINVAL', `${ops.name} has no length`);
      ops.truncate(length);
      return 0;
    });
  }

  poll(fds: number, count: number, timeoutNs: number): Task<number> {
    const { clock } = this.#host.machine;
    return this.#blockingCall('poll', pollFiles(this, clock, fds, count, timeoutNs));
  }

  /** Another descriptor for the same open file. Errno EBADF, EMFILE. */
  dup(fd: number): Task<number> {
    return this.#call('dup', () => this.files.dup(fd));
  }

  clone(name: string, body: () => Task): Task<number> {
    return this.#call('clone', () => {
      this.#spawn(name, this.#guarded(body));
      return this.#host.nextPid();
    });
  }

  *exit(code: number): Task<never> {
    this.#end(code & 0xff);
    const never = new WaitQueue();
    while (true) yield never.killable;
  }

  #spawn<T>(name: string, task: Task<T>): Thread<T> {
    if (this.#exitCode !== undefined) throw new Error(`process ${this.name} has ended`);
    const thread = this.#host.machine.scheduler.spawn(name, task);
    this.#threads.push(thread);
    return thread;
  }

  *#main<T>(body: () => Task<T>): Task<T> {
    const result = yield* this.#guarded(body);
    this.#end(0);
    return result;
  }

  /** What escapes from a thread ends the process. */
  *#guarded<T>(body: () => Task<T>): Task<T> {
    try {
      return yield* body();
    } catch (error) {
      this.#end(error instanceof Segfault ? EXIT_CODE.SEGFAULT : EXIT_CODE.CRASHED);
      throw error;
    }
  }

  #end(code: number): void {
    if (this.#exitCode !== undefined) return;
    this.#exitCode = code;
    for (const thread of this.#threads) thread.kill();
    this.#host.machine.scheduler.spawn(`exit:${this.name}`, this.#reap());
  }

  *#reap(): Task {
    for (const thread of this.#threads) {
      while (!thread.done) yield thread.finished;
    }
    for (const file of this.mm.destroy()) yield* file.put();
    yield* this.files.closeAll();
    this.#gone = true;
    this.exited.wake();
  }

  #call(name: string, body: () => number): Task<number> {
    return this.#blockingCall(
      name,
      (function* () {
        return body();
      })(),
    );
  }

  /**
   * The boundary: an Errno becomes -errno, and a kill waits until the call is over.
   *
   * @param name for the trace; null for a call that tells of itself
   */
  *#blockingCall(name: string | null, body: Task<number>): Task<number> {
    const thread = this.#host.machine.scheduler.current;
    if (thread !== null) thread.shield += 1;
    let result: number;
    try {
      yield KERNEL_NS.SYSCALL;
      result = yield* body;
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      if (name !== null) noteRefusal(this.#host.machine.trace, this.pid, name, error);
      result = -error.number;
    } finally {
      if (thread !== null) thread.shield -= 1;
    }
    if (thread?.killed === true) yield 0;
    return result;
  }
}
