/**
 * Tests that say which rule of the specification they show: `rule('FR-71', 'title', (t) => ...)`.
 * Outside the test runner the same files are read to collect the rules (`coverage.ts`).
 */
import type { ExecutionContext } from 'ava';
import { COLLECTOR, type RuleId, type RuleTest } from './rules.ts';

const collected = (globalThis as { [COLLECTOR]?: RuleTest[] })[COLLECTOR];
const ava = collected === undefined ? (await import('ava')).default : undefined;

/** Declares a test of one or several rules. */
export function rule(
  id: RuleId | readonly RuleId[],
  title: string,
  body: (t: ExecutionContext) => void,
): void {
  const ids = typeof id === 'string' ? [id] : id;
  collected?.push({ ids, title });
  ava?.(`${ids.join(' ')}: ${title}`, body);
}
