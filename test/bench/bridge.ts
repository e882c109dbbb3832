/**
 * Round trips of a real program through the bridge, beside a C program that sends bytes to and fro
 * over a unix socket: all of it on one CPU, as a wake-up across CPUs costs more than either.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BenchOptions, Figure, Group } from './measure.ts';

const PING_PONG = 'C ping-pong over a unix socket, 64 bytes';
const PING_PONG_BYTES = 64;
const VSVA = fileURLToPath(new URL('../../vmm/cli/vsva.js', import.meta.url));

/** The last CPU that this process may use: the first one has most of the interrupts. */
function cpu(): string {
  const status = readFileSync('/proc/self/status', 'latin1');
  return /^Cpus_allowed_list:.*?(\d+)$/m.exec(status)?.[1] ?? '0';
}

function build(name: string, directory: string): string {
  const program = join(directory, name);
  const source = fileURLToPath(new URL(`bridge/${name}.c`, import.meta.url));
  execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, source]);
  return program;
}

function pinned(...command: readonly string[]): string {
  return execFileSync('taskset', ['-c', cpu(), ...command], { encoding: 'utf8' });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

/** One turn of everything: ns by name. */
function* turn(directory: string, rounds: number): Generator<readonly [string, number]> {
  const pingPong = join(directory, 'pingpong');
  yield [PING_PONG, Number(pinned(pingPong, `${PING_PONG_BYTES}`, `${rounds}`))];
  const ioctls = join(directory, 'ioctls');
  const lines = pinned(process.execPath, VSVA, 'exec', '--', ioctls, `${rounds}`).trim();
  for (const line of lines.split('\n')) {
    const blank = line.indexOf(' ');
    yield [line.slice(blank + 1), Number(line.slice(0, blank))];
  }
}

function figures({ quick, progress }: BenchOptions): Figure[] {
  const directory = mkdtempSync(join(tmpdir(), 'vsva-bench-'));
  try {
    build('pingpong', directory);
    build('ioctls', directory);
    const times = new Map<string, number[]>();
    const turns = quick ? 1 : 3;
    for (let i = 1; i <= turns; i++) {
      progress(`turn ${i} of ${turns}`);
      for (const [name, ns] of turn(directory, quick ? 200 : 20_000)) {
        times.set(name, [...(times.get(name) ?? []), ns]);
      }
    }
    const unit = median(times.get(PING_PONG)!);
    return [...times].map(([name, all]) => {
      const ns = median(all);
      return { name, ratio: unit / ns, of: PING_PONG, value: 1e9 / ns, unit: 'per second' };
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export const bridge: Group = {
  name: 'bridge',
  about: 'ioctls of a real program through the bridge; the ratio is that of the rates',
  run: (options) => Promise.resolve(figures(options)),
};
