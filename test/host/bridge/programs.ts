/** C programs for tests, and a `vsva host` for them to run on without a Node process for each. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildTools } from '../../../host/bridge/build.ts';

export const VSVA = 'vmm/cli/vsva.js';

const PRELUDE = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t address, length, iova; };
struct destroy { uint32_t size, id; };
#define CHECK(x) do { if (!(x)) { fprintf(stderr, "line %d: %s (errno %d)\\n", __LINE__, #x, errno); _exit(99); } } while (0)
static uint32_t ioas(int fd) {
  struct alloc a = {.size = sizeof(a)};
  return ioctl(fd, 0x3b81, &a) == 0 ? a.id : 0;
}
static int destroy(int fd, uint32_t id) {
  struct destroy d = {sizeof(d), id};
  return ioctl(fd, 0x3b80, &d);
}
static int ended(pid_t child) {
  int status;
  return waitpid(child, &status, 0) == child ? status : -1;
}
`;

export interface Ended {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Programs in a directory of their own. */
export class Programs {
  readonly directory = mkdtempSync(join(tmpdir(), 'vsva-bridge-test-'));

  /** @param body of main; `arguments` are its arguments */
  build(name: string, body: string, { before = '', flags = [] as readonly string[] } = {}): string {
    const source = join(this.directory, `${name}.c`);
    const program = join(this.directory, name);
    const main = `int main(int count, char **arguments) {\n#line 1\n${body}\nreturn 0; }\n`;
    writeFileSync(source, `${PRELUDE}\n${before}\n${main}`);
    execFileSync('gcc', ['-w', ...flags, '-o', program, source, '-pthread']);
    return program;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Waits for a process, collecting what it writes. */
export async function finish(child: ChildProcess): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr?.on('data', (data: Buffer) => (stderr += data.toString()));
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { status, signal, stdout, stderr };
}

/** `vsva` with these arguments, by itself. @param group whether in a process group of its own */
export function vsva(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  group = false,
): ChildProcess {
  return spawn(process.execPath, [VSVA, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    detached: group,
  });
}

/** A running `vsva host`. */
export class Host {
  readonly socket: string;
  readonly process: ChildProcess;
  #output = '';
  #errors = '';
  readonly #changed: (() => void)[] = [];

  constructor(socket: string, options: readonly string[] = []) {
    this.socket = socket;
    this.process = vsva(['host', '--listen', socket, ...options]);
    this.process.stdout?.on('data', (data: Buffer) => {
      this.#output += data.toString();
      for (const changed of this.#changed.splice(0)) changed();
    });
    this.process.stderr?.on('data', (data: Buffer) => (this.#errors += data.toString()));
  }

  get output(): string {
    return this.#output;
  }

  get errors(): string {
    return this.#errors;
  }

  /** Waits until the host has written this. */
  async until(text: string): Promise<void> {
    while (!this.#output.includes(text)) {
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  /** Waits until all was closed once more than `times` times. */
  async idle(times: number): Promise<void> {
    while (this.leftovers.length <= times) {
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  /** What `vsva exec --join` would start. */
  start(program: string, ...args: readonly string[]): ChildProcess {
    return spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, LD_PRELOAD: buildTools().library, VSVA_SOCKET: this.socket },
    });
  }

  run(program: string, ...args: readonly string[]): Promise<Ended> {
    return finish(this.start(program, ...args));
  }

  /** As a reader of its output finds it: how often all was closed, and what was left over then. */
  get leftovers(): readonly string[] {
    return this.#output.split('\n').filter((line) => line.startsWith('idle: '));
  }
}

export const CLEAN = 'idle: 0 objects, 0 pins, 0 pasidEntries, 0 fds left over';
