import test from 'ava';

import {
  contextEntry,
  contextEntryAddress,
  contextEntryReserved,
  contextTableOf,
  legacyContextEntry,
  legacyContextEntryAddress,
  pasidCount,
  rootEntry,
  rootEntryAddress,
} from '../../../../devices/spec/vtd/context.ts';

test('context entry test vector', (t) => {
  const fields = { P: 1, DTE: 1, PASIDE: 1, PRE: 1, PDTS: 2, PASIDDIRPTR: 0x2000000 };
  const words = contextEntry.encode({ ...fields, RID_PASID: 0xabcde });
  t.deepEqual([...words], [0x200041dn, 0xabcden, 0n, 0n]);
  t.like(contextEntry.decode(words), fields);
  t.is(
    contextEntry.describe(words),
    'P DTE PASIDE PRE PDTS=2 PASIDDIRPTR=0x2000000 RID_PASID=703710',
  );
});

test('a scalable root entry splits at devfn 80h', (t) => {
  const root = rootEntry.decode(rootEntry.encode({ LP: 1, LCTP: 0x5000, UCTP: 0x6000 }));
  t.deepEqual(contextTableOf(root, 0x7f), { present: true, ctp: 0x5000 });
  t.deepEqual(contextTableOf(root, 0x80), { present: false, ctp: 0x6000 });
  t.is(rootEntryAddress(0x1000, 0xff), 0x1ff0);
  t.is(contextEntryAddress(0x5000, 0x7f), 0x5fe0);
  t.is(contextEntryAddress(0x6000, 0x81), 0x6020);
});

test('a legacy context entry ignores bits 6:3 of its second word', (t) => {
  t.false(legacyContextEntry.hasReserved([0n, 0x78n]));
  t.true(legacyContextEntry.hasReserved([0n, 0x80n]));
  t.is(legacyContextEntry.encode({ AW: 2, DID: 0xffff })[1], 0xffff02n);
  t.is(legacyContextEntryAddress(0x5000, 0xff), 0x5ff0);
});

test('fields that the unit lacks the capability for are reserved', (t) => {
  t.is(contextEntry.reserved[0], 0x180n);
  const full = contextEntryReserved({ RPS: 1, RPRIVS: 1, SRS: 1 });
  t.deepEqual(full.slice(0, 2), [0x1e0n, 0xffff_ffff_ffe0_0000n]);
  t.is(contextEntryReserved({ RPS: 1, RPRIVS: 0, SRS: 1 })[1], 0xffff_ffff_fff0_0000n);
  t.is(contextEntryReserved({ RPS: 0, RPRIVS: 1, SRS: 1 })[1], 0xffff_ffff_ffef_ffffn);
});

test('PDTS covers 2^(PDTS+13) PASIDs', (t) => {
  t.is(pasidCount(0), 8192);
  t.is(pasidCount(7), 0x100000);
});
