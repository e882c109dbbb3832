import type { Tracer } from '../../trace/tracer.ts';
import type { Timer, VirtualClock } from './clock.ts';
import type { Task, Wait, Waitable } from './task.ts';

/** Pauses in a row that a driven thread passes through before the clock takes over. */
const EAGER_STEPS = 4096;

type State = 'ready' | 'running' | 'blocked' | 'done';

/** A wait on any of several queues and, from 0 on, a timeout. What `yield` hands to the scheduler. */
class AnyWait implements Waitable {
  readonly waitable = true;
  readonly queues: readonly WaitQueue[];
  readonly timeoutNs: number;

  constructor(queues: readonly WaitQueue[], timeoutNs: number) {
    this.queues = queues;
    this.timeoutNs = timeoutNs;
  }
}

/**
 * Waits for a wake-up of any of the queues, or `timeoutNs` (-1: no timeout); a kill ends the wait.
 * Which it was the waiter finds out by looking at its condition and at the clock.
 */
export function waitAny(queues: readonly WaitQueue[], timeoutNs = -1): Waitable {
  return new AnyWait(queues, timeoutNs);
}

/**
 * Threads that wait for something to change. `yield queue` blocks until it is woken, and a kill
 * waits too; `yield queue.killable` is a wait that a kill may end. Always re-check the condition.
 */
export class WaitQueue implements Waitable {
  readonly waitable = true;
  /** The same wait, which a kill may end: the generator is returned from there. */
  readonly killable: Waitable = new AnyWait([this], -1);
  readonly #threads = new Set<Thread>();

  /** How many threads wait. */
  get waiting(): number {
    return this.#threads.size;
  }

