import test from 'ava';
import { guest } from '../../../trace/catalogue/guest.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { vmm } from '../../../trace/catalogue/vmm.ts';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import { EMPTY_PASIDS, type PasidRow, reducePasids } from '../../../trace/state/pasids.ts';
import { Maker, recordRun } from '../../tui/events.ts';

const phases = (row: PasidRow | undefined): string[] =>
  (row?.steps ?? []).map(({ phase }) => phase);

test('a whole run: bound, attached, replaced, detached', (t) => {
  const { rows } = reducePasids(EMPTY_PASIDS, recordRun({ vms: 2, procs: 2 }));
  const used = [...rows.values()].filter(({ pasid }) => pasid !== 0);
  t.is(used.length, 4);
  for (const row of used) {
    t.deepEqual(phases(row), ['bound', 'attached', 'replaced', 'detached']);
    t.true(row.pageRequests > 0);
    t.is(row.open, 0);
    t.is(row.hwpt, 0);
    t.true(row.bytes > 0);
    t.true(row.pid > 0);
  }
  t.deepEqual(used.map(({ vm, device }) => `${vm} ${device}`).sort(), [
    'vm0 00:01.0',
    'vm0 00:01.0',
    'vm1 00:02.0',
    'vm1 00:02.0',
  ]);
});

const REQUEST = { sid: '00:02.0', pasid: 5, address: 4096, prgi: 1, perm: 'r' };

test('page requests and faults of the unit find the VM by its function', (t) => {
  const maker = new Maker();
  const { rows } = reducePasids(EMPTY_PASIDS, [
    maker.make(vmm.start, { vm: 'vm3', pid: 9, ramBytes: 0, device: '/dev/vfio/devices/vfio0' }),
    maker.make(host.objectNew, {
      pid: 9,
      id: 1,
      type: 'DEVICE',
      parent: 0,
      detail: '0000:00:02.0',
    }),
    maker.make(vtd.pageRequest, { ...REQUEST, unit: 'host', last: 0, outcome: 'queued' }),
    maker.make(vtd.pageRequest, { ...REQUEST, unit: 'host', last: 1, outcome: 'queued' }),
    maker.make(vtd.pageRequest, { ...REQUEST, unit: 'vm3', last: 1, outcome: 'queued' }),
    maker.make(vtd.fault, {
      unit: 'host',
      sid: '00:02.0',
      pasid: 5,
      address: 0,
      request: 'translation',
      code: 1,
      reason: '',
      answer: '',
      recorded: 1,
    }),
  ]);
  const row = rows.get('vm3/5');
  t.is(row?.pageRequests, 2);
  t.is(row?.open, 1);
  t.is(row?.faults, 1);
});

test('of a PASID that changes without end the last changes are kept', (t) => {
  const maker = new Maker();
  const batch = Array.from({ length: 100 }, (_, i) =>
    maker.make(vmm.attach, { vm: 'vm0', pasid: 1, hwpt: i + 10, old: i === 0 ? 0 : i + 9 }),
  );
  const row = reducePasids(EMPTY_PASIDS, batch).rows.get('vm0/1');
  t.is(row?.stepCount, 100);
  t.is(row?.steps.length, 16);
  t.is(row?.hwpt, 109);
});

test('when there is no room, a PASID that is over goes', (t) => {
  const maker = new Maker();
  const bind = (pasid: number) =>
    maker.make(guest.bind, { vm: 'vm0', pid: 1, rid: '00:01.0', pasid, pgd: 0 });
  const state = reducePasids(EMPTY_PASIDS, [
    ...Array.from({ length: 4096 }, (_, i) => bind(i + 1)),
    maker.make(vmm.detach, { vm: 'vm0', pasid: 77, hwpt: 3 }),
    bind(5000),
  ]);
  t.is(state.rows.size, 4096);
  t.is(state.dropped, 1);
  t.false(state.rows.has('vm0/77'));
  t.true(state.rows.has('vm0/5000'));
});
