import test from 'ava';
import fc from 'fast-check';

import {
  ADDRESS_HI,
  ADDRESS_LO,
  ADDRESS_MASK,
  describeFirstStage,
  describeSecondStage,
  entryAddress,
  FS,
  FS_HI,
  FS_LO,
  inputWidth,
  isCanonical,
  isCanonicalPage,
  isLeaf,
  levelBytes,
  levelIndex,
  levelPages,
  pageIndex,
  SS,
  SS_LO,
} from '../../../../devices/spec/x86/paging.ts';

test('level spans and widths', (t) => {
  t.deepEqual([1, 2, 3, 4, 5].map(levelBytes), [2 ** 12, 2 ** 21, 2 ** 30, 2 ** 39, 2 ** 48]);
  t.deepEqual([1, 2, 3].map(levelPages), [1, 512, 262144]);
  t.deepEqual([3, 4, 5].map(inputWidth), [39, 48, 57]);
});

test('indices come from the documented address bits', (t) => {
  const address = (1n << 48n) | (2n << 39n) | (3n << 30n) | (4n << 21n) | (5n << 12n) | 0x678n;
  t.deepEqual(
    [5, 4, 3, 2, 1].map((level) => levelIndex(address, level)),
    [1, 2, 3, 4, 5],
  );
});

test('page numbers and addresses give the same indices and the same canonical answer', (t) => {
  fc.assert(
    fc.property(fc.bigInt(0n, (1n << 52n) - 1n), (page) => {
      for (let level = 1; level <= 5; level++) {
        t.is(pageIndex(Number(page), level), levelIndex(page << 12n, level));
      }
      for (const width of [48, 57]) {
        t.is(isCanonicalPage(Number(page), width), isCanonical(page << 12n, width));
      }
    }),
  );
});

test('canonical addresses at the borders', (t) => {
  const cases = [
    [0x0000_7fff_ffff_f000n, true, true],
    [0x0000_8000_0000_0000n, false, true],
    [0xffff_8000_0000_0000n, true, true],
    [0xffff_7fff_ffff_f000n, false, true],
    [0x00ff_ffff_ffff_f000n, false, true],
    [0x0100_0000_0000_0000n, false, false],
    [0xff00_0000_0000_0000n, false, true],
  ] as const;
  for (const [address, in48, in57] of cases) {
    t.is(isCanonical(address, 48), in48, address.toString(16));
    t.is(isCanonical(address, 57), in57, address.toString(16));
    t.is(isCanonicalPage(Number(address >> 12n), 48), in48, address.toString(16));
    t.is(isCanonicalPage(Number(address >> 12n), 57), in57, address.toString(16));
  }
});

test('int32 halves agree with the 64-bit constants', (t) => {
  for (const [name, mask] of Object.entries<number>(FS_LO)) {
    t.is(FS[name as keyof typeof FS_LO], BigInt(mask), name);
  }
  for (const name of ['R', 'W', 'X', 'IPAT', 'PS', 'A', 'D', 'SNP'] as const) {
    t.is(SS[name], BigInt(SS_LO[name]), name);
  }
  t.is(FS.XD, BigInt(FS_HI.XD >>> 0) << 32n);
  t.is(ADDRESS_MASK, (BigInt(ADDRESS_HI) << 32n) | BigInt(ADDRESS_LO >>> 0));
});

test('leaves and the address behind an entry', (t) => {
  t.true(isLeaf(0x5067n, 1));
  t.false(isLeaf(0x5067n, 2));
  t.true(isLeaf(0x2000e7n, 2));
  t.false(isLeaf(0x80n, 4));
  t.is(entryAddress(0x8000_0000_0020_10e7n, 2), 0x200000);
  t.is(entryAddress(0x5067n, 3), 0x5000);
});

test('entries print target and bits', (t) => {
  t.is(describeFirstStage(0x5067n, 1), '0x5067 -> 0x5000 P|RW|US|A|D');
  t.is(describeFirstStage(0x50e7n, 1), '0x50e7 -> 0x5000 P|RW|US|A|D|PAT');
  t.is(describeFirstStage(0x2000e7n, 2), '0x2000e7 -> 0x200000 P|RW|US|A|D|PS');
  t.is(describeFirstStage(0n, 1), '0x0 not present');
  t.is(describeSecondStage(0x5303n, 1), '0x5303 -> 0x5000 R|W|A|D');
  t.is(describeSecondStage(0x5002n, 1), '0x5002 -> 0x5000 W');
  t.is(describeSecondStage(0x5004n, 1), '0x5004 not present');
  t.is(describeFirstStage(0x2010ffn, 2), '0x2010ff -> 0x200000 P|RW|US|PWT|PCD|A|D|PS|PAT');
  t.is(describeFirstStage(0x1027n, 2), '0x1027 -> 0x1000 P|RW|US|A', 'a table is no leaf');
  t.is(describeSecondStage(0x5873n, 1), '0x5873 -> 0x5000 R|W|IPAT|SNP|EMT=6');
  t.is(describeSecondStage(0x5033n, 2), '0x5033 -> 0x5000 R|W');
});