  /** Wakes all, first come first. */
  wake(): void {
    for (const thread of [...this.#threads]) thread.wake();
  }

  /** Wakes the one that has waited longest. */
  wakeOne(): void {
    for (const thread of this.#threads) {
      thread.wake();
      return;
    }
  }

  /** For the scheduler. */
  add(thread: Thread): void {
    this.#threads.add(thread);
  }

  /** For the scheduler. */
  remove(thread: Thread): void {
    this.#threads.delete(thread);
  }
}

/**
 * A thread of the host: a generator that the scheduler resumes. It runs until its next `yield`.
 *
 * Cause of events: a thread starts with its creator's; while it has a span open it keeps its own;
 * otherwise whoever wakes it hands on theirs.
 */
export class Thread<T = unknown> {
  readonly name: string;
  #finished: WaitQueue | null = null;
  /** While > 0, a kill waits for a killable wait or for the count to fall to 0. */
  shield = 0;
  #state: State = 'ready';
  #killed = false;
  #unwinding = false;
  #result: T | undefined;
  #error: unknown;
  #failed = false;
  #cause = 0;
  /** Spans of its own that are open while it waits. */
  #depth = 0;
  #woken = true;
  /** Pauses that the thread may still pass through without leaving `resume`. */
  #eager = 0;
  #killable = false;
  #queues: readonly WaitQueue[] = [];
  #timer: Timer | null = null;
  readonly #task: Task<T>;
  readonly #scheduler: Scheduler;

  constructor(scheduler: Scheduler, name: string, task: Task<T>) {
    this.name = name;
    this.#scheduler = scheduler;
    this.#task = task;
  }

  /** Woken when the thread has ended. */
  get finished(): WaitQueue {
    this.#finished ??= new WaitQueue();
    return this.#finished;
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  get killed(): boolean {
    return this.#killed;
  }

  /** What the task returned; undefined before, and for a thread that was killed or failed. */
  get result(): T | undefined {
    return this.#result;
  }

  /** What escaped from the task. */
  get error(): unknown {
    return this.#error;
  }

  get failed(): boolean {
    return this.#failed;
  }

  /**
   * Ends the thread: at once if it waits outside a shield or killably, else at the next such point.
   * Its generator is returned from, so its `finally` blocks run; those may block.
   */
  kill(): void {
    if (this.#killed || this.done) return;
    this.#killed = true;
    if (this.#state === 'blocked' && this.#mayEnd()) this.wake();
  }

  /** Waits for the end; gives the result or rethrows what escaped (which then counts as observed). */
  *join(): Task<T | undefined> {
    while (!this.done) yield this.finished.killable;
    if (this.#failed) {
      this.#scheduler.observed(this);
      throw this.#error;
    }
    return this.#result;
  }

  /** For the scheduler and wait queues: ends the present wait. */
  wake(): void {
    if (this.#state !== 'blocked') return;
    this.#leaveQueues();
    this.#woken = true;
    this.#makeReady();
  }

  /** For the scheduler: runs from a clock call until the next wait. */
  resume(): void {
    const { trace } = this.#scheduler;
    const outer = trace.depth;
    if (!this.#woken || this.#depth > 0) trace.cause = this.#cause;
    trace.depth = this.#depth;
    this.#woken = false;
    this.#state = 'running';
    try {
      let step = this.#advance();
      while (this.#eager > 0 && step.done !== true && this.#passes(step.value)) {
        step = this.#advance();
      }
      this.#cause = trace.cause;
      this.#depth = trace.depth;
      if (step.done === true) this.#end(step.value);
      else this.#block(step.value);
    } catch (error) {
      this.#failed = true;
      this.#error = error;
      this.#end(undefined);
    } finally {
      trace.depth = outer;
    }
  }

  /** For the scheduler: first run, with the creator's cause. */
  start(): void {
    this.#makeReady();
  }

  /** For the scheduler: first run, now; pauses in which nothing else happens do not end it. */
  drive(): void {
    const { trace } = this.#scheduler;
    const outer = trace.cause;
    this.#eager = EAGER_STEPS;
    this.#scheduler.run(this);
    this.#eager = 0;
    trace.cause = outer;
  }

  #passes(wait: Wait): boolean {
    if (typeof wait !== 'number' || !this.#scheduler.clock.skip(wait)) return false;
    this.#eager -= 1;
    return true;
  }

  #advance(): IteratorResult<Wait, T | undefined> {
    // A thread that was killed before it ever ran, or while it was ready, ends here.
    if (this.#killed && !this.#unwinding && this.#mayEnd()) return this.#unwind();
    const step = this.#task.next();
    if (step.done === true || !this.#killed || this.#unwinding) return step;
    this.#killable = step.value instanceof AnyWait;
    return this.#mayEnd() ? this.#unwind() : step;
  }

  #mayEnd(): boolean {
    return !this.#unwinding && (this.shield === 0 || this.#killable);
  }

  #unwind(): IteratorResult<Wait, T | undefined> {
    this.#unwinding = true;
    return (this.#task as Generator<Wait, T | undefined, void>).return(undefined);
  }

  #block(wait: Wait): void {
    this.#state = 'blocked';
    this.#killable = wait instanceof AnyWait;
    if (typeof wait === 'number') {
      this.#timer = this.#scheduler.clock.timer(wait, () => this.#timeOut());
    } else if (wait instanceof WaitQueue) {
      this.#waitOn([wait]);
    } else if (wait instanceof AnyWait) {
      this.#waitOn(wait.queues);
      if (wait.timeoutNs >= 0) {
        this.#timer = this.#scheduler.clock.timer(wait.timeoutNs, () => this.#timeOut());
      }
    } else {
      throw new TypeError(`thread ${this.name} waits for something the scheduler does not know`);
    }
  }

  #waitOn(queues: readonly WaitQueue[]): void {
    this.#queues = queues;
    for (const queue of queues) queue.add(this);
  }

  /** The thread's own time is over: it goes on with its own cause. */
  #timeOut(): void {
    this.#leaveQueues();
    this.#scheduler.run(this);
  }

  #leaveQueues(): void {
    for (const queue of this.#queues) queue.remove(this);
    this.#queues = [];
    this.#timer?.cancel();
    this.#timer = null;
  }

  #makeReady(): void {
    this.#state = 'ready';
    this.#scheduler.clock.after(0, () => this.#scheduler.run(this));
  }

  #end(result: T | undefined): void {
    this.#state = 'done';
    this.#result = result;
    this.#scheduler.ended(this);
    this.#finished?.wake();
  }
}

/** Runs threads, one step per clock call: first come, first served, and always the same way. */
export class Scheduler {
  readonly clock: VirtualClock;
  readonly trace: Tracer;
  /** Threads that failed and whose error nobody has observed with `join`. */
  readonly failures: Thread[] = [];
  #current: Thread | null = null;

  constructor(clock: VirtualClock, trace: Tracer) {
    this.clock = clock;
    this.trace = trace;
  }

  /** The thread that runs now. */
  get current(): Thread | null {
    return this.#current;
  }

  /** A new thread; it first runs from the clock, not before this returns. */
  spawn<T>(name: string, task: Task<T>): Thread<T> {
    const thread = new Thread(this, name, task);
    thread.start();
    return thread;
  }

  /**
   * A new thread, run at once up to its first real wait: it is done, or goes on from the clock. What
   * happens and when is the same as with `spawn` while nothing else is ready.
   */
  drive<T>(name: string, task: Task<T>): Thread<T> {
    const thread = new Thread(this, name, task);
    thread.drive();
    return thread;
  }

  /** Throws the first error that nobody observed. */
  rethrow(): void {
    const thread = this.failures.shift();
    if (thread !== undefined) throw thread.error;
  }

  /** For threads. */
  run(thread: Thread): void {
    const outer = this.#current;
    this.#current = thread;
    try {
      thread.resume();
    } finally {
      this.#current = outer;
    }
  }

  /** For threads. */
  ended(thread: Thread): void {
    if (thread.failed) this.failures.push(thread);
  }

  /** For threads. */
  observed(thread: Thread): void {
    const at = this.failures.indexOf(thread);
    if (at >= 0) this.failures.splice(at, 1);
  }
}

/**
 * A lock that passes on in order of arrival.
 * `yield* m.lock(); try { ... } finally { m.unlock(); }`
 */
export class Mutex {
  #locked = false;
  readonly #line: { readonly queue: WaitQueue; granted: boolean }[] = [];

  get locked(): boolean {
    return this.#locked;
  }

  *lock(): Task {
    if (!this.#locked) {
      this.#locked = true;
      return;
    }
    const place = { queue: new WaitQueue(), granted: false };
    this.#line.push(place);
    let taken = false;
    try {
      while (!place.granted) yield place.queue;
      taken = true;
    } finally {
      if (!taken) this.#leave(place);
    }
  }

  unlock(): void {
    if (!this.#locked) throw new Error('unlock of a mutex that is not locked');
    const next = this.#line.shift();
    if (next === undefined) {
      this.#locked = false;
      return;
    }
    next.granted = true;
    next.queue.wake();
  }

  /** The waiter was killed: its place goes, and a lock already handed to it goes on. */
  #leave(place: { readonly queue: WaitQueue; granted: boolean }): void {
    const at = this.#line.indexOf(place);
    if (at >= 0) this.#line.splice(at, 1);
    else if (place.granted) this.unlock();
  }
}
