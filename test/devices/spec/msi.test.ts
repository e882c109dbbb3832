import test from 'ava';

import {
  DELIVERY_MODE,
  decodeMsi,
  encodeMsi,
  isInterruptAddress,
  isRemappable,
} from '../../../devices/spec/msi.ts';

test('a compatibility message puts destination and vector at their bits', (t) => {
  const message = encodeMsi({ destination: 3, vector: 0x41 });
  t.deepEqual(message, { address: 0xfee0_3000, data: 0x41 });
  t.deepEqual(decodeMsi(message.address, message.data), {
    destination: 3,
    vector: 0x41,
    deliveryMode: DELIVERY_MODE.FIXED,
    redirectionHint: false,
    logical: false,
    level: false,
    levelTriggered: false,
  });
});

test('every flag has its own bit', (t) => {
  const flags = { redirectionHint: true, logical: true, level: true, levelTriggered: true };
  const message = encodeMsi({ destination: 0xff, vector: 0xff, deliveryMode: 7, ...flags });
  t.deepEqual(message, { address: 0xfeef_f00c, data: 0xc7ff });
  t.like(decodeMsi(message.address, message.data), flags);
});

test('addresses outside the window and remappable messages are no compatibility interrupts', (t) => {
  t.is(decodeMsi(0xfedf_fffc, 0), undefined);
  t.is(decodeMsi(0xfef0_0000, 0), undefined);
  t.is(decodeMsi(0xfee0_0010, 0), undefined);
  t.true(isRemappable(0xfee0_0010));
  t.false(isRemappable(0x1_0000_0010));
  t.true(isInterruptAddress(0xfeef_ffff));
  t.false(isInterruptAddress(0x1_fee0_0000));
});
