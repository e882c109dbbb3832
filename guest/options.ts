/** The kernel command line: `key=value` words. */
import { GUEST_BUGS, type GuestBug } from './bugs.ts';
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
  /** The user program that runs. */
  readonly program: 'copy' | 'leave';
  /** `bug=a,b`: mistakes to make on purpose. */
  readonly bugs: ReadonlySet<GuestBug>;
}

const MAX_PROCESSES = 1024;

/** Unknown words are for user space and ignored, as Linux does. GuestError EINVAL. */
export function parseCommandLine(line: string): KernelOptions {
  const words = line.split(/\s+/).map((word) => word.split('=', 2));
  const values = new Map(words.map(([key, value]) => [key ?? '', value ?? '']));
  const program = values.get('program') ?? 'copy';
  if (program !== 'copy' && program !== 'leave')
    throw new GuestError('EINVAL', `no program '${program}'`);
  return {
    name: values.get('name') ?? 'vm0',
    processes: integer(values.get('procs') ?? '1', 'procs', 1, MAX_PROCESSES),
    seed: integer(values.get('seed') ?? '0', 'seed', 0, Number.MAX_SAFE_INTEGER),
    la57: integer(values.get('la57') ?? '0', 'la57', 0, 1) === 1,
    program,
    passThrough: values.get('iommu') === 'pt',
    bugs: new Set((values.get('bug') ?? '').split(',').filter(isBug)),
  };
}

function isBug(name: string): name is GuestBug {
  return Object.hasOwn(GUEST_BUGS, name);
}

function integer(text: string, key: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new GuestError('EINVAL', `command line: ${key}=${text} is not ${min} to ${max}`);
}
