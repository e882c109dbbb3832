import test from 'ava';
import fc from 'fast-check';

import {
  decodeRange,
  encodeRange,
  pageRangeLog2,
  WHOLE_RANGE_ADDRESS,
} from '../../../../devices/spec/vtd/ats-range.ts';

test('sizes encode in the low address bits', (t) => {
  t.deepEqual(encodeRange(0x10000n, 12), { address: 0x10000n, s: 0 });
  t.deepEqual(encodeRange(0x11234n, 13), { address: 0x10000n, s: 1 });
  t.deepEqual(encodeRange(0x10000n, 14), { address: 0x11000n, s: 1 });
  t.deepEqual(encodeRange(0x201000n, 21), { address: 0x2ff000n, s: 1 });
  t.deepEqual(encodeRange(0n, 'all'), { address: WHOLE_RANGE_ADDRESS, s: 1 });
});

test('every size and base decodes to itself', (t) => {
  const input = fc.tuple(fc.bigInt(0n, (1n << 64n) - 1n), fc.integer({ min: 12, max: 63 }));
  fc.assert(
    fc.property(input, ([address, sizeLog2]) => {
      const range = encodeRange(address, sizeLog2);
      const base = (address >> BigInt(sizeLog2)) << BigInt(sizeLog2);
      t.deepEqual(decodeRange(range.address, range.s), { address: Number(base), sizeLog2 });
    }),
  );
});

test('the two all-ones forms mean everything', (t) => {
  const all = { address: 0, sizeLog2: 'all' } as const;
  t.deepEqual(decodeRange(0x7fff_ffff_ffff_f001n, true), all);
  t.deepEqual(decodeRange(0xffff_ffff_ffff_f000n, 1), all);
});

test('page halves give the size without bigints', (t) => {
  t.is(pageRangeLog2(0, 0), 13);
  t.is(pageRangeLog2(0, 0x7fff_ffff), 13 + 31);
  t.is(pageRangeLog2(0, -1), 13 + 32);
  t.is(pageRangeLog2(0x3ffff, -1), 63);
  t.is(pageRangeLog2(0x7ffff, -1), 64);
  t.is(pageRangeLog2(0xfffff, -1), 64);
});

test('sizes below a page, above 2^63, and wide addresses are refused', (t) => {
  t.throws(() => encodeRange(0n, 11), { instanceOf: RangeError });
  t.throws(() => encodeRange(0n, 64), { instanceOf: RangeError });
  t.throws(() => encodeRange(1n << 64n, 12), { instanceOf: RangeError });
});
