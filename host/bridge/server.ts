import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import type { Credentials } from '../kernel/credentials.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Task } from '../syscall.ts';
import { ERRNO } from '../uapi/errno.ts';
import { BridgedMm } from './bridged-mm.ts';
import type { Broker } from './broker.ts';
import { type BridgedCall, type Outcome, perform } from './calls.ts';
import { credentialsOf } from './credentials.ts';
import { BridgedFiles } from './files.ts';
import { ForeignFrames } from './foreign.ts';
import { ProcessMemory } from './process-memory.ts';
import { SharedObjects } from './shared-objects.ts';
import { OpenFiles } from './table.ts';
import { EVENT, encodeReply, OP, type Request, RequestReader } from './wire.ts';

/** Simulated events between two looks at the request pipe while nobody waits for a reply. */
const IDLE_STEPS = 1 << 20;
/** Reply pipes of one process. */
const MAX_CHANNELS = 4096;
const NOTHING = new Uint8Array(0);

/** A real process on the simulated kernel. */
interface Client {
  readonly pid: number;
  /** Changes with its memory: after exec the same process is another client. */
  readonly image: bigint;
  readonly mm: BridgedMm;
  /** Write ends of its threads' reply pipes. */
  readonly channels: Map<number, number>;
}

/** A program, as one of its calls. */
class BridgedCaller implements BridgedCall {
  readonly pid: number;
  readonly mm: BridgedMm;
  readonly files: BridgedFiles;

  constructor({ pid, mm }: Client, files: BridgedFiles) {
    this.pid = pid;
    this.mm = mm;
    this.files = files;
  }

  /** As they are now: a program may drop them at any time. */
  get credentials(): Credentials {
    return credentialsOf(this.pid);
  }
}

/** Told after everything that was open has been closed. */
export type Idle = () => void;

/**
 * Serves real programs on the thread that drives the simulated clock: sleeps in the request pipe,
 * runs the clock until the call is done, answers, and lets what is left of simulated time pass.
 * A call that has to wait for another program stays a thread of the simulated host meanwhile.
 */
export class BridgeServer {
  readonly #kernel: Kernel;
  readonly #broker: Broker;
  readonly #idle: Idle;
  readonly #frames = new ForeignFrames();
  readonly #shared = new SharedObjects(this.#frames);
  readonly #files: OpenFiles;
  readonly #clients = new Map<number, Client>();
  readonly #reader = new RequestReader();
  #status: number | undefined;
  #busy = false;

  constructor(kernel: Kernel, broker: Broker, idle: Idle = () => undefined) {
    this.#kernel = kernel;
    this.#broker = broker;
    this.#idle = idle;
    this.#files = new OpenFiles(kernel, broker);
    kernel.machine.ram.foreign = this.#frames;
    kernel.addLeftover('pins', () => this.#frames.pinned);
  }

  /** Serves until the program that the broker started ends; its exit status, 128 + n for signal n. */
  run(): number {
    while (this.#status === undefined) {
      const room = this.#reader.room();
      this.#reader.added(readSync(this.#broker.requests, room, 0, room.length, null));
      for (let next = this.#reader.next(); next !== undefined; next = this.#reader.next()) {
        this.#take(next);
      }
    }
    for (const client of [...this.#clients.values()]) this.#forget(client);
    return this.#status;
  }

  #take(request: Request): void {
    if (request.op === OP.WAKE) {
      this.#settle();
    } else if (request.op === OP.HELLO) {
      this.#hello(request);
    } else {
      const client = this.#clients.get(request.pid);
      if (client === undefined || client.image !== request.image) return;
      if (request.op === OP.BYE) this.#closeChannel(client, request.channel);
      else if (client.channels.has(request.channel)) this.#serve(client, request);
    }
    this.#pass();
  }

  /** Lets simulated time pass until nothing is left to happen. */
  #pass(): void {
    const { clock, scheduler } = this.#kernel.machine;
    for (let steps = 0; steps < IDLE_STEPS && clock.step(); steps++);
    scheduler.rethrow();
    const busy = this.#files.size > 0;
    if (this.#busy && !busy) this.#idle();
    this.#busy = busy;
  }

  #serve(client: Client, request: Request): void {
    // A connection is made before it is spoken of, and an end comes before what follows from it.
    if (request.op === OP.OPEN || request.op === OP.SETTLE || request.spareFile !== 0) {
      this.#settle();
    }
    const files = new BridgedFiles(request, this.#broker, this.#files);
    this.#runTask(this.#answer(client, new BridgedCaller(client, files), request));
  }

  *#answer(client: Client, call: BridgedCall, request: Request): Task {
    const outcome = yield* perform(this.#kernel, this.#files, call, request);
    if (request.op === OP.READ) this.#files.wasRead(request.file);
    this.#reply(client, request, outcome);
  }

  #reply(client: Client, { channel, sequence }: Request, outcome: Outcome): void {
    const pipe = client.channels.get(channel);
    if (pipe === undefined) return;
    const { result, flags, offset, data } = outcome;
    try {
      writeSync(pipe, encodeReply(sequence, result, flags, offset, data));
    } catch {
      // It does not read, or has gone: it loses its channel, and nobody else anything.
      this.#closeChannel(client, channel);
    }
  }

  /** Runs a kernel task, and the clock until it is done or waits for somebody. */
  #runTask(task: Task): void {
    const { clock, scheduler } = this.#kernel.machine;
    const thread = scheduler.spawn('bridge', task);
    clock.run(() => thread.done);
  }

