import { event } from '../event.ts';

/** What the harness around the storeys says. */
export const engine = {
  powerOn: event(
    'engine',
    'engine:power_on',
    { seed: 'int', ramBytes: 'int', functions: 'int' },
    'the simulated machine is switched on',
    'vmm/scenario/world.ts',
  ),
  settled: event(
    'engine',
    'engine:settled',
    { vms: 'int', processes: 'int' },
    'every program has ended and nothing is left to happen',
    'vmm/scenario/world.ts',
  ),
} as const;
