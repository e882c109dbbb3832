import test from 'ava';
import fc from 'fast-check';

import { bit, bitStruct, bits, hex } from '../../../devices/spec/bits.ts';

const sample = bitStruct(2, {
  P: [0, 0, 0],
  KIND: [0, 8, 6],
  PTR: [0, 63, 12, 'address'],
  WIDE: [1, 63, 32],
});

test('bits and bit extract from a word', (t) => {
  t.is(bits(0xabcd_0000_0000_1234n, 63, 48), 0xabcdn);
  t.is(bits(0x1234n, 7, 4), 3n);
  t.true(bit(1n << 63n, 63));
  t.false(bit(1n << 63n, 62));
  t.is(hex(0x1234_5678_9abc_def0n), '0x123456789abcdef0');
});

test('a structure places each field and decodes numbers, addresses and flags', (t) => {
  const words = sample.encode({ P: true, KIND: 3, PTR: 0x1234000, WIDE: 0xffff_ffff });
  t.deepEqual([...words], [0x12340c1n, 0xffff_ffff_0000_0000n]);
  t.deepEqual(sample.decode(words), { P: 1, KIND: 3, PTR: 0x1234000, WIDE: 0xffff_ffff });
  t.is(sample.bytes, 16);
});

test('the top address decodes exactly', (t) => {
  t.is(sample.decode([0xffff_ffff_ffff_ffffn]).PTR, 0xffff_ffff_ffff_f000);
  t.is(BigInt(sample.decode([0xffff_ffff_ffff_ffffn]).PTR), 0xffff_ffff_ffff_f000n);
});

test('missing words read as zero and reserved bits are the uncovered ones', (t) => {
  t.is(sample.decode([1n]).WIDE, 0);
  t.deepEqual(sample.reserved, [0xe3en, 0xffff_ffffn]);
  t.false(sample.hasReserved([0xffff_ffff_ffff_f1c1n]));
  t.true(sample.hasReserved([1n << 9n]));
  t.true(sample.hasReserved([0n, 1n]));
  t.is(sample.masks.KIND, 0x1c0n);
});

test('describe names non-zero fields in declaration order', (t) => {
  t.is(sample.describe(sample.encode({ P: 1, KIND: 2, PTR: 0x5000 })), 'P KIND=2 PTR=0x5000');
  t.is(sample.describe([0n, 0n]), '0');
});

test('a value that does not fit throws RangeError naming the field', (t) => {
  t.throws(() => sample.encode({ KIND: 8 }), { instanceOf: RangeError, message: /KIND/ });
  t.throws(() => sample.encode({ KIND: -1 }), { instanceOf: RangeError, message: /KIND/ });
  t.throws(() => sample.encode({ KIND: 1.5 }), { instanceOf: RangeError, message: /KIND/ });
  t.throws(() => sample.encode({ PTR: 0x1800 }), { instanceOf: RangeError, message: /PTR/ });
  t.throws(() => sample.encode({ PTR: 1n << 64n }), { instanceOf: RangeError, message: /PTR/ });
});

test('a declaration with an impossible field is refused', (t) => {
  t.throws(() => bitStruct(1, { X: [1, 0, 0] }), { message: /X/ });
  t.throws(() => bitStruct(1, { X: [0, 40, 0] }), { message: /X/ });
});

test('encode and decode are inverse', (t) => {
  const field = fc.record({
    P: fc.nat(1),
    KIND: fc.nat(7),
    PTR: fc.bigInt(0n, (1n << 52n) - 1n).map((page) => Number(page) * 4096),
    WIDE: fc.nat(0x7fff_ffff),
  });
  fc.assert(fc.property(field, (f) => t.deepEqual(sample.decode(sample.encode(f)), f)));
});
