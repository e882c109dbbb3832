import test from 'ava';
import { DomainIds } from '../../../../host/kernel/intel/domain-id.ts';

test('ids start at 2, one per domain, counted, and the lowest free one is dealt', (t) => {
  const ids = new DomainIds(6);
  const [a, b, c] = [{}, {}, {}];
  t.is(ids.acquire(a), 2);
  t.is(ids.acquire(b), 3);
  t.is(ids.acquire(a), 2);
  ids.release(a);
  t.is(ids.of(a), 2);
  ids.release(a);
  t.is(ids.of(a), undefined);
  t.is(ids.acquire(c), 2);
  t.is(ids.size, 2);
});

test('ENOSPC when all are taken', (t) => {
  const ids = new DomainIds(0);
  for (let n = 2; n < 16; n++) ids.acquire({});
  t.throws(() => ids.acquire({}), { message: /^ENOSPC/ });
});
