import { event } from '../event.ts';

/** What the harness around the storeys says. */
export const engine = {
  powerOn: event(
    'engine',
    'engine:power_on',
    { seed: 'id', ramBytes: 'bytes', functions: 'count' },
    'the simulated machine is switched on',
    'vmm/scenario/world.ts',
  ),
  settled: event(
    'engine',
    'engine:settled',
    { vms: 'count', processes: 'count' },
    'every program has ended and nothing is left to happen',
    'vmm/scenario/world.ts',
  ),
} as const;
