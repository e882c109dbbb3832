import { resolve } from 'node:path';
import { Command } from 'commander';
import { Broker } from '../../host/bridge/broker.ts';
import { buildTools } from '../../host/bridge/build.ts';
import { BridgeServer } from '../../host/bridge/server.ts';
import type { HostCommandOptions } from './bridge.ts';
import { bridgeRefusal, hostOptions, openRecording, simulatedHost } from './bridge.ts';

interface HostOptions extends HostCommandOptions {
  readonly listen: string;
}

/** `vsva host --listen SOCKET`: a kernel that several programs join. */
export function hostCommand(): Command {
  return hostOptions(new Command('host'))
    .description(
      'Keep one simulated host running, whose kernel several programs share: each is started with' +
        ' `vsva exec --join SOCKET`. Runs until it is interrupted.',
    )
    .summary('keep a simulated host running for several programs')
    .requiredOption('--listen <SOCKET>', 'where programs connect; only this user may')
    .action(host);
}

function host(options: HostOptions): void {
  try {
    const tools = buildTools();
    const recording = openRecording('host', options);
    const { kernel, settle } = simulatedHost(options, recording);
    const socket = resolve(options.listen);
    using broker = new Broker(tools, { socket });
    process.stdout.write(`listening at ${socket}\n`);
    const server = new BridgeServer(kernel, broker, () => {
      const { objects, pins, pasidEntries, fds } = kernel.reportLeftovers();
      recording?.flush();
      process.stdout.write(
        `idle: ${objects} objects, ${pins} pins, ${pasidEntries} pasidEntries, ${fds} fds left over\n`,
      );
    });
    server.run();
    settle();
  } catch (error) {
    throw bridgeRefusal(error);
  }
}
