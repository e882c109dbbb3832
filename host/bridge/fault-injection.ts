import type { SysfsEntry } from '../kernel/sysfs.ts';
import { file } from './tree.ts';

const DEBUGFS = '/sys/kernel/debug';

/** Attributes of every fault injector (Documentation/fault-injection), and what they begin with. */
const COMMON = {
  probability: '0\n',
  interval: '1\n',
  times: '1\n',
  space: '0\n',
  verbose: '2\n',
  'task-filter': 'N\n',
} as const;

const INJECTORS = {
  failslab: { 'ignore-gfp-wait': 'Y\n', 'cache-filter': 'N\n' },
  fail_page_alloc: { 'ignore-gfp-wait': 'Y\n', 'ignore-gfp-highmem': 'Y\n', 'min-order': '1\n' },
} as const;

/**
 * What debugfs shows of a kernel whose failure points can be armed. They are armed by a thread's
 * `fail-nth`; the filters of allocations have nothing to choose from here.
 */
export function* faultInjectionNodes(): Generator<SysfsEntry> {
  for (const [name, own] of Object.entries(INJECTORS)) {
    const attributes = Object.entries({ ...COMMON, ...own });
    for (const [attribute, value] of attributes) {
      yield [`${DEBUGFS}/${name}/${attribute}`, file(value, 0o600)];
    }
  }
}
