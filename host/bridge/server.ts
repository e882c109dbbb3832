import { readSync, writeSync } from 'node:fs';
import type { Credentials } from '../kernel/credentials.ts';
import type { Kernel, Thread } from '../kernel/kernel.ts';
import type { Task } from '../syscall.ts';
import { ERRNO } from '../uapi/errno.ts';
import type { BridgedMm, InlineArgument } from './bridged-mm.ts';
import { type Broker, BrokerGone } from './broker.ts';
import { type BridgedCall, type Outcome, perform } from './calls.ts';
import { type Client, Clients } from './clients.ts';
import { BridgedFiles } from './files.ts';
import { ForeignFrames } from './foreign.ts';
import { Places } from './places.ts';
import { SharedObjects } from './shared-objects.ts';
import { OpenFiles } from './table.ts';
import { EVENT, OP, REPLY, type Request, RequestReader } from './wire.ts';

/** Simulated events in a row before the request pipe is looked at again. */
const MAX_STEPS = 1 << 20;
/** Defects shown; a program could provoke any number. */
const MAX_TOLD = 20;
const NOTHING = new Uint8Array(0);
const STALE = { result: -ERRNO.EBADF, flags: REPLY.STALE, data: NOTHING } as const;

/** A program, as one of its calls. */
class BridgedCaller implements BridgedCall {
  readonly pid: number;
  readonly tid: number;
  readonly mm: BridgedMm;
  readonly files: BridgedFiles;
  readonly places: Places;
  argument: InlineArgument | null = null;
  readonly answer: (outcome: Outcome) => void;
  #credentials: Credentials | null = null;

  constructor(
    { pid, mm }: Client,
    tid: number,
    files: BridgedFiles,
    places: Places,
    answer: (outcome: Outcome) => void,
  ) {
    this.pid = pid;
    this.tid = tid;
    this.mm = mm;
    this.files = files;
    this.places = places;
    this.answer = answer;
  }

  /** Those with which the call began. */
  get credentials(): Credentials {
    this.#credentials ??= this.mm.credentials;
    return this.#credentials;
  }
}

/** Told after everything that was open has been closed. */
export type Idle = () => void;

/** Told before the server sleeps: whoever follows the trace should see what there is. */
export type Rest = () => void;

/**
 * Serves real programs on the thread that drives the simulated clock: sleeps in the request pipe,
 * runs the clock until the call is done, answers, and lets what is left of simulated time pass.
 * A call that has to wait for another program stays a thread of the simulated host meanwhile.
 */
