import test from 'ava';
import {
  IOMMU_PGFAULT_FLAGS_LAST_PAGE,
  IOMMU_PGFAULT_FLAGS_PASID_VALID,
  iommu_hwpt_pgfault,
} from '../../../host/uapi/iommufd.ts';
import type { StructValues } from '../../../host/uapi/struct.ts';
import type { PageRequestInput } from '../../../vmm/viommu/faults.ts';
import { Faults } from '../../../vmm/viommu/faults.ts';
import { rig } from './support.ts';

type Request = Parameters<PageRequestInput>;
const RID = 8;

function faultsOf(onRequest: (faults: Faults, request: Request) => void = () => undefined) {
  const r = rig();
  const requests: Request[] = [];
  const queue = r.sys.run(r.host.iommufd.allocFaultQueue());
  const faults: Faults = new Faults({
    name: 'vm0',
    sys: r.sys,
    trace: r.host.trace,
    fd: queue.fd,
    heap: r.heap,
    rid: RID,
    pageRequest: (...request) => {
      requests.push(request);
      onRequest(faults, request);
    },
  });
  return { ...r, faults, requests };
}

function record(values: Partial<StructValues<typeof iommu_hwpt_pgfault>>): Uint8Array {
  const flags = IOMMU_PGFAULT_FLAGS_PASID_VALID | IOMMU_PGFAULT_FLAGS_LAST_PAGE;
  return iommu_hwpt_pgfault.encode({ flags, pasid: 5, perm: 3, addr: 0x7000n, ...values });
}

function group(...records: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(records.reduce((sum, r) => sum + r.length, 0));
  records.forEach((r, i) => {
    bytes.set(r, i * iommu_hwpt_pgfault.size);
  });
  return bytes;
}

const respond = (prgi: number, code = 0, pasid = 5) =>
  ({ type: 'pgrp', rid: RID, pasid, pasidPresent: true, code, prgi, last: true }) as const;

test('a record goes to the unit with its rights, and the response back with its cookie', (t) => {
  const { sys, faults, requests } = faultsOf();
  sys.faults.push(group(record({ grpid: 3, cookie: 1, addr: 0x7f00_0000_1000n, perm: 1 })));
  sys.run(faults.drain());
  t.deepEqual(requests, [[RID, 5, false, 0x7f00_0000_1, true, false, true, 3]]);
  t.is(faults.outstanding, 1);
  sys.run(faults.respond(respond(3)));
  t.deepEqual(sys.responses, [{ cookie: 1, code: 0 }]);
  t.is(faults.outstanding, 0);
});

test('a group is answered once, with its last page; a second response is ignored', (t) => {
  const { sys, faults, requests } = faultsOf();
  const first = record({ grpid: 3, cookie: 1, flags: IOMMU_PGFAULT_FLAGS_PASID_VALID });
  sys.faults.push(group(first, record({ grpid: 3, cookie: 1, addr: 0x8000n })));
  sys.run(faults.drain());
  t.deepEqual(
    requests.map((request) => request[6]),
    [false, true],
  );
  sys.run(faults.respond(respond(3, 1)));
  sys.run(faults.respond(respond(3, 0)));
  t.deepEqual(sys.responses, [{ cookie: 1, code: 1 }]);
});

test('response failure becomes invalid; unknown groups, PASIDs and functions are ignored', (t) => {
  const { sys, faults } = faultsOf();
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })));
  sys.run(faults.drain());
  sys.run(faults.respond(respond(4)));
  sys.run(faults.respond(respond(3, 0, 6)));
  sys.run(faults.respond({ ...respond(3), rid: 0x10 }));
  sys.run(faults.respond({ ...respond(3), pasidPresent: false }));
  t.deepEqual(sys.responses, []);
  sys.run(faults.respond(respond(3, 0xf)));
  t.deepEqual(sys.responses, [{ cookie: 1, code: 1 }]);
});

test('what the unit answers itself (queue full) goes to the host at once', (t) => {
  const { sys, faults } = faultsOf((self, request) => {
    self.unitResponded(request[1], request[7], 0);
  });
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })), group(record({ grpid: 4, cookie: 2 })));
  sys.run(faults.drain());
  t.deepEqual(sys.responses, [
    { cookie: 1, code: 0 },
    { cookie: 2, code: 0 },
  ]);
  t.is(faults.outstanding, 0);
});

test('a cookie used again ends the group the host has given up on', (t) => {
  const { sys, faults } = faultsOf();
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })));
  sys.run(faults.drain());
  sys.faults.push(group(record({ grpid: 4, cookie: 1 })));
  sys.run(faults.drain());
  sys.run(faults.respond(respond(3)));
  t.deepEqual(sys.responses, [], 'the old group is gone: its answer must not reach the new one');
  sys.run(faults.respond(respond(4)));
  t.deepEqual(sys.responses, [{ cookie: 1, code: 0 }]);
});

test("a replace ends the groups of the old table: the guest's late answer reaches no new one", (t) => {
  const { sys, faults } = faultsOf();
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })), group(record({ grpid: 4, cookie: 2 })));
  sys.run(faults.drain());
  const old = faults.groupsOf(5);
  t.is(old.length, 2);
  t.deepEqual(faults.groupsOf(6), []);
  faults.hostAnswered(old);
  t.is(faults.outstanding, 0);
  sys.faults.push(group(record({ grpid: 3, cookie: 2 })));
  sys.run(faults.drain());
  sys.run(faults.respond(respond(3, 1)));
  sys.run(faults.respond(respond(4, 1)));
  t.deepEqual(sys.responses, [], 'these answer what the host has answered');
  sys.run(faults.respond(respond(3, 0)));
  t.deepEqual(sys.responses, [{ cookie: 2, code: 0 }]);
});

test('a full queue answers the newest group of an index, not one the guest still holds', (t) => {
  const overflow = { now: false };
  const { sys, faults } = faultsOf((self, request) => {
    if (overflow.now) self.unitResponded(request[1], request[7], 0);
  });
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })));
  sys.run(faults.drain());
  faults.hostAnswered(faults.groupsOf(5));
  overflow.now = true;
  sys.faults.push(group(record({ grpid: 3, cookie: 2 })));
  sys.run(faults.drain());
  t.deepEqual(sys.responses, [{ cookie: 2, code: 0 }]);
});

test('a PASID that is detached takes its groups along', (t) => {
  const { sys, faults } = faultsOf();
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })));
  sys.run(faults.drain());
  faults.forget(5);
  sys.run(faults.respond(respond(3)));
  t.deepEqual(sys.responses, []);
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })));
  sys.run(faults.drain());
  sys.run(faults.respond(respond(3)));
  t.deepEqual(sys.responses, [{ cookie: 1, code: 0 }]);
});

test('answers that a guest never gives cost no memory without end', (t) => {
  const { sys, faults } = faultsOf();
  for (let cookie = 0; cookie < 100; cookie++) {
    sys.faults.push(group(record({ grpid: 3, cookie })));
    sys.run(faults.drain());
    faults.hostAnswered(faults.groupsOf(5));
  }
  t.true(faults.remembered <= 8);
});

test('a second drain returns only after the records are in the guest', (t) => {
  const { sys, faults, requests } = faultsOf();
  sys.faults.push(group(record({ grpid: 3, cookie: 1 })));
  const seen: number[] = [];
  sys.run(
    (function* both() {
      yield* sys.clone('other', function* other() {
        yield* faults.drain();
        seen.push(requests.length);
      });
      yield* faults.drain();
      seen.push(requests.length);
    })(),
  );
  sys.settle();
  t.deepEqual(seen, [1, 1]);
});
