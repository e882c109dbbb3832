/** One episode: a fresh host, two processes of two threads, and what is left in the end. */

import type { Kernel } from '../../host/kernel/kernel.ts';
import type { Process } from '../../host/kernel/process.ts';
import { Random } from '../../host/machine/random.ts';
import { type Thread, WaitQueue } from '../../host/machine/scheduler.ts';
import type { Task } from '../../host/syscall.ts';
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
} from '../../host/uapi/poll.ts';
import { bootRig, NOTHING, type Rig } from '../vmm/scenario/rig.ts';
import { type Action, actions, THREADS } from './actions.ts';
import { MEMORY_PAGES, PAGE, PAYLOAD } from './fields.ts';

/** Calls of the clock that an episode may take. */
const STEPS = 2_000_000;
const RAM_BYTES = 32 * 2 ** 20;
const FILE_PAGES = 16;
/** The argument of each thread's calls has a place of its own. */
const ARGUMENTS = 0x100;
const SHARED = PROT_READ | PROT_WRITE;

/** What an episode found; null: nothing. */
export interface Outcome {
  readonly problem: string | null;
  readonly calls: number;
  readonly succeeded: number;
}

/** The seed of an episode of a run. */
export function episodeSeed(seed: number, number: number): number {
  const random = new Random(seed);
  const first = random.next();
  return (first + Math.imul(number, 0x9e37_79b1)) >>> 0;
}

export function episodeActions(seed: number): Action[] {
  return actions(new Random(seed));
}

/** @param prepare something to do to the kernel before anybody uses it */
export function runEpisode(
  seed: number,
  list: readonly Action[] = episodeActions(seed),
  prepare: (kernel: Kernel) => void = () => undefined,
): Outcome {
  let episode: Episode | null = null;
  try {
    episode = new Episode(seed, prepare);
    episode.run(list);
    return { problem: null, calls: episode.calls, succeeded: episode.succeeded };
  } catch (error) {
    const problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const { calls = 0, succeeded = 0 } = episode ?? {};
    return { problem, calls, succeeded };
  }
}

class Episode {
  calls = 0;
  succeeded = 0;
  readonly #rig: Rig;
  readonly #processes: Process[] = [];
  readonly #threads: Thread[] = [];
  #steps = 0;

