import type { VirtualClock } from '../machine/clock.ts';
import { type WaitQueue, waitAny } from '../machine/scheduler.ts';
import type { Task } from '../syscall.ts';
import {
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  POLLRDNORM,
  POLLWRNORM,
  pollfd,
} from '../uapi/poll.ts';
import { Errno } from './errno.ts';
import { MAX_FDS } from './fd-table.ts';
import type { Caller } from './file.ts';

/** What a file without a poll operation answers (DEFAULT_POLLMASK). */
const ALWAYS_READY = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
/** Reported even if not asked for. */
const UNASKED = POLLERR | POLLHUP;
const MAX_TIMEOUT_NS = 2 ** 52;

/**
 * poll(2) on an array of struct pollfd at `address`: waits until one is ready, or `timeoutNs` (-1:
 * no timeout) is over. Returns how many are ready. Errno EINVAL (too many), EFAULT.
 */
export function* pollFiles(
  caller: Caller,
  clock: VirtualClock,
  address: number,
  count: number,
  timeoutNs: number,
): Task<number> {
  if (!Number.isInteger(count) || count < 0 || count > MAX_FDS) {
    throw new Errno('EINVAL', `poll of ${count} files`);
  }
  const bytes = caller.mm.copyFrom(BigInt(address), count * pollfd.size);
  const view = new DataView(bytes.buffer);
  const deadline = timeoutNs < 0 ? Infinity : clock.now + Math.min(timeoutNs, MAX_TIMEOUT_NS);
  for (;;) {
    const { ready, queues } = look(caller, view, count);
    if (ready > 0 || clock.now >= deadline) {
      caller.mm.copyTo(BigInt(address), bytes);
      return ready;
    }
    yield waitAny(queues, deadline === Infinity ? -1 : deadline - clock.now);
  }
}

/** Fills the `revents` of all, and collects what to wait for. */
function look(
  caller: Caller,
  view: DataView,
  count: number,
): { ready: number; queues: WaitQueue[] } {
  const queues: WaitQueue[] = [];
  let ready = 0;
  for (let i = 0; i < count; i++) {
    const at = i * pollfd.size;
    const { fd, events } = pollfd.read(view, at);
    const revents = fd < 0 ? 0 : filePoll(caller, fd, queues) & (events | UNASKED | POLLNVAL);
    pollfd.write(view, at, { revents });
    if (revents !== 0) ready += 1;
  }
  return { ready, queues };
}

function filePoll(caller: Caller, fd: number, queues: WaitQueue[]): number {
  const file = caller.files.peek(fd);
  if (file === undefined) return POLLNVAL;
  const polled = file.ops.poll?.(file);
  if (polled === undefined) return ALWAYS_READY;
  queues.push(polled.queue);
  return polled.events;
}
