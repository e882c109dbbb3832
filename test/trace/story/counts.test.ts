import test from 'ava';
import { guest } from '../../../trace/catalogue/guest.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { vmm } from '../../../trace/catalogue/vmm.ts';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import { Tally } from '../../../trace/story/counts.ts';
import { Tracer } from '../../../trace/tracer.ts';

function tallied(): { tally: Tally; trace: Tracer } {
  const tally = new Tally();
  const trace = new Tracer(() => 0);
  trace.listen((record) => {
    tally.add(record);
  });
  return { tally, trace };
}

const NONE = {
  binds: 0,
  attaches: 0,
  replaces: 0,
  detaches: 0,
  pageRequests: 0,
  invalidations: {},
  translations: 0,
  iotlbHits: 0,
  faults: 0,
  vmExits: 0,
  ioctls: 0,
};

test('at first everything is zero', (t) => {
  const { tally } = tallied();
  t.deepEqual(tally.counts, NONE);
  t.deepEqual(tally.pasids, []);
});

test('binds are counted and their PASIDs noted in order', (t) => {
  const { tally, trace } = tallied();
  const bind = { rid: '00:01.0', pgd: 0 };
  trace.emit(guest.bind, { vm: 'vm1', pid: 2, pasid: 9, ...bind });
  trace.emit(guest.bind, { vm: 'vm0', pid: 1, pasid: 1, ...bind });
  t.deepEqual(tally.counts, { ...NONE, binds: 2 });
  t.deepEqual(tally.pasids, [
    { vm: 'vm1', pid: 2, pasid: 9 },
    { vm: 'vm0', pid: 1, pasid: 1 },
  ]);
});

test('attaches, replaces and detaches of PASIDs count; those of the RID do not', (t) => {
  const { tally, trace } = tallied();
  trace.emit(host.attachRid, { device: 'd', domain: 'x', hwpt: 0 });
  trace.emit(host.attachPasid, { device: 'd', pasid: 1, domain: 'x', hwpt: 0 });
  trace.emit(host.replacePasid, { device: 'd', pasid: 1, from: 'x', to: 'y', hwpt: 0, old: 0 });
  trace.emit(host.replacePasid, { device: 'd', pasid: 1, from: 'y', to: 'z', hwpt: 0, old: 0 });
  trace.emit(host.detachPasid, { device: 'd', pasid: 1, domain: 'z', hwpt: 0 });
  t.deepEqual(tally.counts, { ...NONE, attaches: 1, replaces: 2, detaches: 1 });
});

test('of the units, only the host one counts', (t) => {
  const { tally, trace } = tallied();
  for (const unit of ['host', 'vm0']) {
    const request = { unit, sid: '00:01.0', pasid: 1, address: 0 };
    trace.emit(vtd.pageRequest, { ...request, prgi: 0, perm: 'R', last: 1, outcome: 'queued' });
    for (const recorded of [0, 1, 1]) {
      trace.emit(vtd.fault, {
        ...request,
        request: 'read',
        code: 0x79,
        reason: '',
        answer: 'UR',
        recorded,
      });
    }
    const qw = { qw0: 0n, qw1: 0n, dropped: 0 };
    trace.emit(vtd.descriptor, { unit, descriptor: 'pc_inv pasid did=2', ...qw });
    trace.emit(vtd.descriptor, { unit, descriptor: 'pc_inv global', ...qw });
    trace.emit(vtd.descriptor, { unit, descriptor: 'inv_wait', ...qw });
    trace.emit(vtd.stats, {
      unit,
      translations: 100,
      iotlbHits: 60,
      walks: 40,
      loads: 1,
      faults: 2,
      pageRequests: 1,
      descriptors: 3,
    });
  }
  t.deepEqual(tally.counts, {
    ...NONE,
    pageRequests: 1,
    faults: 2,
    invalidations: { pc_inv: 2 },
    translations: 100,
    iotlbHits: 60,
  });
});

test('VM exits and ioctls are counted, and every event by its name', (t) => {
  const { tally, trace } = tallied();
  const exit = { vm: 'vm0', reason: 'mmio', address: 0, bytes: 4, value: '', what: '' };
  for (let i = 0; i < 3; i++) trace.emit(vmm.vmExit, exit);
  trace.emit(host.ioctl, { pid: 1, fd: 3, name: 'X', args: '' });
  trace.emit(host.ioctlReturn, { pid: 1, fd: 3, name: 'X', result: '0', out: '', reason: '' });
  t.deepEqual(tally.counts, { ...NONE, vmExits: 3, ioctls: 1 });
  t.deepEqual(
    [...tally.events],
    [
      ['kvm:kvm_exit', 3],
      ['syscalls:sys_enter_ioctl', 1],
      ['syscalls:sys_exit_ioctl', 1],
    ],
  );
});
