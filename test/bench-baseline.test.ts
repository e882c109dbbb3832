import test from 'ava';
import { baselineOf, better, fallen, readBaseline } from './bench/baseline.ts';

test('a ratio falls when it is more than a fifth below the baseline', (t) => {
  const baseline = { a: 1, b: 2, c: 0.5 };
  t.deepEqual(fallen({ a: 0.81, b: 1.61, c: 0.41 }, baseline), []);
  t.deepEqual(fallen({ a: 0.79, b: 2.5, c: 0.5 }, baseline), [{ key: 'a', was: 1, is: 0.79 }]);
  t.deepEqual(fallen({}, baseline), [], 'what was not measured has not fallen');
});

test('the better one of two runs counts', (t) => {
  t.deepEqual(better({ a: 1, b: 3 }, { a: 2, c: 4 }), { a: 2, b: 3, c: 4 });
});

test('only figures with a key have a ratio', (t) => {
  const figure = { name: 'x', ratio: 0.5, of: 'y', value: 1, unit: 'ns' } as const;
  t.deepEqual(baselineOf([figure, { ...figure, key: 'x/y' }]), { 'x/y': 0.5 });
});

test('the committed baseline has the ratios that the goals are about', (t) => {
  const baseline = readBaseline();
  for (const key of [
    'nested-cold/c-walker',
    'nested-cold-psc/c-walker',
    'nested-cold-context/c-walker',
    'iotlb-hit/c-walker-hit',
    'dma-4k/memcpy',
    'dma-64k/memcpy',
    'trace-off/no-trace',
  ]) {
    t.true((baseline[key] ?? 0) > 0, key);
  }
});
