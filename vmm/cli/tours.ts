import { inScenario, SCENARIOS, type ScenarioName } from '../scenario/scenarios.ts';
import type { WorldOptions } from '../scenario/world.ts';
import { WorldSource } from './tui-world.ts';

export type TourOptions = Omit<WorldOptions, 'listeners' | 'sinks'>;

/** A scenario to be watched from where the thing happens that it is about. */
export interface OpenTour {
  readonly source: WorldSource;
  /** The last event of the phase to begin with. */
  readonly at?: number;
}

/** Words of the title of the phase that a scenario is about; the others begin at the beginning. */
const BEGINS: Partial<Readonly<Record<ScenarioName, string>>> = {
  bind: 'open the accelerator',
  'page-fault': 'copy to a buffer',
  unmap: 'unmap the middle',
  replace: 'another page table root',
  'failed-replace': 'another page table root',
  'forgotten-flush': 'unmap the middle',
};

export const TOURS = Object.keys(SCENARIOS) as readonly ScenarioName[];

/** @param options of the world in which it happens */
export function openTour(options: TourOptions, name: ScenarioName): OpenTour {
  const inside = inScenario({ ...options, listeners: [] }, name);
  const source = new WorldSource({ ...inside, sanitize: options.sanitize ?? true });
  const words = BEGINS[name];
  const at = words === undefined ? undefined : source.runPast(words);
  return { source, ...(at !== undefined && { at }) };
}
