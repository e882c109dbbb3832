import { readFileSync } from 'node:fs';
import test from 'ava';
import { draw, readmeWith, SHOTS } from './screens.ts';

for (const [name, shot] of Object.entries(SHOTS)) {
  test(`docs/screens/${name}.txt is what a run shows (else: npm run screens)`, (t) => {
    const kept = readFileSync(new URL(`../../docs/screens/${name}.txt`, import.meta.url), 'utf8');
    t.is(kept, draw(shot));
  });
}

test('README.md shows what a run shows (else: npm run screens)', (t) => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  t.true(readme.includes('<!-- screen '));
  t.is(readme, readmeWith(readme));
});
