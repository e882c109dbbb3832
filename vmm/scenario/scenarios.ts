import type { Bug } from './bugs.ts';
import type { WorldOptions } from './world.ts';

type Twist = Pick<
  WorldOptions,
  | 'vms'
  | 'procs'
  | 'program'
  | 'powerCut'
  | 'unmapFirst'
  | 'smallPages'
  | 'restlessCaches'
  | 'hostile'
  | 'refusedReplaces'
>;

/** What may be told to happen in a world, by the name that `vsva run --scenario` takes. */
export interface Scenario {
  readonly what: string;
  /** A guest process ends with its copy verified; else its output is not looked at. */
  readonly verified: boolean;
  /** The mistakes that it is about; the sanitizer has something to report. */
  readonly bugs: readonly Bug[];
  readonly twist: Partial<Twist>;
}

/** The world of `vsva run` as it is: everything that a bound address space goes through, once. */
const COPY = { verified: true, bugs: [], twist: {} } as const;

export const SCENARIOS = {
  copy: {
    ...COPY,
    what: 'bind and first DMA, page faults, unmap, replace, unbind: a file is copied',
  },
  bind: { ...COPY, what: 'the copy, for its bind: an address space and its first DMA' },
  'page-fault': { ...COPY, what: 'the copy, for its page faults: the device meets absent pages' },
  unmap: { ...COPY, what: 'the copy, for its munmap and the invalidations behind it' },
  replace: { ...COPY, what: 'the copy, for its move to another page table: a PASID is replaced' },
  unbind: {
    what: 'processes that end with requests in flight: unbind by the end of the process',
    verified: false,
    bugs: [],
    twist: { procs: 3, program: 'leave' },
  },
  'two-processes': {
    what: 'two processes of a guest, each with a PASID of its own',
    verified: true,
    bugs: [],
    twist: { procs: 2 },
  },
  'two-vms': {
    what: 'two virtual machines, each with a device of its own',
    verified: true,
    bugs: [],
    twist: { vms: 2 },
  },
  'hostile-guest': {
    what: 'a guest that does what it should not, at random, beside an honest one',
    verified: false,
    bugs: [],
    twist: { vms: 2, hostile: 800 },
  },
  'failed-replace': {
    what: 'the host refuses the new table of a PASID: the VMM blocks it, and the copy fails',
    verified: false,
    bugs: [],
    twist: { refusedReplaces: 1 },
  },
  'forgotten-flush': {
    what: 'the guest unmaps and forgets to invalidate: the sanitizer tells',
    verified: false,
    bugs: ['guest-munmap-no-flush'],
    twist: {},
  },
  restless: {
    what: 'two processes, and caches that evict and prefetch as they like',
    verified: true,
    bugs: [],
    twist: { procs: 2, restlessCaches: true },
  },
  'power-cut': {
    what: 'the guest loses power while its PASIDs are attached and cached',
    verified: false,
    bugs: [],
    twist: { powerCut: 3 },
  },
  'memory-first': {
    what: 'the same, and the VMM unmaps guest memory before it detaches the device',
    verified: false,
    bugs: [],
    twist: { powerCut: 3, unmapFirst: true, smallPages: true },
  },
} as const satisfies Readonly<Record<string, Scenario>>;

export type ScenarioName = keyof typeof SCENARIOS;

export function isScenario(name: string): name is ScenarioName {
  return Object.hasOwn(SCENARIOS, name);
}

/** Options of a world in which a scenario happens. */
export function inScenario(options: WorldOptions, name: ScenarioName): WorldOptions {
  const { twist, bugs } = SCENARIOS[name];
  return { ...options, ...twist, bugs: new Set([...(options.bugs ?? []), ...bugs]) };
}
