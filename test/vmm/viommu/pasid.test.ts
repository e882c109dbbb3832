import test from 'ava';
import { PASID_CACHE_GRANULARITY } from '../../../devices/spec/vtd/invalidation.ts';
import { PGTT } from '../../../devices/spec/vtd/pasid.ts';
import { vmm as ev } from '../../../trace/catalogue/vmm.ts';
import { GUEST_RID } from '../../../vmm/layout.ts';
import { MAX_ATTACHED, PasidAttachments } from '../../../vmm/viommu/pasid.ts';
import type { Rig } from './support.ts';
import { clearPasid, FAULT_QUEUE, PARENT, rig, writeContext, writePasid } from './support.ts';

const pc = (pasid: number, did = 1) =>
  ({ type: 'pc', granularity: PASID_CACHE_GRANULARITY.PASID, did, pasid }) as const;
const PC_GLOBAL = {
  type: 'pc',
  granularity: PASID_CACHE_GRANULARITY.GLOBAL,
  did: 0,
  pasid: 0,
} as const;

/** Translation on, RID on a first-stage table of its own in DID 9. */
function enabled(): Rig & { pasids: PasidAttachments } {
  const r = rig();
  writeContext(r.memory);
  writePasid(r.memory, 0, { DID: 9, FSPTPTR: 0x20_0000 });
  const pasids = new PasidAttachments(r.host, r.tables, r.faults);
  r.sys.run(pasids.remap(true));
  r.sys.calls.length = 0;
  return { ...r, pasids };
}

const SHOWN = ['flags', 'pt_id', 'pasid', 'fault_id', 'pgtbl_addr', 'addr_width', 'id'];

test('translation on: the RID goes from the parent to its own nested HWPT, off: back', (t) => {
  const r = rig();
  writeContext(r.memory);
  writePasid(r.memory, 0, { DID: 9, FSPTPTR: 0x20_0000 });
  const pasids = new PasidAttachments(r.host, r.tables, r.faults);
  r.sys.run(pasids.remap(true));
  t.deepEqual(r.sys.take('pt_id', 'flags', 'pgtbl_addr'), [
    `IOMMU_HWPT_ALLOC pt_id=${PARENT} flags=12 pgtbl_addr=2097152`,
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT pt_id=1 flags=0',
  ]);
  r.sys.run(pasids.remap(false));
  t.deepEqual(r.sys.take('pt_id', 'flags', 'id'), [
    `VFIO_DEVICE_ATTACH_IOMMUFD_PT pt_id=${PARENT} flags=0`,
    'IOMMU_DESTROY id=1',
  ]);
});

test('a PASID entry that appears, changes and goes: alloc and attach, replace, detach', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(sys.take(...SHOWN), [
    `IOMMU_HWPT_ALLOC flags=12 pt_id=${PARENT} fault_id=${FAULT_QUEUE} pgtbl_addr=1191936 addr_width=48`,
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT flags=1 pt_id=2 pasid=5',
  ]);
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(sys.take(), [], 'nothing changed, nothing to do');

  writePasid(memory, 5, { FSPTPTR: 0x45_6000 });
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(sys.take('pt_id', 'pasid', 'pgtbl_addr', 'id'), [
    `IOMMU_HWPT_ALLOC pt_id=${PARENT} pgtbl_addr=4546560`,
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT pt_id=3 pasid=5',
    'IOMMU_DESTROY id=2',
  ]);

  clearPasid(memory, 5);
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(sys.take('flags', 'pasid', 'id'), [
    'VFIO_DEVICE_DETACH_IOMMUFD_PT flags=1 pasid=5',
    'IOMMU_DESTROY id=3',
  ]);
  t.deepEqual([...pasids.attached.keys()], [0]);
});

test('without page requests in the context entry the HWPT has no fault queue', (t) => {
  const { sys, memory, pasids } = enabled();
  writeContext(memory, { PRE: 0 });
  writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(sys.take('flags', 'fault_id')[0], 'IOMMU_HWPT_ALLOC flags=8 fault_id=0');
});

