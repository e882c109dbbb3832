import { resolve } from 'node:path';
import { Command } from 'commander';
import { type HostCommandOptions, hostOptions } from './bridge.ts';
import { Refusal } from './fail.ts';
import { serveHost } from './host-process.ts';
import { listed } from './sanitize.ts';

interface HostOptions extends HostCommandOptions {
  readonly listen?: string;
}

/** `vsva host --listen SOCKET`: a kernel that several programs join. */
export function hostCommand(): Command {
  return hostOptions(new Command('host'))
    .description(
      'Keep one simulated host running, whose kernel several programs share: each is started with' +
        ' `vsva exec --join SOCKET`. Runs until it is interrupted.',
    )
    .summary('keep a simulated host running for several programs')
    .usage('[options] --listen <SOCKET>')
    .option('--listen <SOCKET>', 'where programs connect; only this user may')
    .addHelpText(
      'after',
      '\nExit code: 0 after SIGINT, SIGTERM, SIGHUP or SIGQUIT, by which it ends in order and a' +
        '\nrecording is whole; 1 when the sanitizer reported something, when it cannot listen, or when' +
        '\nthe recording cannot be written; 2 for options that cannot be.',
    )
    .action(host);
}

async function host({ listen, ...options }: HostOptions): Promise<void> {
  if (listed(options)) return;
  if (listen === undefined)
    throw new Refusal(2, "required option '--listen <SOCKET>' not specified");
  const socket = resolve(listen);
  process.exitCode = await serveHost({
    command: 'host',
    options,
    broker: { socket },
    verbose: true,
  });
}
