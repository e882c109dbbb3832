/** The cooperative scheduler inside the one vCPU. */
import type { Tracer } from '../trace/tracer.ts';
import type { Cpu, GuestMachine } from './cpu.ts';
import type { Interrupts } from './irq.ts';
import { type Task, type Waiter, WaitQueue } from './task.ts';

/** What must be loaded into the CPU before a thread runs (address space, per-thread MSRs). */
export interface ThreadContext {
  activate(): void;
}

/** One flow of control. `result` is valid when `done` and `error` is undefined. */
export class Thread<T = unknown> implements Waiter {
  readonly name: string;
  readonly finished = new WaitQueue();
  readonly task: Task<T>;
  readonly context: ThreadContext | null;
  done = false;
  result: T | undefined;
  error: unknown;
  /** Trace cause to resume with. */
  cause: number;
  /** Spans of its own that are open while it waits. */
  depth = 0;
  /** Trace cause outside every span of the thread's own: spawner, then wakers. */
  base: number;
  queue: WaitQueue | null = null;
  /** Time stamp at which a timed wait ends; Infinity for none. */
  deadline = Infinity;
  readonly #ready: (thread: Thread) => void;

  constructor(
    name: string,
    task: Task<T>,
    context: ThreadContext | null,
    cause: number,
    ready: (thread: Thread) => void,
  ) {
    this.name = name;
    this.task = task;
    this.context = context;
    this.cause = cause;
    this.base = cause;
    this.#ready = ready;
  }

  wakeUp(): void {
    this.#ready(this);
  }
}

/**
 * Runs threads first in, first out. A thread keeps the CPU until it waits: an exit is passed up to
 * the VMM and its value back down without a switch. Interrupts are taken between slices; handlers
 * only wake threads. With nothing to run the CPU pauses until the next timed wait ends, or halts.
 */
export class Scheduler {
  readonly #cpu: Cpu;
  readonly #trace: Tracer;
  readonly #interrupts: Interrupts;
  readonly #ready: Thread[] = [];
  /** Threads with a deadline, soonest first. */
  readonly #timed: Thread[] = [];
  /** Trace cause of what ran last: the processor is idle because that had nothing more to do. */
  #last = 0;

  constructor(cpu: Cpu, trace: Tracer, interrupts: Interrupts) {
    this.#cpu = cpu;
    this.#trace = trace;
    this.#interrupts = interrupts;
  }

  /** Starts a thread; it runs when the current one waits. */
  spawn<T>(name: string, task: Task<T>, context: ThreadContext | null = null): Thread<T> {
    const thread = new Thread(name, task, context, this.#trace.cause, (woken) => {
      this.#wake(woken, true);
    });
    this.#ready.push(thread);
    return thread;
  }

  /**
   * Runs until `thread` is done and returns its result. An error that escapes any thread ends the
   * run and is thrown here: in a kernel thread it means the kernel cannot go on.
   */
  *run<T>(thread: Thread<T>): GuestMachine<T> {
    while (!thread.done) {
      this.#interrupts.dispatch();
      this.#expire();
      const next = this.#ready.shift();
      if (next === undefined) yield* this.#idle();
      else yield* this.#slice(next);
    }
    return thread.result as T;
  }

  *#idle(): GuestMachine {
    this.#trace.cause = this.#last;
    const deadline = this.#timed[0]?.deadline;
    if (deadline === undefined) yield { kind: 'hlt' };
    else yield { kind: 'pause', ns: Math.max(1, deadline - this.#cpu.tsc) };
  }

  *#slice(thread: Thread): GuestMachine {
    const trace = this.#trace;
    thread.context?.activate();
    trace.cause = thread.cause;
    const outer = trace.depth;
    trace.depth += thread.depth;
    let value = 0n;
    while (true) {
      const step = this.#step(thread, value);
      if (step.done === true) break;
      if (step.value.kind === 'wait') {
        this.#block(thread, step.value.queue, step.value.ns);
        break;
      }
      const cause = trace.cause;
      value = yield step.value;
      trace.cause = cause;
    }
    thread.depth = trace.depth - outer;
    trace.depth = outer;
    if (trace.cause !== 0) this.#last = trace.cause;
    trace.cause = 0;
  }

  #step(thread: Thread, value: bigint): ReturnType<Thread['task']['next']> {
    try {
      const step = thread.task.next(value);
      if (step.done === true) this.#finish(thread, step.value, undefined);
      return step;
    } catch (error) {
      this.#finish(thread, undefined, error);
      throw error;
    }
  }

  #finish(thread: Thread, result: unknown, error: unknown): void {
    thread.done = true;
    thread.result = result;
    thread.error = error;
    thread.finished.wake();
  }

  #block(thread: Thread, queue: WaitQueue | null, ns: number | null): void {
    thread.cause = this.#trace.cause;
    thread.queue = queue;
    queue?.add(thread);
    if (ns === null) return;
    thread.deadline = this.#cpu.tsc + Math.max(0, ns);
    let at = this.#timed.length;
    while (at > 0 && this.#timed[at - 1]!.deadline > thread.deadline) at--;
    this.#timed.splice(at, 0, thread);
  }

  #expire(): void {
    const now = this.#cpu.tsc;
    while (this.#timed.length > 0 && this.#timed[0]!.deadline <= now) {
      this.#wake(this.#timed[0]!, false);
    }
  }

  /** A thread without an open span descends from now on from whoever woke it. */
  #wake(thread: Thread, adopt: boolean): void {
    thread.queue?.remove(thread);
    thread.queue = null;
    if (thread.deadline !== Infinity) {
      thread.deadline = Infinity;
      this.#timed.splice(this.#timed.indexOf(thread), 1);
    }
    if (adopt && thread.cause === thread.base) {
      thread.cause = this.#trace.cause;
      thread.base = this.#trace.cause;
    }
    this.#ready.push(thread);
  }
}