for (const failing of ['IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT']) {
  test(`a replace whose ${failing} fails blocks the PASID and leaks nothing`, (t) => {
    const { sys, memory, pasids, events } = enabled();
    writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
    sys.run(pasids.pasidCache(pc(5)));
    writePasid(memory, 5, { FSPTPTR: 0x45_6000 });
    sys.calls.length = 0;
    sys.failures.set(failing, 'EINVAL');
    sys.run(pasids.pasidCache(pc(5)));
    t.false(pasids.attached.has(5), 'the guest has left the old table: nothing may lead there');
    const undone = sys.take('pasid', 'id').slice(failing === 'IOMMU_HWPT_ALLOC' ? 1 : 2);
    t.deepEqual(undone, [
      ...(failing === 'IOMMU_HWPT_ALLOC' ? [] : ['IOMMU_DESTROY id=3']),
      'VFIO_DEVICE_DETACH_IOMMUFD_PT pasid=5',
      'IOMMU_DESTROY id=2',
    ]);
    const refused = events.find((event) => event.def.name === 'vmm:error_report');
    t.is(refused?.values['error'], `${failing}: EINVAL`);
    sys.run(pasids.pasidCache(pc(5)));
    t.is(pasids.attached.get(5)?.entry?.fields.FSPTPTR, 0x45_6000, 'the next one succeeds');
  });
}

test('a RID that cannot have its new table, or the parent again, is blocked', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 0, { DID: 9, FSPTPTR: 0x45_6000 });
  sys.failures.set('VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'ENOMEM');
  sys.run(pasids.pasidCache(pc(0, 9)));
  t.false(pasids.attached.has(0));
  t.true(sys.take('flags').includes('VFIO_DEVICE_DETACH_IOMMUFD_PT flags=0'));
  sys.run(pasids.pasidCache(pc(0, 9)));
  t.is(pasids.attached.get(0)?.entry?.fields.FSPTPTR, 0x45_6000);
  sys.failures.set('VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'ENOMEM');
  sys.run(pasids.remap(false));
  t.false(pasids.attached.has(0), 'neither the table of a unit that is off, nor all memory');
  sys.run(pasids.remap(false));
  t.is(pasids.attached.get(0)?.hwpt, PARENT);
});

test('a detach that fails keeps the PASID known, so that the next attempt can end it', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
  sys.run(pasids.pasidCache(pc(5)));
  clearPasid(memory, 5);
  sys.failures.set('VFIO_DEVICE_DETACH_IOMMUFD_PT', 'EIO');
  sys.run(pasids.pasidCache(pc(5)));
  t.true(pasids.attached.has(5));
  sys.run(pasids.pasidCache(pc(5)));
  t.false(pasids.attached.has(5));
});

test('DID and granularity select', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { DID: 1, FSPTPTR: 0x12_3000 });
  writePasid(memory, 70, { DID: 2, FSPTPTR: 0x12_4000 });
  sys.run(pasids.pasidCache(pc(5, 7)));
  t.false(pasids.attached.has(5), 'another DID');
  sys.run(pasids.pasidCache({ ...pc(0, 2), granularity: PASID_CACHE_GRANULARITY.DOMAIN }));
  t.deepEqual([...pasids.attached.keys()], [0, 70]);
  sys.run(pasids.pasidCache(PC_GLOBAL));
  t.deepEqual([...pasids.attached.keys()].sort(), [0, 5, 70]);
});

test('entries that a unit would refuse are as good as absent', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { PGTT: PGTT.NESTED, FSPTPTR: 0x12_3000 });
  writePasid(memory, 6, { SRE: 1, FSPTPTR: 0x12_3000 });
  writePasid(memory, 7, { FSPM: 1, FSPTPTR: 0x12_3000 });
  writePasid(memory, 8, { FSPM: 2, FSPTPTR: 0x12_3000 });
  sys.run(pasids.pasidCache(PC_GLOBAL));
  t.deepEqual([...pasids.attached.keys()], [0]);
});

test('an attached PASID whose entry turns invalid is detached', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
  sys.run(pasids.pasidCache(pc(5)));
  writePasid(memory, 5, { PGTT: PGTT.SECOND_STAGE });
  sys.run(pasids.pasidCache(pc(5)));
  t.false(pasids.attached.has(5));
});

test('pass-through uses the parent and never destroys it', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { PGTT: PGTT.PASS_THROUGH });
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(sys.take('pt_id', 'pasid'), [
    `VFIO_DEVICE_ATTACH_IOMMUFD_PT pt_id=${PARENT} pasid=5`,
  ]);
  clearPasid(memory, 5);
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(sys.take('pasid'), ['VFIO_DEVICE_DETACH_IOMMUFD_PT pasid=5']);
});

