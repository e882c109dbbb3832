import test from 'ava';
import { ERRNO, errnoName } from '../../../host/uapi/errno.ts';

test('errno names, from either sign', (t) => {
  t.is(errnoName(22), 'EINVAL');
  t.is(errnoName(-ERRNO.EOPNOTSUPP), 'EOPNOTSUPP');
  t.is(errnoName(-4095), 'errno 4095');
  t.is(new Set(Object.values(ERRNO)).size, Object.keys(ERRNO).length);
});
