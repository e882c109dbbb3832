import { WaitQueue } from '../machine/scheduler.ts';
import type { Task } from '../syscall.ts';
import { POLLERR, POLLIN, POLLOUT } from '../uapi/poll.ts';
import { Errno } from './errno.ts';
import type { Caller, FileOps, OpenFile } from './file.ts';

const COUNTER_BYTES = 8;
const ULLONG_MAX = 0xffff_ffff_ffff_ffffn;
/** Highest count that write(2) may reach; only the kernel's own signal saturates above it. */
const MAX_COUNT = ULLONG_MAX - 1n;

/** An eventfd (fs/eventfd.c): a counter that readers wait for. */
export class EventFd implements FileOps {
  readonly name = 'eventfd';
  readonly #semaphore: boolean;
  readonly #queue = new WaitQueue();
  #count: bigint;

  constructor(initial: number, semaphore: boolean) {
    this.#count = BigInt(initial);
    this.#semaphore = semaphore;
  }

  get count(): bigint {
    return this.#count;
  }

  /** eventfd_signal: adds from inside the kernel, never blocks, saturates. */
  signal(n = 1): void {
    const sum = this.#count + BigInt(n);
    this.#count = sum > ULLONG_MAX ? ULLONG_MAX : sum;
    this.#queue.wake();
  }

  /** Errno EINVAL (buffer below 8 bytes), EAGAIN, EFAULT. */
  *read(caller: Caller, file: OpenFile, buffer: number, count: number): Task<number> {
    if (count < COUNTER_BYTES) throw new Errno('EINVAL', `eventfd read of ${count} bytes`);
    while (this.#count === 0n) {
      if (file.nonblocking) throw new Errno('EAGAIN', 'the eventfd counter is 0');
      yield this.#queue.killable;
    }
    const value = this.#semaphore ? 1n : this.#count;
    this.#count -= value;
    this.#queue.wake();
    const bytes = new Uint8Array(COUNTER_BYTES);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    caller.mm.copyTo(BigInt(buffer), bytes);
    return COUNTER_BYTES;
  }

  /** Errno EINVAL (below 8 bytes, or all ones), EAGAIN, EFAULT. */
  *write(caller: Caller, file: OpenFile, buffer: number, count: number): Task<number> {
    if (count < COUNTER_BYTES) throw new Errno('EINVAL', `eventfd write of ${count} bytes`);
    const bytes = caller.mm.copyFrom(BigInt(buffer), COUNTER_BYTES);
    const value = new DataView(bytes.buffer).getBigUint64(0, true);
    if (value === ULLONG_MAX) throw new Errno('EINVAL', 'eventfd write of all ones');
    while (this.#count + value > MAX_COUNT) {
      if (file.nonblocking) throw new Errno('EAGAIN', 'the eventfd counter would overflow');
      yield this.#queue.killable;
    }
    this.#count += value;
    this.#queue.wake();
    return COUNTER_BYTES;
  }

  poll(): { readonly events: number; readonly queue: WaitQueue } {
    const events =
      (this.#count > 0n ? POLLIN : 0) |
      (this.#count === ULLONG_MAX ? POLLERR : 0) |
      (this.#count < MAX_COUNT ? POLLOUT : 0);
    return { events, queue: this.#queue };
  }
}