test('tables outside RAM attach nothing; PASIDs beyond the limit are not looked at', (t) => {
  const { sys, pasids, tables } = enabled();
  sys.run(pasids.pasidCache(pc(0xf_ffff)));
  tables.root = 0x7fff_f000;
  sys.run(pasids.pasidCache(PC_GLOBAL));
  t.deepEqual([...pasids.attached.keys()], [], 'the RID has no entry any more either');
  tables.root = 2 ** 51;
  sys.run(pasids.pasidCache(PC_GLOBAL));
  t.is(pasids.attached.size, 0);
});

test('a context invalidation of another function changes nothing, of this one everything', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
  const cc = { type: 'cc', granularity: 3, did: 0, fm: 0 } as const;
  sys.run(pasids.contextCache({ ...cc, sid: 0x10 }, GUEST_RID.DEVICE));
  t.false(pasids.attached.has(5));
  sys.run(pasids.contextCache({ ...cc, sid: 0x08 }, GUEST_RID.DEVICE));
  t.true(pasids.attached.has(5));
});

test('release detaches every PASID and the RID and destroys their HWPTs', (t) => {
  const { sys, memory, pasids } = enabled();
  writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
  writePasid(memory, 6, { FSPTPTR: 0x12_4000 });
  sys.run(pasids.pasidCache(PC_GLOBAL));
  sys.calls.length = 0;
  sys.run(pasids.release());
  t.deepEqual(sys.take('pasid', 'id'), [
    'VFIO_DEVICE_DETACH_IOMMUFD_PT pasid=6',
    'IOMMU_DESTROY id=3',
    'VFIO_DEVICE_DETACH_IOMMUFD_PT pasid=5',
    'IOMMU_DESTROY id=2',
    'VFIO_DEVICE_DETACH_IOMMUFD_PT pasid=0',
    'IOMMU_DESTROY id=1',
  ]);
});

test('a guest that fills its table stops at the limit, whatever it asks next, and is told of', (t) => {
  const { sys, memory, pasids, events } = enabled();
  const refused = (): unknown[] =>
    events.filter(({ def }) => def === ev.refused).map(({ values }) => values['what']);
  for (let pasid = 2; pasid < MAX_ATTACHED + 4; pasid++) writePasid(memory, pasid, {});
  sys.run(pasids.pasidCache(PC_GLOBAL));
  t.is(pasids.attached.size, MAX_ATTACHED);
  t.deepEqual(refused(), [`attach PASID ${MAX_ATTACHED + 1}`]);
  sys.take();
  writePasid(memory, 1, {});
  for (const d of [PC_GLOBAL, PC_GLOBAL, pc(1)]) sys.run(pasids.pasidCache(d));
  t.deepEqual(sys.take(), [], 'a lower PASID does not slip through');
  t.is(pasids.attached.size, MAX_ATTACHED);
  t.is(refused().length, 4, 'one word for every descriptor that is not followed');
  t.regex(String(events.at(-1)!.values['error']), /4096/);
  clearPasid(memory, 2);
  sys.run(pasids.pasidCache(PC_GLOBAL));
  t.false(pasids.attached.has(2));
  t.true(pasids.attached.has(1), 'what goes makes room');
});

test("page requests of a table that is replaced or detached are the host's to answer", (t) => {
  const { sys, memory, pasids, faults } = enabled();
  faults.told.length = 0;
  writePasid(memory, 5, { FSPTPTR: 0x12_3000 });
  sys.run(pasids.pasidCache(pc(5)));
  faults.groups.set(5, [{ pasid: 5, prgi: 1, cookie: 7, isOpen: true }]);
  writePasid(memory, 5, { FSPTPTR: 0x45_6000 });
  sys.failures.set('VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'ENOMEM');
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(faults.told, ['forget 5'], 'a refused replace ends in a detach');
  faults.told.length = 0;
  sys.run(pasids.pasidCache(pc(5)));
  writePasid(memory, 5, { FSPTPTR: 0x78_9000 });
  sys.run(pasids.pasidCache(pc(5)));
  t.deepEqual(faults.told, ['answered 7', 'answered 7']);
  clearPasid(memory, 5);
  sys.run(pasids.pasidCache(pc(5)));
  t.is(faults.told.at(-1), 'forget 5');
});
