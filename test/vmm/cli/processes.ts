// Runs of the command line in processes of their own, each test in a folder of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';

export const ROOT = resolve(import.meta.dirname, '../../..');
export const ENTRY = join(ROOT, 'vmm/cli/vsva.js');
export const MIB = 2 ** 20;
export const MINUTES = 60_000;
export interface Context {
  folder: string;
}

export type T = ExecutionContext<Context>;

export const test = anyTest as TestFn<Context>;

test.beforeEach((t) => {
  t.context.folder = mkdtempSync(join(tmpdir(), 'vsva-run-'));
});

test.afterEach.always((t) => {
  rmSync(t.context.folder, { recursive: true, force: true });
});

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface How {
  readonly input?: Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** A signal to send as soon as something was printed. */
  readonly signal?: NodeJS.Signals;
}

/** The test runner has an opinion on colours; the runs should have none but what a test gives them. */
export function environment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env };
  delete env['FORCE_COLOR'];
  delete env['NO_COLOR'];
  return { ...env, ...extra };
}

/** Everything a child prints, and its exit code. */
export async function ending(child: ChildProcess): Promise<Ended> {
  const status = new Promise<number | null>((done, failed) => {
    child.once('error', failed);
    child.once('close', done);
  });
  const printed = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (text: string) => {
      printed[stream] += text;
    });
  }
  return { status: await status, ...printed };
}

/** `vsva ARGS...`, to its end. */
export function vsva(args: readonly string[], { input, env, signal }: How = {}): Promise<Ended> {
  const child = spawn(process.execPath, [ENTRY, ...args], { env: environment(env) });
  if (signal !== undefined) child.stdout.once('data', () => child.kill(signal));
  // A run that refuses its options does not read its input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  return ending(child);
}

/** A shell command with `$NODE $ENTRY` for vsva, in the test's folder. */
export function shell(t: T, command: string): Promise<Ended> {
  const child = spawn('/bin/sh', ['-c', command], {
    cwd: t.context.folder,
    env: environment({ NODE: process.execPath, ENTRY }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return ending(child);
}

/** Bytes in which no two pages are alike. */
export function contents(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let x = 0x9e37_79b9;
  for (let i = 0; i < length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes[i] = x;
  }
  return bytes;
}

export function fileOf(t: T, length: number, name = 'file'): { path: string; bytes: Buffer } {
  const path = join(t.context.folder, name);
  const bytes = contents(length);
  writeFileSync(path, bytes);
  return { path, bytes };
}

/** Exit code 0 and a silent standard error. */
export function succeeded(t: T, { status, stderr }: Ended): void {
  t.is(stderr, '');
  t.is(status, 0);
}

/** Exit code, nothing on standard output, and one line on standard error that matches. */
export function refused(
  t: T,
  { status, stdout, stderr }: Ended,
  code: 1 | 2,
  message: RegExp,
): void {
  t.regex(stderr, /^vsva: [^\n]+\n$/);
  t.regex(stderr, message);
  t.is(stdout, '');
  t.is(status, code);
}
