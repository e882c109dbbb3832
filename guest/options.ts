/** The kernel command line: `key=value` words. */
import { GuestError } from './errno.ts';

export interface KernelOptions {
  /** The VM's name in events. */
  readonly name: string;
  /** Copies of the program to run, 1 to 1024. */
  readonly processes: number;
  readonly seed: number;
  readonly la57: boolean;
  /** `iommu=pt`: requests without a PASID pass through. */
  readonly passThrough: boolean;
}

const MAX_PROCESSES = 1024;

/** Unknown words are for user space and ignored, as Linux does. GuestError EINVAL. */
export function parseCommandLine(line: string): KernelOptions {
  const words = line.split(/\s+/).map((word) => word.split('=', 2));
  const values = new Map(words.map(([key, value]) => [key ?? '', value ?? '']));
  const program = values.get('program') ?? 'copy';
  if (program !== 'copy') throw new GuestError('EINVAL', `no program '${program}'`);
  return {
    name: values.get('name') ?? 'vm0',
    processes: integer(values.get('procs') ?? '1', 'procs', 1, MAX_PROCESSES),
    seed: integer(values.get('seed') ?? '0', 'seed', 0, Number.MAX_SAFE_INTEGER),
    la57: integer(values.get('la57') ?? '0', 'la57', 0, 1) === 1,
    passThrough: values.get('iommu') === 'pt',
  };
}

function integer(text: string, key: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new GuestError('EINVAL', `command line: ${key}=${text} is not ${min} to ${max}`);
}
