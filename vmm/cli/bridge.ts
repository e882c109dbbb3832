import { type Command, Option } from 'commander';
import { BrokerError } from '../../host/bridge/broker.ts';
import { BuildError } from '../../host/bridge/build.ts';
import { ProgramError } from '../../host/bridge/program.ts';
import type { Kernel } from '../../host/kernel/kernel.ts';
import { errnoName } from '../../host/uapi/errno.ts';
import { jsonLine } from '../../trace/story/json-line.ts';
import { bootHost } from '../scenario/host.ts';
import { Refusal } from './fail.ts';
import { LineFile } from './files.ts';
import { memorySize, wholeNumber } from './options.ts';

const MIB = 2 ** 20;
const MAX_DEVICES = 31;

/** What `exec` and `host` have in common. */
export interface HostCommandOptions {
  readonly devices: number;
  readonly mem: number;
  readonly seed: number;
  readonly trace?: string;
}

export function hostOptions(command: Command): Command {
  return command
    .option('--devices <N>', 'accelerators of the host', wholeNumber(0, MAX_DEVICES), 1)
    .addOption(
      new Option('--mem <SIZE>', "the host's own RAM: page tables and queues")
        .argParser(memorySize)
        .default(256 * MIB, '256M'),
    )
    .option('--seed <N>', 'seed of the one random generator', wholeNumber(0, 2 ** 32 - 1), 1)
    .option('--trace <PATH>', 'keep every event: one JSON object a line');
}

/** @throws Refusal when the path cannot be written */
export function openRecording(path: string | undefined): LineFile | undefined {
  return path === undefined ? undefined : new LineFile(path);
}

export function simulatedHost(options: HostCommandOptions, recording?: LineFile): Kernel {
  const { devices, mem: ramBytes, seed } = options;
  const listeners =
    recording === undefined
      ? []
      : [
          (record: Parameters<typeof jsonLine>[0]): void => {
            recording.write(jsonLine(record));
          },
        ];
  return bootHost({ seed, devices, ramBytes, listeners });
}

/** The bridge's own errors in the command line's terms; others as they are. */
export function bridgeRefusal(error: unknown): unknown {
  if (error instanceof ProgramError) return new Refusal(2, error.message);
  if (error instanceof BuildError) return new Refusal(1, error.message);
  if (error instanceof BrokerError) {
    return new Refusal(1, `${error.message}: ${errnoName(error.number)}`);
  }
  return error;
}
