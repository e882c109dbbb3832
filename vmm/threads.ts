import type { Syscalls, Task } from '../host/syscall.ts';
import { EFD_NONBLOCK, POLLIN, pollfd } from '../host/uapi/poll.ts';
import type { Heap } from './heap.ts';
import { check } from './sys-error.ts';

const COUNTER_BYTES = 8;

/** An eventfd with the VMM's 8-byte buffer for it. */
export class Event {
  readonly fd: number;
  readonly #sys: Syscalls;
  readonly #heap: Heap;

  private constructor(sys: Syscalls, heap: Heap, fd: number) {
    this.#sys = sys;
    this.#heap = heap;
    this.fd = fd;
  }

  /** @throws SysError */
  static *create(sys: Syscalls, heap: Heap, flags = 0): Task<Event> {
    return new Event(sys, heap, check('eventfd', yield* sys.eventfd(0, flags)));
  }

  *signal(): Task {
    const buffer = this.#heap.alloc(COUNTER_BYTES);
    this.#sys.memory.store(buffer, COUNTER_BYTES, 1n);
    yield* this.#sys.write(this.fd, buffer, COUNTER_BYTES);
    this.#heap.free(buffer, COUNTER_BYTES);
  }

  /** Takes the count and resets it; blocks while it is 0 unless the eventfd does not block. */
  *wait(): Task {
    const buffer = this.#heap.alloc(COUNTER_BYTES);
    yield* this.#sys.read(this.fd, buffer, COUNTER_BYTES);
    this.#heap.free(buffer, COUNTER_BYTES);
  }

  /** The same, but gives up after `ns` nanoseconds. */
  *waitAtMost(ns: number): Task {
    const entry = this.#heap.alloc(pollfd.size);
    this.#sys.memory.write(entry, pollfd.encode({ fd: this.fd, events: POLLIN }));
    const ready = yield* this.#sys.poll(entry, 1, ns);
    this.#heap.free(entry, pollfd.size);
    if (ready > 0) yield* this.wait();
  }

  *close(): Task {
    yield* this.#sys.close(this.fd);
  }
}

/** A descriptor that a thread watches, and what to do when it is readable. */
export interface PollSource {
  readonly fd: number;
  readonly handle: () => Task;
}

/** The VMM's helper threads: each watches its descriptors until all are told to stop. */
export class Threads {
  readonly #sys: Syscalls;
  readonly #heap: Heap;
  readonly #stop: Event;
  readonly #done: Event;
  #running = 0;

  private constructor(sys: Syscalls, heap: Heap, stop: Event, done: Event) {
    this.#sys = sys;
    this.#heap = heap;
    this.#stop = stop;
    this.#done = done;
  }

  static *create(sys: Syscalls, heap: Heap): Task<Threads> {
    const stop = yield* Event.create(sys, heap, EFD_NONBLOCK);
    const done = yield* Event.create(sys, heap);
    return new Threads(sys, heap, stop, done);
  }

  *watch(name: string, sources: readonly PollSource[]): Task {
    const body = (): Task => this.#body(sources);
    check('clone', yield* this.#sys.clone(name, body));
    this.#running++;
  }

  /** Ends all threads, waits for them and closes what they waited on. */
  *stop(): Task {
    yield* this.#stop.signal();
    while (this.#running > 0) yield* this.#done.wait();
    yield* this.#stop.close();
    yield* this.#done.close();
  }

  *#body(sources: readonly PollSource[]): Task {
    try {
      yield* this.#loop(sources);
    } finally {
      this.#running--;
      yield* this.#done.signal();
    }
  }

  *#loop(sources: readonly PollSource[]): Task {
    const { memory } = this.#sys;
    const bytes = new Uint8Array(pollfd.size * (sources.length + 1));
    const view = new DataView(bytes.buffer);
    [this.#stop.fd, ...sources.map((source) => source.fd)].forEach((fd, i) => {
      pollfd.write(view, i * pollfd.size, { fd, events: POLLIN });
    });
    const address = this.#heap.alloc(bytes.length);
    while (true) {
      memory.write(address, bytes);
      const ready = yield* this.#sys.poll(address, sources.length + 1, -1);
      if (ready < 0) return;
      memory.read(address, bytes);
      if (pollfd.read(view).revents !== 0) return;
      for (const [i, source] of sources.entries()) {
        const at = (i + 1) * pollfd.size;
        const { revents } = pollfd.read(view, at);
        if ((revents & POLLIN) !== 0) yield* source.handle();
        // Nothing but an error: poll ignores a negative descriptor from here on.
        else if (revents !== 0) pollfd.write(view, at, { fd: -1 });
      }
    }
  }
}
