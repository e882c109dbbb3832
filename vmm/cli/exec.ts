import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { buildTools } from '../../host/bridge/build.ts';
import { ownDescriptorLimit } from '../../host/bridge/descriptor-limit.ts';
import {
  checkPrivileges,
  checkProgram,
  checkServer,
  ProgramError,
} from '../../host/bridge/program.ts';
import { bridgeRefusal, type HostCommandOptions, hostOptions } from './bridge.ts';
import { Refusal, whyNot } from './fail.ts';
import { serveHost } from './host-process.ts';
import { listed } from './sanitize.ts';
import { cameToAll, passSignals } from './signals.ts';

interface ExecOptions extends HostCommandOptions {
  readonly join?: string;
}

/** `vsva exec -- PROGRAM ARGS...`: a real program on the simulated host. */
export function execCommand(): Command {
  return hostOptions(new Command('exec'))
    .description(
      'Run PROGRAM, any dynamically linked one, with /dev/iommu and /dev/vfio served by the' +
        ' simulated host kernel. Its standard streams and its exit status are its own, and signals' +
        ' that would end this command are passed on to it.',
    )
    .summary('run a real program on the simulated host')
    .usage('[options] -- <PROGRAM> [ARGS...]')
    .argument('[PROGRAM]', 'found as the shell finds it')
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

async function exec(
  name: string | undefined,
  args: readonly string[],
  options: ExecOptions,
  command: Command,
): Promise<void> {
  if (listed(options)) return;
  if (name === undefined) throw new Refusal(2, "missing required argument 'PROGRAM'");
  const { join: socket, ...own } = options;
  if (socket !== undefined) onlyJoin(command);
  try {
    const program = [checkProgram(name), ...args];
    process.exitCode = await (socket === undefined ? host(program, own) : join(program, socket));
  } catch (error) {
    throw bridgeRefusal(error);
  }
}

/** The kernel that is joined has its options already. @throws Refusal */
function onlyJoin(command: Command): void {
  const names = new Set(command.options.map((option) => option.attributeName()));
  const given = [...names]
    .filter((name) => name !== 'join' && command.getOptionValueSource(name) === 'cli')
    .map((name) => (command.getOptionValue(name) === false ? `--no-${name}` : `--${name}`));
  if (given.length === 0) return;
  throw new Refusal(2, `${given.join(', ')} cannot go with --join: options of vsva host`);
}

/** The program has a kernel of its own, which ends with it. */
function host(program: readonly string[], options: HostCommandOptions): Promise<number> {
  return serveHost({
    command: `exec ${program.join(' ')}`,
    options,
    broker: { program },
    verbose: false,
  });
}

/** The kernel is another process's. */
async function join([program, ...args]: readonly string[], path: string): Promise<number> {
  // The program may go elsewhere.
  const socket = resolve(path);
  const tools = buildTools();
  try {
    checkServer(tools, socket);
  } catch (error) {
    if (error instanceof ProgramError) throw error;
    throw new Refusal(1, `cannot join ${socket}: ${whyNot(error)}`);
  }
  checkPrivileges(tools, program!);
  const { library } = tools;
  const preload = [library, process.env['LD_PRELOAD'] ?? ''].filter(Boolean).join(':');
  const env = { ...process.env, LD_PRELOAD: preload, VSVA_SOCKET: socket };
  const limit = String(ownDescriptorLimit() ?? 'unlimited').replace('Infinity', 'unlimited');
  const line = ['-c', 'ulimit -S -n "$0"; exec "$@"', limit, program!, ...args];
  // Before there is a program: it may run, and be ended, before this process runs again.
  using _signals = passSignals((signal) => {
    if (!cameToAll(signal)) child.kill(signal);
  });
  const child = spawn('/bin/sh', line, { stdio: 'inherit', env });
  try {
    const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    return status ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  } catch (error) {
    throw new Refusal(126, `cannot run ${program!}: ${whyNot(error)}`);
  }
}
