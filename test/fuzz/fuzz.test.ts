import test from 'ava';
import { type Action, describe } from './actions.ts';
import { episodeActions, episodeSeed, runEpisode } from './episode.ts';
import { minimise } from './minimise.ts';

const EPISODES = 60;

test('random calls of several processes end well and leave nothing behind', (t) => {
  let succeeded = 0;
  for (let number = 0; number < EPISODES; number++) {
    const seed = episodeSeed(1, number);
    const outcome = runEpisode(seed);
    t.is(outcome.problem, null, `episode ${number}, seed ${seed}`);
    succeeded += outcome.succeeded;
  }
  t.true(succeeded > 10 * EPISODES, `${succeeded} calls succeeded`);
});

test('an episode is what its seed says', (t) => {
  const seed = episodeSeed(7, 3);
  t.deepEqual(episodeActions(seed).map(describe), episodeActions(seed).map(describe));
  t.deepEqual(runEpisode(seed), runEpisode(seed));
  t.not(episodeSeed(7, 3), episodeSeed(7, 4));
});

test('what escapes from the kernel, and what it keeps, is a finding', (t) => {
  const open = (path: string): Action => ({ thread: 1, delay: 0, do: 'open', path });
  const escaped = runEpisode(5, [open('/dev/iommu'), open('/dev/broken')], (kernel) => {
    kernel.registerDevice('/dev/broken', () => {
      throw new Error('this is no Errno');
    });
  });
  t.regex(escaped.problem ?? '', /^Error: this is no Errno/);
  const kept = runEpisode(5, [open('/dev/iommu')], (kernel) => {
    kernel.addLeftover('objects', () => 1);
  });
  t.regex(kept.problem ?? '', /^Error: left behind: .*"objects":1/);
});

test('the shortest list that still goes wrong', (t) => {
  const bad = (list: readonly number[]): boolean => list.includes(3) && list.includes(17);
  const list = Array.from({ length: 20 }, (_, n) => n);
  t.deepEqual(minimise(list, bad), [3, 17]);
  t.deepEqual(
    minimise(list, () => true),
    [],
  );
});
