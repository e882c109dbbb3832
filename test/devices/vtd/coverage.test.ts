import { readFileSync } from 'node:fs';
import test from 'ava';
import { collect, DOCUMENT, render } from './coverage.ts';
import { rules } from './rules.ts';

test('every rule has a test, every test a rule, and the document is current', async (t) => {
  const shown = await collect();
  const covered = new Set<string>(shown.flatMap(({ ids }) => ids));
  t.deepEqual(
    [...rules.keys()].filter((id) => !covered.has(id)),
    [],
    'rules without a test',
  );
  t.deepEqual(
    [...covered].filter((id) => !rules.has(id)),
    [],
    'tests of rules that are not in the list',
  );
  t.is(readFileSync(DOCUMENT, 'utf8'), render(shown), 'run: npm run docs:vtd');
});
