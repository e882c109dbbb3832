import test from 'ava';

import {
  decodePageRequest,
  encodePageRequest,
  isStopMarker,
  pageRequestDescriptor,
  RESPONSE,
  responseName,
} from '../../../../devices/spec/vtd/page-request.ts';

const request = {
  rid: 0x100,
  pasid: 5,
  pasidPresent: true,
  exec: false,
  priv: false,
  read: true,
  write: true,
  last: true,
  prgi: 3,
  address: 0x7f0000001000,
};

test('page request test vector', (t) => {
  const words = encodePageRequest(request);
  t.deepEqual([...words], [0x0000000501000101n, 0x00007f000000101fn, 0n, 0n]);
  t.deepEqual(decodePageRequest(words), request);
});

test('every flag survives alone', (t) => {
  const none = { ...request, pasidPresent: false, read: false, write: false, last: false };
  for (const flag of ['pasidPresent', 'exec', 'priv', 'read', 'write', 'last'] as const) {
    const one = { ...none, [flag]: true };
    t.deepEqual(decodePageRequest(encodePageRequest(one)), one, flag);
  }
});

test('another type is no page request; bit 9 and 15:10 are reserved', (t) => {
  t.is(decodePageRequest([2n, 0n, 0n, 0n]), undefined);
  t.true(pageRequestDescriptor.hasReserved([0x201n, 0n, 0n, 0n]));
  t.true(pageRequestDescriptor.hasReserved([1n, 0n, 1n, 0n]));
});

test('a stop marker has a PASID, is last, and asks for nothing', (t) => {
  const marker = { ...request, read: false, write: false };
  t.true(isStopMarker(marker));
  t.false(isStopMarker(request));
  t.false(isStopMarker({ ...marker, pasidPresent: false }));
  t.false(isStopMarker({ ...marker, last: false }));
});

test('response codes by name', (t) => {
  t.deepEqual([RESPONSE.SUCCESS, RESPONSE.INVALID, RESPONSE.FAILURE, 7].map(responseName), [
    'success',
    'invalid',
    'failure',
    '0x7',
  ]);
});
