import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { guestMemoryNeeded } from '../../guest/mm/budget.ts';
import { hostBytesNeeded, MAX_HOST_BYTES, MAX_VMS } from '../scenario/world.ts';
import { Refusal } from './fail.ts';
import { memorySize, sizeText, wholeNumber } from './options.ts';

/** The file that is taken when none is named. */
export const SAMPLE = relative(
  '',
  fileURLToPath(new URL('../../docs/sample.txt', import.meta.url)),
);

const MIB = 2 ** 20;

/** Least guest memory that boots at all. */
const LEAST_GUEST_BYTES = 32 * MIB;

/** What a world is made of, on the command line. */
export interface MachineOptions {
  readonly mem: number;
  readonly vms: number;
  readonly procs: number;
  readonly seed: number;
  readonly la57?: boolean;
}

/** Adds the options of every command that composes a world. */
export const machineOptions = (command: Command): Command =>
  command
    .addOption(
      new Option('--mem <SIZE>', 'RAM of each guest')
        .argParser(memorySize)
        .default(256 * MIB, '256M'),
    )
    .option('--vms <N>', 'virtual machines, each with its own device', wholeNumber(1, MAX_VMS), 1)
    .option('--procs <M>', 'processes in each, each with its own PASID', wholeNumber(1, 1000), 1)
    .option('--seed <N>', 'seed of the one random generator', wholeNumber(0, 2 ** 32 - 1), 1)
    .option('--la57', 'five-level page tables in the guests, and a unit that walks them');

/** @throws Refusal naming what is needed and the option that gives it */
export function checkMemory(bytes: number, { mem, vms, procs }: MachineOptions): void {
  const needed = Math.max(guestMemoryNeeded(bytes, procs), LEAST_GUEST_BYTES);
  if (mem < needed) {
    throw new Refusal(
      2,
      `${procs} guest process(es) with a file of ${bytes} bytes need ${sizeText(needed)} of guest` +
        ` memory, but it has ${sizeText(mem)}: raise it with --mem ${needed / MIB}M`,
    );
  }
  const host = hostBytesNeeded(vms, mem);
  if (host > MAX_HOST_BYTES) {
    throw new Refusal(
      2,
      `${vms} machine(s) of ${sizeText(mem)} need a host with ${sizeText(host)}, more than the` +
        ` ${sizeText(MAX_HOST_BYTES)} it can have: lower --mem or --vms`,
    );
  }
}
