import test from 'ava';

import { decodeIa32Pasid, encodeIa32Pasid, IA32_PASID } from '../../../devices/spec/msr.ts';

test('IA32_PASID holds a PASID and a valid bit', (t) => {
  t.is(IA32_PASID, 0xd93);
  t.is(encodeIa32Pasid(0xfffff), 0x800f_ffffn);
  t.is(decodeIa32Pasid(0x8000_0005n), 5);
  t.is(decodeIa32Pasid(0x5n), undefined);
  t.throws(() => encodeIa32Pasid(0x100000), { instanceOf: RangeError, message: /PASID/ });
});