  /** Takes note of what has begun and ended outside. */
  #settle(): void {
    for (const { kind, a } of this.#broker.drain()) {
      if (kind === EVENT.OPENED) {
        this.#files.connected(a);
      } else if (kind === EVENT.CLOSED) {
        this.#runTask(this.#files.disconnected(a));
      } else if (kind === EVENT.DEAD) {
        const client = this.#clients.get(a);
        if (client !== undefined) this.#forget(client);
      } else {
        this.#status = a;
      }
    }
  }

  /** A thread introduces its reply pipe. */
  #hello(request: Request): void {
    this.#settle();
    const { pid, channel, sequence, args } = request;
    const refused = this.#broker.watch(pid);
    const pipe = openPipe(pid, args[0]);
    if (pipe < 0) return;
    const client = refused < 0 ? undefined : this.#client(request);
    const full = client === undefined || client.channels.size >= MAX_CHANNELS;
    const result = refused < 0 ? refused : full ? -ERRNO.EMFILE : 0;
    if (!full) {
      this.#closeChannel(client, channel);
      client.channels.set(channel, pipe);
      this.#reply(client, request, { result, flags: 0, offset: 0, data: NOTHING });
      return;
    }
    try {
      writeSync(pipe, encodeReply(sequence, result, 0, 0, NOTHING));
    } catch {
      // It has gone already.
    }
    closeSync(pipe);
  }

  #client({ pid, image }: Request): Client | undefined {
    const known = this.#clients.get(pid);
    if (known?.image === image) return known;
    if (known !== undefined) this.#forget(known);
    try {
      const mm = new BridgedMm(new ProcessMemory(pid), this.#frames, this.#shared);
      const client = { pid, image, mm, channels: new Map<number, number>() };
      this.#clients.set(pid, client);
      return client;
    } catch {
      return undefined;
    }
  }

  /** The process, or the image of it, has ended. Its descriptors end by themselves. */
  #forget(client: Client): void {
    this.#clients.delete(client.pid);
    for (const channel of [...client.channels.keys()]) this.#closeChannel(client, channel);
    client.mm.end();
  }

  #closeChannel(client: Client, channel: number): void {
    const pipe = client.channels.get(channel);
    if (pipe === undefined) return;
    client.channels.delete(channel);
    closeSync(pipe);
  }
}

/** The write end of a pipe that the process has open under that number; -1 if it is none. */
function openPipe(pid: number, fd: number): number {
  try {
    const flags = constants.O_WRONLY | constants.O_NONBLOCK;
    const pipe = openSync(`/proc/${pid}/fd/${fd}`, flags);
    if (fstatSync(pipe).isFIFO()) return pipe;
    closeSync(pipe);
  } catch {
    // Not open, or not ours to open.
  }
  return -1;
}
