import test from 'ava';
import { Recent } from '../../trace/recent.ts';

test('the last keys are kept, older ones go, and a key has its last value', (t) => {
  const recent = new Recent<number, number>(100);
  for (let key = 0; key < 1000; key++) {
    recent.set(key, 2 * key);
    t.is(recent.get(key), 2 * key);
    const early = Math.max(0, key - 99);
    t.is(recent.get(early), 2 * early);
  }
  t.is(recent.get(700), undefined);
  recent.set(950, 1);
  t.is(recent.get(950), 1);
  recent.delete(950);
  t.is(recent.get(950), undefined);
});

test('a million keys cost a million steps', (t) => {
  const recent = new Recent<number, string>(1 << 16);
  for (let key = 0; key < 1_000_000; key++) recent.set(key, 'x');
  t.is(recent.get(999_999), 'x');
  t.is(recent.get(1), undefined);
});
