import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ERRNO, errnoName } from '../uapi/errno.ts';
import type { Tools } from './build.ts';
import { ownDescriptorLimit } from './descriptor-limit.ts';
import { checkPrivileges } from './program.ts';
import { ANSWER_BYTES, COMMAND, COMMAND_BYTES, EVENT_BYTES, type KIND } from './wire.ts';

export interface BrokerEvent {
  /** One of EVENT. */
  readonly kind: number;
  readonly a: number;
  readonly b: number;
}

/** What a program's file descriptor is. */
export interface Resolved {
  readonly kind: (typeof KIND)[keyof typeof KIND];
  /** FILE: its number; EVENTFD: the handle of a copy that the broker keeps until `drop`. */
  readonly value: number;
}

/** The broker (preload/broker.c) could not start. */
export class BrokerError extends Error {
  /** Positive errno. */
  readonly number: number;
  constructor(number: number, message: string) {
    super(message);
    this.name = 'BrokerError';
    this.number = number;
  }
}

/** The broker has ended while it was needed. */
export class BrokerGone extends Error {
  override readonly name = 'BrokerGone';
  constructor() {
    super('the broker of the bridge has ended');
  }
}

export interface BrokerOptions {
  /** Where programs connect; default: a socket in the broker's private directory. */
  readonly socket?: string;
  /** The program to start, and its arguments. */
  readonly program?: readonly string[];
}

/** Longest path that a unix socket can have, in bytes. */
const SOCKET_PATH_MAX = 107;
const PIPES = ['requests', 'commands', 'answers'] as const;

/**
 * The engine's hands outside: starts the broker, a small C process, and asks it for what Node cannot
 * do. Every call is a synchronous round trip, and throws BrokerGone once the broker has ended. The
 * directory between the two is the user's alone; whoever of the two ends last removes it.
 */
export class Broker implements Disposable {
  /** The pipe that programs write their requests to; ends when broker and programs have. */
  readonly requests: number;
  /** Where programs connect. */
  readonly socket: string;
  /** The library to preload, at a path without blanks and colons. */
  readonly library: string;
  /** A directory that does not exist yet, for files that programs are to find. */
  readonly tree: string;
  readonly #directory: string;
  readonly #commands: number;
  readonly #answers: number;
  readonly #process: ChildProcess;
  readonly #command = new Uint32Array(COMMAND_BYTES / 4);
  readonly #answer = new Int32Array(ANSWER_BYTES / 4);

