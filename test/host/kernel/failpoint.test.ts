import test from 'ava';
import { FailPoints } from '../../../host/kernel/failpoint.ts';

test('nothing fails until it is armed', (t) => {
  const points = new FailPoints();
  t.notThrows(() => points.point('a'));
  t.false(points.armed);
  t.deepEqual(points.passed, []);
});

test('the n-th point fails once, and what was passed is known', (t) => {
  const points = new FailPoints();
  points.failNth(3);
  points.point('a');
  points.point('b');
  t.true(points.armed);
  t.throws(() => points.point('c'), { message: 'ENOMEM: failure injected at c' });
  t.false(points.armed);
  t.notThrows(() => points.point('d'));
  t.deepEqual(points.passed, ['a', 'b', 'c', 'd']);
});

test('a named point fails at its n-th passing, with the errno asked for', (t) => {
  const points = new FailPoints();
  points.failAt('b', 2, 'EFAULT');
  points.point('a');
  points.point('b');
  points.point('a');
  t.throws(() => points.point('b'), { message: /^EFAULT/ });
});

test('disarming ends it and starts the record anew', (t) => {
  const points = new FailPoints();
  points.failAt('a');
  points.disarm();
  points.point('a');
  t.deepEqual(points.passed, ['a']);
  t.throws(() => points.failNth(0), { instanceOf: RangeError });
});
