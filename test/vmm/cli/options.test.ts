import test from 'ava';
import { InvalidArgumentError } from 'commander';
import fc from 'fast-check';
import { memorySize, sizeText, wholeNumber } from '../../../vmm/cli/options.ts';

const refused = { instanceOf: InvalidArgumentError };

test('whole numbers within the range are taken, the bounds too', (t) => {
  const parse = wholeNumber(1, 31);
  for (const [text, value] of [
    ['1', 1],
    ['31', 31],
    ['007', 7],
  ] as const) {
    t.is(parse(text), value);
  }
});

test('whole numbers: everything else is refused with the range', (t) => {
  const parse = wholeNumber(1, 31);
  const strange = [
    '',
    ' ',
    '0',
    '32',
    '-1',
    '+1',
    '1.0',
    '1e1',
    '0x10',
    'ten',
    '1 ',
    'NaN',
    'Infinity',
  ];
  for (const text of [...strange, '9'.repeat(400)]) {
    t.throws(() => parse(text), { ...refused, message: /whole number from 1 to 31/ }, text);
  }
});

test('a seed is any 32-bit number', (t) => {
  const seed = wholeNumber(0, 2 ** 32 - 1);
  fc.assert(
    fc.property(fc.nat(2 ** 32 - 1), (value) => {
      t.is(seed(String(value)), value);
    }),
  );
  t.throws(() => seed('4294967296'), refused);
});

test('a memory size is in MiB, or in the unit it names', (t) => {
  const cases: [string, number][] = [
    ['256', 256 * 2 ** 20],
    ['256M', 256 * 2 ** 20],
    ['256m', 256 * 2 ** 20],
    ['256MB', 256 * 2 ** 20],
    ['256MiB', 256 * 2 ** 20],
    ['262144K', 256 * 2 ** 20],
    ['4KiB', 4096],
    ['1G', 2 ** 30],
    ['0', 0],
  ];
  for (const [text, bytes] of cases) t.is(memorySize(text), bytes, text);
});

test('a memory size that is none, or no whole pages, is refused', (t) => {
  const nonsense = [
    '',
    'M',
    '-1M',
    '1.5G',
    '256 M',
    '256T',
    '4096B',
    '256iB',
    '0x100M',
    '256MM',
    'lots',
  ];
  for (const text of nonsense) {
    t.throws(() => memorySize(text), { ...refused, message: /like 256M/ }, text);
  }
  for (const text of ['1K', '4097K']) {
    t.throws(() => memorySize(text), { ...refused, message: /multiple of 4 KiB/ }, text);
  }
});

test('a size is told in the largest unit that divides it', (t) => {
  const cases: [number, string][] = [
    [0, '0 bytes'],
    [1023, '1023 bytes'],
    [1024, '1 KiB'],
    [4097, '4097 bytes'],
    [256 * 2 ** 20, '256 MiB'],
    [1536 * 2 ** 20, '1536 MiB'],
    [8 * 2 ** 30, '8 GiB'],
  ];
  for (const [bytes, text] of cases) t.is(sizeText(bytes), text);
});

test('what is told can be given back', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 21 }), (pages) => {
      t.is(memorySize(sizeText(pages * 4096).replace(' ', '')), pages * 4096);
    }),
  );
});