export class BridgeServer {
  readonly #kernel: Kernel;
  readonly #broker: Broker;
  readonly #idle: Idle;
  readonly #rest: Rest;
  readonly #frames = new ForeignFrames();
  readonly #files: OpenFiles;
  readonly #clients: Clients;
  readonly #places: Places;
  readonly #reader = new RequestReader();
  /** The real threads behind the threads of the simulated host that wait. */
  readonly #tasks = new WeakMap<Thread, object>();
  /** The real thread whose call is served now. */
  #task: object | null = null;
  readonly #defect = (error: unknown): void => {
    this.#tell(error);
  };
  #status: number | undefined;
  #busy = false;
  #told = 0;

  constructor(
    kernel: Kernel,
    broker: Broker,
    idle: Idle = () => undefined,
    rest: Rest = () => undefined,
  ) {
    this.#kernel = kernel;
    this.#broker = broker;
    this.#idle = idle;
    this.#rest = rest;
    this.#files = new OpenFiles(kernel, broker);
    const shared = new SharedObjects(this.#frames);
    this.#clients = new Clients(this.#frames, shared, kernel.failpoints);
    this.#places = new Places(kernel, broker.tree, (pid) => this.#clients.withPid(pid)?.mm);
    kernel.failpoints.currentTask = () => {
      const { current } = kernel.machine.scheduler;
      return (current !== null ? this.#tasks.get(current) : undefined) ?? this.#task;
    };
    kernel.machine.ram.foreign = this.#frames;
    this.#frames.watcher = kernel.pages.watcher;
    kernel.addLeftover('pins', () => this.#frames.pinned);
  }

  /**
   * Serves until the program that the broker started ends; its exit status, 128 + n for signal n.
   *
   * @throws BrokerGone
   */
  run(): number {
    const { requests } = this.#broker;
    const reader = this.#reader;
    while (this.#status === undefined) {
      this.#rest();
      const at = reader.room();
      const got = readSync(requests, reader.bytes, at, reader.bytes.length - at, null);
      if (got === 0) throw new BrokerGone();
      reader.added(got);
      for (let next = reader.next(); next !== undefined; next = reader.next()) this.#take(next);
    }
    this.#clients.clear();
    return this.#status;
  }

  #take(request: Request): void {
    this.#clients.moment.now++;
    if (request.op === OP.WAKE) {
      this.#settle();
    } else if (request.op === OP.HELLO) {
      this.#hello(request);
    } else {
      const client = this.#clients.of(request);
      if (client === undefined) return;
      if (request.op === OP.BYE) this.#clients.leave(client, request.channel);
      else this.#serve(client, request);
    }
    this.#pass();
  }

  /** Lets simulated time pass until nothing is left to happen. */
  #pass(): void {
    const { clock, scheduler } = this.#kernel.machine;
    for (let steps = 0; steps < MAX_STEPS && clock.step(); steps++);
    while (scheduler.failures.length > 0) {
      const { error } = scheduler.failures.shift()!;
      if (error instanceof BrokerGone) throw error;
      this.#tell(error);
    }
    const busy = this.#files.size > 0;
    if (this.#busy && !busy) this.#idle();
    this.#busy = busy;
  }

  #serve(client: Client, request: Request): void {
    const channel = client.channels.get(request.channel);
    if (channel === undefined) return;
    const { op, file } = request;
    // A connection is made before it is spoken of, and an end comes before what follows from it.
    if (op === OP.OPEN || op === OP.SETTLE || request.spareFile !== 0) this.#settle();
    if (op !== OP.OPEN && file !== 0 && this.#files.fileOf(file) === undefined) {
      this.#clients.reply(client, request, STALE);
      return;
    }
    const files = new BridgedFiles(request, this.#broker, this.#files, (fd) =>
      client.mm.memoryFile(fd),
    );
    const call = new BridgedCaller(client, channel.tid, files, this.#places, (outcome) => {
      this.#answer(client, request, outcome);
    });
    this.#task = this.#places.taskOf(call);
    const thread = this.#drive(perform(this.#kernel, this.#files, call, request, this.#defect));
    if (!thread.done) {
      this.#tasks.set(thread, this.#task);
      client.waiting.add(thread);
      // What came with the request lies where the next one will be read.
      call.argument?.own();
    }
    this.#task = null;
    this.#finish(thread);
  }

  #answer(client: Client, request: Request, outcome: Outcome): void {
    if (request.op === OP.READ) this.#files.wasRead(request.file);
    this.#clients.reply(client, request, outcome);
    if (client.waiting.size > 0) this.#tidy(client);
  }

  /** Forgets the calls that wait no more; the present one is over next time. */
  #tidy({ waiting }: Client): void {
    for (const thread of waiting) if (thread.done) waiting.delete(thread);
  }

  /** Starts a kernel task, which runs up to its first real wait. */
  #drive(task: Task): Thread {
    return this.#kernel.machine.scheduler.drive('bridge', task);
  }

  /** Runs the clock until the thread is done or waits for somebody. */
  #finish(thread: Thread): void {
    const { clock } = this.#kernel.machine;
    for (let steps = 0; !thread.done && steps < MAX_STEPS && clock.step(); steps++);
  }

  /** Takes note of what has begun and ended outside. */
  #settle(): void {
    for (const { kind, a, b } of this.#broker.drain()) {
      if (kind === EVENT.OPENED) this.#files.connected(a);
      else if (kind === EVENT.CLOSED) this.#finish(this.#drive(this.#files.disconnected(a)));
      else if (kind === EVENT.DEAD) this.#ended(a);
      else if (kind === EVENT.INVITED) this.#clients.invite(a, b);
      else this.#status = a;
    }
  }

  #ended(pid: number): void {
    this.#clients.ended(pid);
    this.#places.ended(pid);
  }

  /** A thread introduces its reply pipe. */
  #hello(request: Request): void {
    this.#settle();
    const { pid, args } = request;
    if (this.#clients.admit(pid, args[2]) && this.#broker.watch(pid) >= 0) {
      this.#clients.introduce(request);
    }
  }

  /** A defect of the model: it costs one call, and is not kept quiet. */
  #tell(error: unknown): void {
    this.#told += 1;
    if (this.#told > MAX_TOLD) return;
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const last = this.#told === MAX_TOLD ? 'vsva: further defects are not shown\n' : '';
    try {
      writeSync(2, `vsva: a defect of the model, answered with EIO: ${what}\n${last}`);
    } catch {
      // Nobody listens.
    }
  }
}
