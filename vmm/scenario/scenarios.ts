import type { WorldOptions } from './world.ts';

type Twist = Pick<
  WorldOptions,
  'vms' | 'procs' | 'program' | 'powerCut' | 'unmapFirst' | 'smallPages' | 'restlessCaches'
>;

/** What may be told to happen in a world, by the name that `vsva run --scenario` takes. */
export interface Scenario {
  readonly what: string;
  /** A guest process ends with its copy verified; else its output is not looked at. */
  readonly verified: boolean;
  readonly twist: Partial<Twist>;
}

export const SCENARIOS = {
  copy: {
    what: 'bind and first DMA, page faults, unmap, replace, unbind: a file is copied',
    verified: true,
    twist: {},
  },
  'two-processes': {
    what: 'two processes of a guest, each with a PASID of its own',
    verified: true,
    twist: { procs: 2 },
  },
  'two-vms': {
    what: 'two virtual machines, each with a device of its own',
    verified: true,
    twist: { vms: 2 },
  },
  restless: {
    what: 'two processes, and caches that evict and prefetch as they like',
    verified: true,
    twist: { procs: 2, restlessCaches: true },
  },
  leave: {
    what: 'processes that end with requests in flight: unbind by the end of the process',
    verified: false,
    twist: { procs: 3, program: 'leave' },
  },
  'power-cut': {
    what: 'the guest loses power while its PASIDs are attached and cached',
    verified: false,
    twist: { powerCut: 3 },
  },
  'memory-first': {
    what: 'the same, and the VMM unmaps guest memory before it detaches the device',
    verified: false,
    twist: { powerCut: 3, unmapFirst: true, smallPages: true },
  },
} as const satisfies Readonly<Record<string, Scenario>>;

export type ScenarioName = keyof typeof SCENARIOS;

export function isScenario(name: string): name is ScenarioName {
  return Object.hasOwn(SCENARIOS, name);
}

/** Options of a world in which a scenario happens. */
export function inScenario(options: WorldOptions, name: ScenarioName): WorldOptions {
  return { ...options, ...SCENARIOS[name].twist };
}
