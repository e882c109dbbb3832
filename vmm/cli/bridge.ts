import { type Command, InvalidArgumentError, Option } from 'commander';
import { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { BrokerError, BrokerGone } from '../../host/bridge/broker.ts';
import { BuildError } from '../../host/bridge/build.ts';
import { ProgramError } from '../../host/bridge/program.ts';
import { HOST_BUGS } from '../../host/kernel/bugs.ts';
import type { Kernel } from '../../host/kernel/kernel.ts';
import { DEFAULT_RELEASE, hasIommufd, parseRelease } from '../../host/kernel/release.ts';
import { Findings } from '../../trace/story/sanitizer.ts';
import { bugsOf } from '../scenario/bugs.ts';
import { bootHost } from '../scenario/host.ts';
import { Refusal } from './fail.ts';
import { memorySize, wholeNumber } from './options.ts';
import { bugOptions, bugsOn, printFindings, type SanitizeOptions } from './sanitize.ts';
import { openTraceFile, type TraceFile } from './trace-file.ts';

const MIB = 2 ** 20;
const MAX_DEVICES = 31;

/** What `exec` and `host` have in common. */
export interface HostCommandOptions extends SanitizeOptions {
  readonly devices: number;
  readonly mem: number;
  readonly seed: number;
  readonly trace?: string;
  readonly kernel: string;
  readonly selftest: boolean;
}

/** A simulated host, and what watches it. */
export interface WatchedHost {
  readonly kernel: Kernel;
  /** Ends the watch: prints what was found. Returns how many findings. */
  readonly settle: () => number;
}

export function hostOptions(command: Command): Command {
  return bugOptions(command)
    .option('--devices <N>', 'accelerators of the host', wholeNumber(0, MAX_DEVICES), 1)
    .addOption(
      new Option('--mem <SIZE>', "the host's own RAM: page tables and queues")
        .argParser(memorySize)
        .default(256 * MIB, '256M'),
    )
    .option('--seed <N>', 'seed of the one random generator', wholeNumber(0, 2 ** 32 - 1), 1)
    .addOption(
      new Option(
        '--kernel <RELEASE>',
        'Linux, from 6.2 on, whose answer is given where releases answer one call differently;' +
          ' no feature is taken away',
      )
        .argParser(release)
        .default(DEFAULT_RELEASE),
    )
    .option('--no-selftest', 'a kernel without IOMMU_TEST_CMD and the mock devices it makes')
    .option('--trace <PATH>', 'keep every event: a recording (PATH.vsva), or JSON lines');
}

function release(text: string): string {
  const parsed = parseRelease(text);
  if (parsed === null) throw new InvalidArgumentError('Write it like 6.12 or 7.0.');
  if (!hasIommufd(parsed)) throw new InvalidArgumentError('Linux has iommufd since 6.2.');
  return text;
}

/** @throws Refusal when the path cannot be written */
export function openRecording(
  command: string,
  { trace, ...options }: HostCommandOptions,
): TraceFile | undefined {
  if (trace === undefined) return undefined;
  return openTraceFile(trace, { command, options: { ...options }, live: true });
}

export function simulatedHost(
  options: HostCommandOptions,
  recording?: Pick<TraceFile, 'listeners' | 'sinks'>,
): WatchedHost {
  const { devices, mem: ramBytes, seed, kernel: release, selftest } = options;
  const { listeners = [], sinks = [] } = recording ?? {};
  const bugs = bugsOn(options);
  const sanitizer = (options.sanitize ?? bugs.size > 0) ? new Sanitizer() : undefined;
  const findings = new Findings();
  const kernel = bootHost({
    seed,
    devices,
    ramBytes,
    listeners:
      sanitizer === undefined ? listeners : [...listeners, (record) => findings.add(record)],
    sinks,
    sanitizer,
    kernel: { release, selftest, bugs: bugsOf(bugs, HOST_BUGS) },
  });
  const settle = (): number => {
    sanitizer?.end();
    printFindings(findings.list);
    return findings.list.length;
  };
  return { kernel, settle };
}

/** The bridge's own errors in the command line's terms; others as they are. */
export function bridgeRefusal(error: unknown): unknown {
  if (error instanceof ProgramError) return new Refusal(error.exitCode, error.message);
  if (error instanceof BuildError) return new Refusal(1, error.message);
  if (error instanceof BrokerError || error instanceof BrokerGone) {
    return new Refusal(1, error.message);
  }
  return error;
}
