import test from 'ava';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
} from '../../../../host/uapi/iommufd.ts';
import { MOCK_FLAGS_DEVICE_PASID } from '../../../../host/uapi/iommufd-test.ts';
import { id } from '../iommufd/client.ts';
import type { Mock, Tester } from './world.ts';
import { makeMockWorld, NOTHING } from './world.ts';

const NEST = IOMMU_HWPT_ALLOC_NEST_PARENT;
const PASID = IOMMU_HWPT_ALLOC_PASID;

/** A device with PASIDs on an auto-domain, and page tables of every kind for it. */
function setUp() {
  const world = makeMockWorld();
  const it = world.tester();
  const ioas = it.ioas();
  const mock = it.mock(ioas, MOCK_FLAGS_DEVICE_PASID);
  const parent = id(it.hwpt(mock.idev, ioas, NEST));
  const s2 = id(it.hwpt(mock.idev, ioas, PASID));
  const nested = [0, 1].map(() => id(it.mockNested(mock.idev, parent, PASID)));
  return { world, it, ioas, mock, parent, s2, nested0: nested[0]!, nested1: nested[1]! };
}

test('a PASID on the RID needs a RID whose page table may stand beside PASIDs', (t) => {
  const { world, it, mock, parent, s2, nested0 } = setUp();
  const { stdev } = mock;
  t.is(it.pasidDetach(stdev, 100), 'OK', 'never attached');
  t.is(it.replace(stdev, parent), parent);
  t.is(it.pasidAttach(stdev, 100, s2), 'EINVAL');
  t.is(it.pasidCheck(stdev, 100, 0), 'OK');
  t.is(it.replace(stdev, s2), s2);
  t.is(it.pasidAttach(stdev, 100, nested0), nested0);
  t.is(it.pasidCheck(stdev, 100, nested0), 'OK');
  t.is(it.replace(stdev, parent), 'EINVAL', 'a PASID is attached');
  t.is(it.pasidCheck(stdev, 0, s2), 'OK', 'the RID stays where it was');
  t.is(it.pasidDetach(stdev, 100), 'OK');
  t.is(it.pasidCheck(stdev, 100, 0), 'OK');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('a device without PASIDs takes a PASID page table on its RID only', (t) => {
  const { it, ioas, parent, s2, nested0 } = setUp();
  const plain = it.mock(ioas);
  t.is(it.replace(plain.stdev, nested0), nested0);
  t.is(typeof it.replace(plain.stdev, ioas), 'number');
  t.is(it.pasidAttach(plain.stdev, 100, parent), 'EINVAL');
  t.is(it.pasidAttach(plain.stdev, 100, s2), 'EINVAL');
  t.is(it.pasidCheck(plain.stdev, 100, 0), 'OK');
});

test('attach: what may go on a PASID, and only once', (t) => {
  const { it, ioas, mock, parent, s2, nested0 } = setUp();
  const { stdev } = mock;
  it.replace(stdev, s2);
  t.is(it.pasidAttach(stdev, 100, parent), 'EINVAL', 'made without PASID');
  t.is(it.pasidAttach(stdev, 100, ioas), 'EINVAL', 'an auto-domain is made without PASID');
  t.is(it.pasidAttach(stdev, 100, 99), 'ENOENT');
  t.is(it.pasidAttach(99, 100, s2), 'ENOENT');
  t.is(it.pasidAttach(stdev, 1 << 20, s2), 'EINVAL', 'beyond the width');
  t.is(it.pasidCheck(stdev, 100, 0), 'OK');
  for (const pt of [s2, nested0]) {
    t.is(it.pasidAttach(stdev, 100, pt), pt);
    t.is(it.pasidCheck(stdev, 100, pt), 'OK');
    t.is(it.pasidAttach(stdev, 100, nested0), 'EBUSY');
    t.is(it.destroy(pt), 'EBUSY');
    t.is(it.pasidDetach(stdev, 100), 'OK');
    t.is(it.pasidCheck(stdev, 100, 0), 'OK');
  }
});

test('replace: only what is attached, and the old one stays when it fails', (t) => {
  const { it, ioas, mock, s2, nested0, nested1 } = setUp();
  const { stdev } = mock;
  it.replace(stdev, s2);
  t.is(it.pasidReplace(stdev, 200, s2), 'EINVAL');
  t.is(it.pasidCheck(stdev, 200, 0), 'OK');
  t.is(it.pasidAttach(stdev, 200, s2), s2);
  t.is(it.pasidReplace(stdev, 200, ioas), 'EINVAL');
  t.is(it.pasidCheck(stdev, 200, s2), 'OK');
  for (const pt of [nested0, nested1, nested1]) {
    t.is(it.pasidReplace(stdev, 200, pt), pt);
    t.is(it.pasidCheck(stdev, 200, pt), 'OK');
  }
  t.is(it.pasidDetach(stdev, 200), 'OK');
  t.is(it.destroy(nested0), 'OK');
});

test('the driver fails PASID 1024 every second time, and the old domain stays', (t) => {
  const { it, mock, s2, nested0 } = setUp();
  const { stdev } = mock;
  it.replace(stdev, s2);
  t.is(it.pasidAttach(stdev, 1024, s2), s2);
  t.is(it.pasidReplace(stdev, 1024, nested0), 'ENOMEM');
  t.is(it.pasidCheck(stdev, 1024, s2), 'OK');
  t.is(it.pasidReplace(stdev, 1024, nested0), nested0);
  t.is(it.pasidDetach(stdev, 1024), 'OK');
  t.is(it.pasidAttach(stdev, 1024, s2), s2, 'detach makes it forget');
});

test('faults of a PASID come to the fault queue of its page table', (t) => {
  const { world, it, ioas, mock, parent, s2 } = setUp();
  const { stdev, idev } = mock;
  it.replace(stdev, s2);
  const fault = it.faultQueue();
  const flags = IOMMU_HWPT_FAULT_ID_VALID | PASID;
  const iopf = id(it.mockNested(idev, parent, flags, { fault: fault.id }));
  t.is(it.pasidAttach(stdev, 2048, iopf), iopf);
  t.is(it.triggerFault(idev, 2048), 'OK');
  const [record] = it.faults(fault.fd);
  t.like(record, { dev_id: idev, pasid: 2048, grpid: 2, addr: 0xdead_beafn });
  t.is(it.answer(fault.fd, record!.cookie), 8);
  t.is(it.pasidReplace(stdev, 2048, s2), s2);
  t.is(it.triggerFault(idev, 2048), 'OK', 'nobody wants it');
  t.deepEqual(it.faults(fault.fd), []);
  t.is(it.pasidDetach(stdev, 2048), 'OK');
  t.is(it.destroy(iopf), 'OK');
  t.is(it.user.close(fault.fd), 0);
  t.is(it.destroy(fault.id), 'OK');
  t.is(typeof it.replace(stdev, ioas), 'number');
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

test('PASID_CHECK_HWPT: ids that are none', (t) => {
  const { it, ioas, mock, s2 } = setUp();
  it.replace(mock.stdev, s2);
  t.is(it.pasidCheck(mock.stdev, 0, 0), 'EINVAL', 'the RID has something');
  t.is(it.pasidCheck(mock.stdev, 0, 99), 'ENOENT');
  t.is(it.pasidCheck(mock.stdev, 0, ioas), 'EINVAL', 'no HWPT');
  t.is(it.pasidCheck(ioas, 0, s2), 'ENOENT', 'no mock device');
  t.is(it.pasidCheck(mock.stdev, 7, s2), 'EINVAL', 'nothing is attached');
});

test('a device goes with everything attached', (t) => {
  const { world, it, mock, s2, nested0 } = setUp();
  attachMany(it, mock, s2, nested0);
  t.is(world.kernel.leftovers().pasidEntries, 3);
  t.is(it.destroy(mock.idev), 'EBUSY', 'the driver holds it');
  t.is(it.destroy(mock.stdev), 'OK');
  t.is(world.kernel.leftovers().pasidEntries, 0);
  t.is(it.destroy(s2), 'OK');
  t.is(it.destroy(nested0), 'OK');
});

test('the file is closed with everything attached', (t) => {
  const { world, it, mock, s2, nested0 } = setUp();
  attachMany(it, mock, s2, nested0);
  it.close();
  t.deepEqual(world.kernel.leftovers(), NOTHING);
});

function attachMany(it: Tester, { stdev }: Mock, s2: number, nested: number): void {
  it.replace(stdev, s2);
  for (const pasid of [1, 77]) it.pasidAttach(stdev, pasid, s2);
  it.pasidAttach(stdev, 4000, nested);
}
