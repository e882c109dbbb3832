import test from 'ava';
import { register32, register64 } from '../../../../devices/spec/dsa/fields.ts';

test('fields of a 64-bit register go where the layout says', (t) => {
  const reg = register64({ low: [3, 0], wide: [55, 4], top: [63, 63] });
  t.is(reg.encode({ low: 5, wide: 2 ** 52 - 1, top: 1 }), 0x80ff_ffff_ffff_fff5n);
  t.deepEqual(reg.decode(0x80ff_ffff_ffff_fff5n), { low: 5, wide: 2 ** 52 - 1, top: 1 });
  t.is(reg.mask, 0x80ff_ffff_ffff_ffffn);
  t.is(reg.encode({}), 0n);
});

test('a 32-bit register is an unsigned number', (t) => {
  const reg = register32({ low: [7, 0], top: [31, 31] });
  t.is(reg.encode({ low: 1, top: 1 }), 0x8000_0001);
  t.deepEqual(reg.decode(0x8000_0001 | 0), { low: 1, top: 1 });
  t.is(reg.mask, 0x8000_00ff);
});

test('a value that does not fit its field is refused by name', (t) => {
  const reg = register32({ low: [7, 0] });
  for (const low of [256, -1, 1.5, NaN]) {
    t.throws(() => reg.encode({ low }), { instanceOf: RangeError, message: /^low is .* 0 to 255/ });
  }
});
