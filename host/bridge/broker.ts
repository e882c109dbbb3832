import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tools } from './build.ts';
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

export interface BrokerOptions {
  /** Where programs connect; default: a socket in the broker's private directory. */
  readonly socket?: string;
  /** The program to start, and its arguments. */
  readonly program?: readonly string[];
}

/**
 * The engine's hands outside: starts the broker, a small C process, and asks it for what Node cannot
 * do. Every call is a synchronous round trip. The directory between the two is the user's alone.
 */
export class Broker implements Disposable {
  /** The pipe that programs write their requests to. */
  readonly requests: number;
  /** Where programs connect. */
  readonly socket: string;
  /** The library to preload, at a path without blanks and colons. */
  readonly library: string;
  readonly #directory: string;
  readonly #commands: number;
  readonly #answers: number;
  readonly #process: ChildProcess;
  readonly #command = new Uint32Array(COMMAND_BYTES / 4);
  readonly #answer = new Int32Array(ANSWER_BYTES / 4);

  /** @throws BrokerError when the socket cannot be made */
  constructor(tools: Tools, options: BrokerOptions = {}) {
    this.#directory = mkdtempSync(join(tmpdir(), 'vsva-'));
    try {
      const fifo = (name: string): string => join(this.#directory, name);
      execFileSync('mkfifo', ['-m', '600', ...['requests', 'commands', 'answers'].map(fifo)]);
      this.requests = openSync(fifo('requests'), 'r+');
      this.#commands = openSync(fifo('commands'), 'r+');
      this.#answers = openSync(fifo('answers'), 'r+');
      this.library = fifo('libvsva.so');
      symlinkSync(tools.library, this.library);
      this.socket = options.socket ?? fifo('socket');
      const program = options.program === undefined ? [] : [this.library, ...options.program];
      this.#process = spawn(tools.broker, [this.#directory, this.socket, ...program], {
        stdio: 'inherit',
      });
      if (this.#process.pid === undefined) throw new Error('the broker did not start');
      this.#receive();
    } catch (error) {
      rmSync(this.#directory, { recursive: true, force: true });
      throw error;
    }
    const number = -this.#answer[0]!;
    if (number !== 0) {
      this[Symbol.dispose]();
      throw new BrokerError(number, `cannot listen at ${this.socket}`);
    }
  }

  /** What has happened, in order. */
  drain(): BrokerEvent[] {
    const found: BrokerEvent[] = [];
    for (let more = true; more; ) {
      const count = this.#ask(COMMAND.DRAIN, 0, 0);
      more = this.#answer[3] !== 0;
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
    // The broker ends when it finds itself alone, and must not be tidying up here at the same time.
    rmSync(this.#directory, { recursive: true, force: true });
    for (const fd of [this.#commands, this.#answers, this.requests]) closeSync(fd);
    this.#process.unref();
  }

  #ask(op: number, a: number, b: number): number {
    this.#command.set([op, a, b, 0]);
    writeSync(this.#commands, this.#command);
    this.#receive();
    return this.#answer[0]!;
  }

  #receive(): void {
    this.#read(new Uint8Array(this.#answer.buffer));
  }

  #read(into: Uint8Array): void {
    for (let at = 0; at < into.length; ) {
      at += readSync(this.#answers, into, at, into.length - at, null);
    }
  }
}