  constructor(seed: number, prepare: (kernel: Kernel) => void) {
    this.#rig = bootRig({ ramBytes: RAM_BYTES, seed, devices: 2, kernel: { selftest: true } });
    prepare(this.#rig.kernel);
  }

  run(list: readonly Action[]): void {
    const { kernel, machine } = this.#rig;
    kernel.failpoints.disarm();
    for (let n = 0; n < THREADS / 2; n++) this.#processes.push(kernel.createProcess(`p${n}`));
    const bases = this.#processes.map((process) => this.#rig.run(prepare(process)));
    this.#processes.forEach((process, n) => {
      const [own, other] = [2 * n, 2 * n + 1].map(
        (number) => () =>
          this.#thread(
            process,
            bases[n]!,
            number,
            list.filter(({ thread }) => thread === number),
          ),
      );
      this.#threads.push(process.start(() => this.#both(process, own!, other!)));
    });
    this.#settle('the threads go on for ever', () => this.#threads.every(({ done }) => done));
    kernel.failpoints.disarm();
    // Whoever waits for something that never comes is killed.
    for (const process of this.#processes) process.kill();
    this.#settle('the processes do not end', () => this.#processes.every(({ gone }) => gone));
    this.#settle('the machine does not come to rest', () => false);
    for (const process of this.#processes) {
      if (!process.gone) throw new Error(`process ${process.name} waits for ever in the kernel`);
    }
    machine.scheduler.rethrow();
    const left = JSON.stringify(kernel.leftovers());
    if (left !== JSON.stringify(NOTHING)) throw new Error(`left behind: ${left}`);
    const { taken } = kernel.memory;
    if (taken !== 0) throw new Error(`left behind: ${taken} things in the kernel's memory`);
  }

  #settle(what: string, done: () => boolean): void {
    const { machine } = this.#rig;
    machine.clock.run(() => this.#steps++ > STEPS || done());
    machine.scheduler.rethrow();
    if (this.#steps > STEPS) throw new Error(what);
  }

  /** The main thread of a process; the other one may outlive its actions, not it. */
  *#both(process: Process, own: () => Task, other: () => Task): Task {
    let done = false;
    const ended = new WaitQueue();
    yield* process.clone('other', function* () {
      try {
        yield* other();
      } finally {
        done = true;
        ended.wake();
      }
    });
    yield* own();
    while (!done) yield ended.killable;
  }

  *#thread(process: Process, base: number, number: number, list: readonly Action[]): Task {
    for (const action of list) {
      if (action.delay > 0) yield action.delay;
      this.calls++;
      const result = yield* this.#act(process, base, number, action);
      if (result >= 0) this.succeeded++;
    }
  }

  #act(process: Process, base: number, number: number, action: Action): Task<number> {
    const { failpoints } = this.#rig.kernel;
    const buffer = base + 0x8000;
    switch (action.do) {
      case 'ioctl':
        return process.ioctl(
          action.fd,
          action.request,
          place(process, base, base + number * ARGUMENTS, action),
        );
      case 'open':
        return process.open(action.path, O_RDWR);
      case 'close':
        return process.close(action.fd);
      case 'dup':
        return process.dup(action.fd);
      case 'poll': {
        const bytes = new Uint8Array(8);
        new DataView(bytes.buffer).setInt32(0, action.fd, true);
        bytes[4] = 5;
        write(process, buffer, bytes);
        return process.poll(buffer, 1, 1000);
      }
      case 'read':
        return process.read(action.fd, buffer, action.count);
      case 'write':
        return process.write(action.fd, buffer, action.count);
      case 'pread':
        return process.pread(action.fd, buffer, action.count, action.offset);
      case 'pwrite':
        return process.pwrite(action.fd, buffer, action.count, action.offset);
      case 'mmap':
        return process.mmap(action.bytes, SHARED, MAP_SHARED, action.fd, action.offset);
      case 'munmap':
        return process.munmap(base + action.page * PAGE, action.pages * PAGE);
      case 'kill':
        return kill(process);
      case 'fail':
        failpoints.failNth(action.n);
        return nothing();
    }
  }
}

/** Memory with a hole behind it, and four files. Returns the memory's address. */
function* prepare(process: Process): Task<number> {
  const bytes = MEMORY_PAGES * PAGE;
  const anonymous = MAP_ANONYMOUS | MAP_PRIVATE;
  const address = yield* process.mmap(2 * bytes, SHARED, anonymous, -1, 0);
  yield* process.munmap(address + bytes, bytes);
  yield* process.open('/dev/iommu', O_RDWR);
  const file = yield* process.memfdCreate('file');
  yield* process.ftruncate(file, FILE_PAGES * PAGE);
  yield* process.open('/dev/vfio/devices/vfio0', O_RDWR);
  yield* process.eventfd(0, 0);
  return address;
}

/** Writes the argument and its payload into memory; where it is. */
function place(
  process: Process,
  base: number,
  own: number,
  action: Extract<Action, { do: 'ioctl' }>,
): number {
  const bytes = action.bytes.slice();
  const view = new DataView(bytes.buffer);
  for (const at of action.pointers) {
    view.setBigUint64(at, view.getBigUint64(at, true) + BigInt(base), true);
  }
  write(process, base + PAYLOAD, action.payload);
  if (action.at < 0) return 0xdead_0000_0000;
  const address = action.at === 0 ? own : base + action.at;
  write(process, address, bytes);
  return address;
}

/** A program that has unmapped its own memory gets no fault signal here. */
function write(process: Process, address: number, bytes: Uint8Array<ArrayBuffer>): void {
  try {
    process.memory.write(address, bytes);
  } catch {
    // The call will find it missing.
  }
}

function* kill(process: Process): Task<number> {
  process.kill();
  return 0;
}

function* nothing(): Task<number> {
  return 0;
}
