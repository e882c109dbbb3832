import test from 'ava';
import type { PageRequest } from '../../../../devices/spec/vtd/page-request.ts';
import { Drains } from '../../../../devices/vtd/sanitizer/drains.ts';
import { Requests } from '../../../../devices/vtd/sanitizer/requests.ts';

const request = (prgi: number, last = true): PageRequest => ({
  rid: 8,
  pasid: 1,
  pasidPresent: true,
  exec: false,
  priv: false,
  read: true,
  write: false,
  last,
  prgi,
  address: 0x1000,
});
const answer = (prgi: number) =>
  ({ type: 'pgrp', rid: 8, pasid: 1, pasidPresent: true, code: 0, prgi, last: true }) as const;

test('a group is answered once', (t) => {
  const requests = new Requests();
  requests.queued(request(3));
  t.is(requests.answered(answer(3)), 'ok');
  t.is(requests.answered(answer(3)), 'second');
  t.is(requests.answered(answer(4)), 'unmatched');
  requests.queued(request(3));
  t.is(requests.answered(answer(3)), 'ok', 'the index is used again');
});

test('an index that is used again before its answer is owed two', (t) => {
  const requests = new Requests();
  requests.queued(request(3));
  requests.queued(request(3));
  t.deepEqual(
    [1, 2, 3].map(() => requests.answered(answer(3))),
    ['ok', 'ok', 'second'],
  );
});

test('requests that are not the last, and stop markers, take no answer', (t) => {
  const requests = new Requests();
  requests.queued(request(3, false));
  requests.queued({ ...request(4), read: false });
  t.is(requests.answered(answer(3)), 'unmatched');
  t.is(requests.answered(answer(4)), 'unmatched');
});

test('a drain is done when a wait with PD completes that came after the teardown', (t) => {
  const drains = new Drains();
  const first = { sid: 8, pasid: 1, trail: null };
  drains.owe(first);
  drains.waitCarried(false);
  drains.waitDone();
  t.deepEqual(
    drains.owed(() => true),
    [first],
    'a plain wait drains nothing',
  );
  drains.owe(first);
  drains.waitCarried(true);
  const second = { ...first, pasid: 2 };
  drains.owe(second);
  drains.waitDone();
  t.deepEqual(
    drains.owed(() => true),
    [second],
    'nor does one that came before',
  );
  t.deepEqual(
    drains.owed(() => true),
    [],
    'and it is told once',
  );
});