  /** @throws BrokerError when the socket cannot be made, ProgramError for a privileged program */
  constructor(tools: Tools, options: BrokerOptions = {}) {
    if (options.program !== undefined) checkPrivileges(tools, options.program[0]!);
    this.#directory = mkdtempSync(join(tmpdir(), 'vsva-'));
    const own: number[] = [];
    const theirs: number[] = [];
    try {
      const place = (name: string): string => join(this.#directory, name);
      this.socket = options.socket ?? place('socket');
      if (Buffer.byteLength(this.socket) > SOCKET_PATH_MAX) {
        throw new BrokerError(ERRNO.ENAMETOOLONG, `${this.socket}: too long for a socket's path`);
      }
      this.tree = place('tree');
      this.library = place('libvsva.so');
      symlinkSync(tools.library, this.library);
      execFileSync('mkfifo', ['-m', '600', ...PIPES.map(place)]);
      const open = (list: number[], name: string, flags: number): number => {
        const fd = openSync(place(name), flags);
        list.push(fd);
        return fd;
      };
      // An open for both directions never waits; ends are found when nobody has the other one.
      for (const name of PIPES) open(theirs, name, constants.O_RDWR);
      this.requests = open(own, 'requests', constants.O_RDONLY);
      this.#commands = open(own, 'commands', constants.O_WRONLY);
      this.#answers = open(own, 'answers', constants.O_RDONLY);
      const stdio = [
        open(theirs, 'answers', constants.O_WRONLY),
        open(theirs, 'commands', constants.O_RDONLY),
        open(theirs, 'requests', constants.O_WRONLY | constants.O_NONBLOCK),
        open(theirs, 'requests', constants.O_RDWR),
      ];
      for (const name of PIPES) rmSync(place(name));
      const limit = ownDescriptorLimit() ?? Infinity;
      const given = Number.isFinite(limit) ? String(limit) : '-';
      const program =
        options.program === undefined ? [] : [given, this.library, ...options.program];
      this.#process = spawn(tools.broker, [this.#directory, this.socket, ...program], {
        stdio: ['inherit', 'inherit', 'inherit', ...stdio],
      });
      this.#process.on('error', () => undefined);
      this.#process.unref();
      for (const fd of theirs.splice(0)) closeSync(fd);
      this.#receive();
      if (this.#answer[0] !== 0) throw refusal(-this.#answer[0]!, this.socket);
    } catch (error) {
      for (const fd of [...own, ...theirs]) closeSync(fd);
      rmSync(this.#directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Its process. */
  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** What has happened, in order. */
  drain(): BrokerEvent[] {
    const found: BrokerEvent[] = [];
    for (let more = true; more; ) {
      const count = this.#ask(COMMAND.DRAIN, 0, 0);
      more = this.#answer[3] !== 0;
      if (count === 0) continue;
      const events = new Uint32Array((count * EVENT_BYTES) / 4);
      this.#read(new Uint8Array(events.buffer));
      for (let i = 0; i < events.length; i += 4) {
        found.push({ kind: events[i]!, a: events[i + 1]!, b: events[i + 2]! });
      }
    }
    return found;
  }

  /** Asks to be told when the process ends. 0, or -errno if it is not the user's. */
  watch(pid: number): number {
    return this.#ask(COMMAND.WATCH, pid, 0);
  }

  /** A -errno for a descriptor that is not open. */
  resolve(pid: number, fd: number): Resolved | number {
    const result = this.#ask(COMMAND.RESOLVE, pid, fd);
    if (result < 0) return result;
    return { kind: this.#answer[1] as Resolved['kind'], value: this.#answer[2]! };
  }

  /** Adds to a program's eventfd; never waits. */
  signal(handle: number, by: number): void {
    this.#ask(COMMAND.SIGNAL, handle, by);
  }

  drop(handle: number): void {
    this.#ask(COMMAND.DROP, handle, 0);
  }

  /** Makes a file's descriptors readable. */
  readable(file: number): void {
    this.#ask(COMMAND.READABLE, file, 0);
  }

  /** Ends the broker, and with it every connection. */
  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
    for (const fd of [this.#commands, this.#answers, this.requests]) closeSync(fd);
  }

  #ask(op: number, a: number, b: number): number {
    this.#command[0] = op;
    this.#command[1] = a;
    this.#command[2] = b;
    try {
      writeSync(this.#commands, this.#command);
    } catch {
      throw new BrokerGone();
    }
    this.#receive();
    return this.#answer[0]!;
  }

  #receive(): void {
    this.#read(new Uint8Array(this.#answer.buffer));
  }

  #read(into: Uint8Array): void {
    for (let at = 0; at < into.length; ) {
      const got = readSync(this.#answers, into, at, into.length - at, null);
      if (got === 0) throw new BrokerGone();
      at += got;
    }
  }
}

const WHY_NOT: ReadonlyMap<number, string> = new Map([
  [ERRNO.EADDRINUSE, 'a host is already listening there'],
  [ERRNO.EEXIST, 'there is something that is not a socket'],
  [ERRNO.ENOENT, 'there is no such directory'],
  [ERRNO.ENOTDIR, 'a part of the path is not a directory'],
  [ERRNO.EACCES, 'permission denied'],
  [ERRNO.EPERM, 'permission denied'],
  [ERRNO.EROFS, 'the file system is read-only'],
  [ERRNO.ENOSPC, 'no space left on the device'],
]);

/** Why there is no socket, in words. */
function refusal(number: number, socket: string): BrokerError {
  const why = WHY_NOT.get(number) ?? errnoName(number);
  return new BrokerError(number, `cannot listen at ${socket}: ${why}`);
}
