import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { Broker } from '../../host/bridge/broker.ts';
import { buildTools } from '../../host/bridge/build.ts';
import { checkProgram } from '../../host/bridge/program.ts';
import { BridgeServer } from '../../host/bridge/server.ts';
import type { HostCommandOptions } from './bridge.ts';
import { bridgeRefusal, hostOptions, openRecording, simulatedHost } from './bridge.ts';
import { Refusal, whyNot } from './fail.ts';
import { listed } from './sanitize.ts';

interface ExecOptions extends HostCommandOptions {
  readonly join?: string;
}

/** `vsva exec -- PROGRAM ARGS...`: a real program on the simulated host. */
export function execCommand(): Command {
  return hostOptions(new Command('exec'))
    .description(
      'Run PROGRAM, any dynamically linked one, with /dev/iommu and /dev/vfio served by the' +
        ' simulated host kernel. Its standard streams and its exit status are its own.',
    )
    .summary('run a real program on the simulated host')
    .argument('<PROGRAM>', 'found as the shell finds it')
    .argument('[ARGS...]', 'its arguments')
    .option('--join <SOCKET>', 'use the kernel of a running `vsva host` instead of an own one')
    .passThroughOptions()
    .addHelpText(
      'after',
      '\nExit code: that of the program, 128 + n when signal n ended it. 127 when there is no such' +
        '\nprogram, 126 when it is not executable, 2 when it cannot be served: statically linked, set-uid.' +
        '\n1 instead of 0 when the sanitizer reported something.',
    )
    .action(exec);
}

function exec(name: string, args: readonly string[], options: ExecOptions): void {
  if (listed(options)) return;
  try {
    const program = [checkProgram(name), ...args];
    process.exitCode = options.join === undefined ? host(program, options) : join(program, options);
  } catch (error) {
    throw bridgeRefusal(error);
  }
}

/** The program has a kernel of its own, which ends with it. */
function host(program: readonly string[], options: ExecOptions): number {
  const tools = buildTools();
  const recording = openRecording(`exec ${program.join(' ')}`, options);
  const { kernel, settle } = simulatedHost(options, recording);
  using broker = new Broker(tools, { program });
  leaveSignals();
  const server = new BridgeServer(kernel, broker, () => {
    kernel.reportLeftovers();
    recording?.flush();
  });
  const status = server.run();
  const found = settle();
  recording?.close();
  return status === 0 && found > 0 ? 1 : status;
}

/** The kernel is another process's. */
function join([program, ...args]: readonly string[], { join: path = '' }: ExecOptions): number {
  // The program may go elsewhere.
  const socket = resolve(path);
  if (statSync(socket, { throwIfNoEntry: false })?.isSocket() !== true) {
    throw new Refusal(1, `no host listens at ${socket}: start one with vsva host --listen`);
  }
  const { library } = buildTools();
  const preload = [library, process.env['LD_PRELOAD'] ?? ''].filter(Boolean).join(':');
  const env = { ...process.env, LD_PRELOAD: preload, VSVA_SOCKET: socket };
  leaveSignals();
  const { status, signal, error } = spawnSync(program!, args, { stdio: 'inherit', env });
  if (error !== undefined) throw new Refusal(126, `cannot run ${program!}: ${whyNot(error)}`);
  return status ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

/** The terminal's signals are for the program; this process ends with it. */
function leaveSignals(): void {
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => undefined);
}
