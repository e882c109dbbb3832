import test from 'ava';

import {
  describeFault,
  FAULT,
  FAULTS,
  FRCD,
  recordsOnTranslationRequest,
  translatedReply,
} from '../../../../devices/spec/vtd/faults.ts';

test('the fault table holds each code once, in order, under its name', (t) => {
  const codes = [...FAULTS.keys()];
  t.deepEqual(
    codes,
    [...codes].sort((a, b) => a - b),
  );
  t.is(codes.length, Object.keys(FAULT).length);
  for (const [code, info] of FAULTS) {
    t.is(info.code, code);
    t.is<number, number>(FAULT[info.name], code);
    t.not(info.meaning, '');
  }
});

test('only these conditions are recorded in spite of FPD', (t) => {
  const unqualified = [...FAULTS.values()].filter((f) => !f.qualified).map((f) => f.code);
  t.deepEqual(
    unqualified,
    [
      0x01, 0x08, 0x09, 0x0a, 0x20, 0x21, 0x23, 0x25, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33,
      0x34, 0x38, 0x39, 0x3a, 0x40, 0x50, 0x58,
    ],
  );
});

test('not-present PASID entries are recoverable for ATS and invalid for page requests', (t) => {
  for (const code of [FAULT.PASID_DIR_NOT_PRESENT, FAULT.PASID_ENTRY_NOT_PRESENT]) {
    t.like(FAULTS.get(code), { tr: 'ok0', pr: 'IR', qualified: true });
    t.false(recordsOnTranslationRequest(code));
    t.is(translatedReply(FAULT.PASID_ENTRY_NOT_PRESENT), 'UR');
  }
});

test('replies by class', (t) => {
  const withReply = (tr: string): number[] =>
    [...FAULTS.values()].filter((f) => f.tr === tr).map((f) => f.code);
  t.deepEqual(withReply('eff'), [0x05, 0x06, 0x85, 0x86]);
  t.deepEqual(
    withReply('UR'),
    [0x01, 0x02, 0x0d, 0x31, 0x33, 0x34, 0x39, 0x41, 0x44, 0x45, 0x46, 0x48, 0x89],
  );
  t.deepEqual([0x50, 0x52, 0x58, 0x5a, 0x5b, 0x51, 0x59, 0x83, 0x87].map(translatedReply), [
    'CA',
    'CA',
    'CA',
    'CA',
    'CA',
    'UR',
    'UR',
    'UR',
    'UR',
  ]);
});

test('a failed accessed/dirty update is answered success and recorded', (t) => {
  t.is(FAULTS.get(FAULT.FS_AD_FAILED)?.tr, 'ok0');
  t.true(recordsOnTranslationRequest(FAULT.FS_AD_FAILED));
  t.false(recordsOnTranslationRequest(FAULT.FS_NOT_PRESENT));
  t.false(recordsOnTranslationRequest(0xff));
});

test('page requests are answered only for conditions before the page walk', (t) => {
  const answered = [...FAULTS.values()].filter((f) => f.pr === 'IR').map((f) => f.code);
  t.deepEqual(
    answered,
    [
      0x30, 0x32, 0x33, 0x38, 0x39, 0x3a, 0x40, 0x41, 0x42, 0x43, 0x45, 0x46, 0x47, 0x48, 0x50,
      0x51, 0x52, 0x58, 0x59, 0x5a, 0x5b,
    ],
  );
});

test('faults print name, code and meaning', (t) => {
  t.is(
    describeFault(FAULT.SM_ROOT_NOT_PRESENT),
    'SM_ROOT_NOT_PRESENT (0x39): root entry not present',
  );
  t.is(describeFault(0x82), 'fault 0x82');
});

test('a fault record has each field at its bits', (t) => {
  const words = FRCD.encode({
    FI: 0x7f0000001000,
    SID: 0x100,
    PP: 1,
    FR: 0x71,
    PV: 0x5,
    AT: 1,
    T1: 1,
    F: 1,
  });
  t.deepEqual([...words], [0x7f0000001000n, 0xd000_0571_8000_0100n]);
  t.deepEqual(FRCD.reserved, [0xfffn, 0x0fff_0000n]);
});
