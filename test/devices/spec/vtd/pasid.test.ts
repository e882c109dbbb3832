import test from 'ava';

import {
  AW,
  describePasidEntry,
  FSPM,
  firstStageLevels,
  PGTT,
  pasidDirEntryAddress,
  pasidEntry,
  pasidEntryAddress,
  pasidEntryReserved,
  secondStageLevels,
  secondStageWidth,
} from '../../../../devices/spec/vtd/pasid.ts';

const ALL = { SSADS: 1, SMPWCS: 1, SC: 1, MTS: 1, SRS: 1, EAFS: 1 };

test('first-stage PASID entry test vector', (t) => {
  const words = pasidEntry.encode({
    P: 1,
    PGTT: PGTT.FIRST_STAGE,
    AW: AW.BITS_48,
    DID: 1,
    PWSNP: 1,
    FSPTPTR: 0x12345000,
  });
  t.deepEqual([...words], [0x49n, 0x800001n, 0x12345000n, 0n, 0n, 0n, 0n, 0n]);
});

test('a nested entry reads in plain words and by name', (t) => {
  const words = pasidEntry.encode({
    P: 1,
    PGTT: PGTT.NESTED,
    DID: 5,
    AW: AW.BITS_48,
    SSPTPTR: 0x1234000,
    FSPTPTR: 0x5678000,
  });
  t.is(pasidEntry.describe(words), 'P PGTT=3 DID=5 AW=2 SSPTPTR=0x1234000 FSPTPTR=0x5678000');
  t.is(
    describePasidEntry(words),
    'P PGTT=nested DID=5 AW=48-bit SSPTPTR=0x1234000 FSPM=4-level FSPTPTR=0x5678000',
  );
});

test('describe shows what the translation type uses', (t) => {
  const describe = (fields: Parameters<typeof pasidEntry.encode>[0]): string =>
    describePasidEntry(pasidEntry.encode(fields));
  t.is(
    describe({ P: 1, PGTT: PGTT.FIRST_STAGE, DID: 1, FSPM: FSPM.LEVELS_5, SRE: 1, WPE: 1 }),
    'P PGTT=first-stage DID=1 FSPM=5-level FSPTPTR=0x0 SRE WPE',
  );
  t.is(describe({ P: 1, PGTT: PGTT.PASS_THROUGH, DID: 1 }), 'P PGTT=pass-through DID=1');
  t.is(
    describe({ P: 1, PGTT: PGTT.PASS_THROUGH, CD: 1, EMTE: 1, PAT: 0x0007_0406 }),
    'P PGTT=pass-through DID=0 CD EMTE PAT=0x70406',
  );
  t.is(describe({ P: 1, PGTT: 6 }), 'P PGTT=invalid(6) DID=0');
  t.is(describe({}), '0');
  t.is(describe({ FPD: 1 }), 'FPD');
});

test('reserved bits are the ones the specification leaves', (t) => {
  t.deepEqual(pasidEntry.reserved.slice(0, 3), [0xc20n, 0xf87f_0000n, 0xf02n]);
  t.deepEqual(pasidEntry.reserved.slice(3), Array<bigint>(5).fill(0xffff_ffff_ffff_ffffn));
  t.deepEqual(pasidEntryReserved(ALL), pasidEntry.reserved);
});

test('fields that the unit lacks the capability for are reserved', (t) => {
  const added = (without: keyof typeof ALL, word: number): bigint =>
    pasidEntryReserved({ ...ALL, [without]: 0 })[word]! ^ pasidEntry.reserved[word]!;
  t.is(added('SSADS', 0), 1n << 9n);
  t.is(added('SMPWCS', 1), 1n << 23n);
  t.is(added('SC', 1), 1n << 24n);
  t.is(added('MTS', 1), 3n << 25n);
  t.is(added('SRS', 2), 1n);
  t.is(added('EAFS', 2), 1n << 7n);
});

test('directory and table indices', (t) => {
  t.is(pasidDirEntryAddress(0x10000, 0xfffff), 0x10000 + 0x3fff * 8);
  t.is(pasidEntryAddress(0x20000, 0xfffff), 0x20fc0);
  t.is(pasidDirEntryAddress(0x10000, 0x40), 0x10008);
  t.is(pasidEntryAddress(0x20000, 0x40), 0x20000);
});

test('widths and levels', (t) => {
  t.deepEqual([1, 2, 3].map(secondStageLevels), [3, 4, 5]);
  t.deepEqual([1, 2, 3].map(secondStageWidth), [39, 48, 57]);
  t.deepEqual([0, 1].map(firstStageLevels), [4, 5]);
});
