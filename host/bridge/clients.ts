import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import type { FailPoints } from '../kernel/failpoint.ts';
import type { Thread } from '../kernel/kernel.ts';
import { BridgedMm } from './bridged-mm.ts';
import type { Outcome } from './calls.ts';
import type { ForeignFrames } from './foreign.ts';
import type { Moment } from './maps.ts';
import { ProcessMemory } from './process-memory.ts';
import type { SharedObjects } from './shared-objects.ts';
import { ReplyWriter, type Request } from './wire.ts';

/** Reply pipes of one process. */
const MAX_CHANNELS = 4096;
/** Connections that were accepted and have not said what for. */
const MAX_INVITED = 4096;
const WELCOME: Outcome = { result: 0, flags: 0, data: new Uint8Array(0) };

/** One thread's way to get answers. */
export interface Channel {
  /** Write end of its reply pipe. */
  readonly pipe: number;
  readonly tid: number;
}

/** A real process on the simulated kernel. */
export interface Client {
  readonly pid: number;
  /** Two halves; change with its memory: after exec the same process is another client. */
  readonly imageLow: number;
  readonly imageHigh: number;
  readonly mm: BridgedMm;
  readonly channels: Map<number, Channel>;
  /** Its calls that wait for something. */
  readonly waiting: Set<Thread>;
}

/** The processes that talk to the engine, and the pipes through which it answers them. */
export class Clients {
  /** Goes on with every request. */
  readonly moment: Moment = { now: 0 };
  readonly #frames: ForeignFrames;
  readonly #shared: SharedObjects;
  readonly #failpoints: FailPoints;
  readonly #clients = new Map<number, Client>();
  /** Whom the broker let in, by the number that it gave them. */
  readonly #invited = new Map<number, number>();
  readonly #reply = new ReplyWriter();

  constructor(frames: ForeignFrames, shared: SharedObjects, failpoints: FailPoints) {
    this.#failpoints = failpoints;
    this.#frames = frames;
    this.#shared = shared;
  }

  /** The broker knows from the connection that `token` was given to process `pid`. */
  invite(pid: number, token: number): void {
    if (this.#invited.size >= MAX_INVITED) {
      for (const oldest of this.#invited.keys()) {
        this.#invited.delete(oldest);
        break;
      }
    }
    this.#invited.set(token, pid);
  }

  /** Whether the process has that invitation, which it uses up. */
  admit(pid: number, token: number): boolean {
    if (this.#invited.get(token) !== pid) return false;
    return this.#invited.delete(token);
  }

  /** Who sends this; undefined for a stranger, or one that pretends. */
  of({ pid, imageLow, imageHigh }: Request): Client | undefined {
    const client = this.#clients.get(pid);
    if (client?.imageLow !== imageLow || client.imageHigh !== imageHigh) return undefined;
    return client;
  }

  withPid(pid: number): Client | undefined {
    return this.#clients.get(pid);
  }

  /**
   * Opens the reply pipe of a thread whose process was admitted, and answers 0. Nothing happens if
   * the process has gone, or has too many.
   */
  introduce(request: Request): void {
    const { pid, channel, args } = request;
    const pipe = openPipe(pid, args[0]);
    if (pipe < 0) return;
    const client = this.#made(request);
    if (client === undefined || client.channels.size >= MAX_CHANNELS) {
      closeSync(pipe);
      return;
    }
    this.leave(client, channel);
    client.channels.set(channel, { pipe, tid: args[1] });
    this.reply(client, request, WELCOME);
  }

  reply(client: Client, request: Request, { result, flags, data }: Outcome): void {
    const channel = client.channels.get(request.channel);
    if (channel === undefined) return;
    const length = this.#reply.encode(request.sequence, result, flags, data);
    try {
      writeSync(channel.pipe, this.#reply.bytes, 0, length, null);
    } catch {
      // It does not read, or has gone: it loses its channel, and nobody else anything.
      this.leave(client, request.channel);
    }
  }

  /** A thread gives up its reply pipe. */
  leave(client: Client, channel: number): void {
    const found = client.channels.get(channel);
    if (found === undefined) return;
    client.channels.delete(channel);
    closeSync(found.pipe);
  }

  /** The process has ended. Its descriptors end by themselves; a wait that a kill may end does. */
  ended(pid: number): void {
    const client = this.#clients.get(pid);
    if (client === undefined) return;
    this.#clients.delete(pid);
    for (const channel of [...client.channels.keys()]) this.leave(client, channel);
    for (const thread of [...client.waiting]) thread.kill();
    client.mm.end();
  }

  /** Everybody has ended. */
  clear(): void {
    for (const pid of [...this.#clients.keys()]) this.ended(pid);
  }

  #made(request: Request): Client | undefined {
    const known = this.of(request);
    if (known !== undefined) return known;
    const { pid, imageLow, imageHigh } = request;
    this.ended(pid);
    try {
      const memory = new ProcessMemory(pid, this.moment);
      const mm = new BridgedMm(memory, this.#frames, this.#shared, this.#failpoints);
      const channels = new Map<number, Channel>();
      const client = { pid, imageLow, imageHigh, mm, channels, waiting: new Set<Thread>() };
      this.#clients.set(pid, client);
      return client;
    } catch {
      return undefined;
    }
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
