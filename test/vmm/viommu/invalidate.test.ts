import test from 'ava';
import { Invalidations } from '../../../vmm/viommu/invalidate.ts';
import { PasidAttachments } from '../../../vmm/viommu/pasid.ts';
import { rig, writeContext, writePasid } from './support.ts';

/** PASIDs 5 (DID 1, HWPT 1) and 6 (DID 2, HWPT 2). */
function attached() {
  const r = rig();
  writeContext(r.memory);
  writePasid(r.memory, 5, { DID: 1, FSPTPTR: 0x12_3000 });
  writePasid(r.memory, 6, { DID: 2, FSPTPTR: 0x12_4000 });
  const pasids = new PasidAttachments(r.host, r.tables, r.faults);
  r.sys.run(pasids.remap(true));
  r.sys.calls.length = 0;
  return { ...r, invalidations: new Invalidations(r.host, pasids) };
}

const PAGE = {
  type: 'p_iotlb',
  granularity: 3,
  did: 1,
  pasid: 5,
  am: 0,
  ih: false,
  address: 0,
} as const;
const FIELDS = ['hwpt_id', 'addr', 'npages', 'data_flags'];
const ALL = 2n ** 64n - 1n;

test('a page-selective p_iotlb becomes an aligned range of the PASID HWPT', (t) => {
  const { sys, invalidations } = attached();
  const d = { ...PAGE, am: 4, ih: true, address: 0x7f00_0001_3000 };
  sys.run(invalidations.pasidIotlb(d));
  t.deepEqual(sys.take(...FIELDS), [
    `IOMMU_HWPT_INVALIDATE hwpt_id=1 addr=139637976793088 npages=16 data_flags=1`,
  ]);
});

test('the top of the address space is exact', (t) => {
  const { sys, invalidations } = attached();
  const address = Number(2n ** 64n - 4096n);
  sys.run(invalidations.pasidIotlb({ ...PAGE, address }));
  t.deepEqual(sys.take('addr', 'npages'), [
    `IOMMU_HWPT_INVALIDATE addr=${2n ** 64n - 4096n} npages=1`,
  ]);
});

test('PASID-selective, and a mask of the whole space, mean everything', (t) => {
  const { sys, invalidations } = attached();
  const all = `IOMMU_HWPT_INVALIDATE hwpt_id=1 addr=0 npages=${ALL} data_flags=0`;
  sys.run(invalidations.pasidIotlb({ ...PAGE, granularity: 2 }));
  sys.run(invalidations.pasidIotlb({ ...PAGE, am: 63, address: 0x5000 }));
  t.deepEqual(sys.take(...FIELDS), [all, all]);
});

test('another DID or an unknown PASID asks nothing of the host', (t) => {
  const { sys, invalidations } = attached();
  sys.run(invalidations.pasidIotlb({ ...PAGE, did: 2 }));
  sys.run(invalidations.pasidIotlb({ ...PAGE, pasid: 7 }));
  t.deepEqual(sys.take(), []);
});

test('iotlb: all of the domain, or of every domain', (t) => {
  const { sys, invalidations } = attached();
  const d = {
    type: 'iotlb',
    granularity: 2,
    did: 2,
    drainReads: true,
    drainWrites: true,
    am: 0,
    ih: false,
    address: 0,
  } as const;
  sys.run(invalidations.iotlb(d));
  t.deepEqual(sys.take('hwpt_id', 'npages'), [`IOMMU_HWPT_INVALIDATE hwpt_id=2 npages=${ALL}`]);
  sys.run(invalidations.iotlb({ ...d, granularity: 1 }));
  t.is(sys.take().length, 2);
});

test('an invalidation that the host refuses is reported and the guest goes on', (t) => {
  const { sys, invalidations, events } = attached();
  sys.failures.set('IOMMU_HWPT_INVALIDATE', 'EINVAL');
  sys.run(invalidations.pasidIotlb(PAGE));
  t.is(events.at(-1)?.def.name, 'vmm:error_report');
});
