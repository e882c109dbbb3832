import test from 'ava';
import {
  behaviourOf,
  DEFAULT_RELEASE,
  hasIommufd,
  parseRelease,
} from '../../../host/kernel/release.ts';
import { IOMMU_HWPT_INVALIDATE_DATA_SELFTEST } from '../../../host/uapi/iommufd.ts';
import { id } from './iommufd/client.ts';
import { makeMockWorld } from './mock/world.ts';

test('a release is a version and a patch level; what follows does not count', (t) => {
  t.deepEqual(parseRelease('6.12'), [6, 12]);
  t.deepEqual(parseRelease('6.12.117'), [6, 12]);
  t.deepEqual(parseRelease('7.0-rc1'), [7, 0]);
  for (const text of ['', '6', '6.', 'six', '6.12 ', '-6.1', '6.1234']) {
    t.is(parseRelease(text), null, text);
  }
  t.throws(() => behaviourOf('six'), { instanceOf: RangeError });
  t.notThrows(() => behaviourOf(DEFAULT_RELEASE));
});

test('releases are compared as numbers', (t) => {
  t.is(behaviourOf('6.9').invalidateUncached, 'ENOENT');
  t.is(behaviourOf('6.12').invalidateUncached, 'ENOENT');
  t.is(behaviourOf('6.13').invalidateUncached, 'EINVAL');
  t.is(behaviourOf('7.0').invalidateUncached, 'EINVAL');
});

test('/dev/iommu is there since 6.2, and a newer release than is known is the newest', (t) => {
  const has = ['5.15', '6.1', '6.2', '6.12', '7.0'].map((text) => hasIommufd(parseRelease(text)!));
  t.deepEqual(has, [false, false, true, true, true]);
  t.deepEqual(behaviourOf('9.9'), behaviourOf('7.3'));
});

test('HWPT_INVALIDATE of what has no caches: ENOENT up to 6.12, EINVAL since', (t) => {
  for (const [release, expected] of [
    ['6.12', 'ENOENT'],
    ['6.15', 'EINVAL'],
    [undefined, 'EINVAL'],
  ] as const) {
    const it = makeMockWorld(release === undefined ? {} : { release }).tester();
    const ioas = it.ioas();
    const { idev } = it.mock(ioas);
    const hwpt = id(it.hwpt(idev, ioas));
    const more = { type: IOMMU_HWPT_INVALIDATE_DATA_SELFTEST };
    t.is(it.invalidate(hwpt, [{ flags: 0, iotlb_id: 0 }], more).result, expected);
    t.is(it.invalidate(9999, [{ flags: 0, iotlb_id: 0 }], more).result, 'ENOENT');
  }
});
