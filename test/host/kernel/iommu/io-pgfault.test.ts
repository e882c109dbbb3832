import test from 'ava';
import { Errno } from '../../../../host/kernel/errno.ts';
import type { IommuCore } from '../../../../host/kernel/iommu/core.ts';
import type {
  Fault,
  FaultGroup,
  IommuDev,
  IommuDomain,
} from '../../../../host/kernel/iommu/ops.ts';
import { RESPONSE } from '../../../../host/kernel/iommu/ops.ts';
import { FakeDriver, finish, twoDevices } from './fake-driver.ts';

const FAULT: Fault = {
  pasidValid: true,
  pasid: 1,
  grpid: 9,
  last: true,
  perm: 1,
  address: 0x1000n,
};

function listening(): {
  core: IommuCore;
  a: IommuDev;
  driver: FakeDriver;
  domain: IommuDomain;
  groups: FaultGroup[];
} {
  const driver = new FakeDriver();
  const { core, a } = twoDevices(driver);
  const domain = driver.domain('nested');
  const groups: FaultGroup[] = [];
  domain.faultHandler = function* (group) {
    groups.push(group);
    return 0;
  };
  finish(core.attachDevicePasid(domain, a, 1, { domain }));
  core.iopf.addDevice(a);
  driver.log.length = 0;
  return { core, a, driver, domain, groups };
}

test('requests of one group are delivered together, in order, with the last', (t) => {
  const { core, a, groups } = listening();
  const report = (fault: Fault): boolean => finish(core.reportDeviceFault(a, fault));
  t.true(report({ ...FAULT, last: false, address: 0x5000n }));
  t.true(report({ ...FAULT, last: false, grpid: 8 }));
  t.true(report({ ...FAULT, last: false, address: 0x3000n }));
  t.is(groups.length, 0);
  t.true(report(FAULT));
  t.deepEqual(
    groups[0]?.faults.map(({ address }) => address),
    [0x5000n, 0x3000n, 0x1000n],
  );
  t.true(report({ ...FAULT, grpid: 8 }));
  t.is(groups[1]?.faults.length, 2);
});

test('a group is answered exactly once', (t) => {
  const { core, a, driver, groups } = listening();
  finish(core.reportDeviceFault(a, FAULT));
  t.true(finish(core.pageGroupResponse(groups[0]!, RESPONSE.SUCCESS)));
  t.false(finish(core.pageGroupResponse(groups[0]!, RESPONSE.INVALID)));
  t.deepEqual(driver.log, ['a response 1/9 0']);
});

test('nobody attached, or no handler: INVALID; a handler that fails: FAILURE', (t) => {
  const { core, a, driver, domain } = listening();
  t.false(finish(core.reportDeviceFault(a, { ...FAULT, pasid: 2 })));
  t.false(finish(core.reportDeviceFault(a, { ...FAULT, pasid: 2, last: false })));
  domain.faultHandler = function* () {
    return -12;
  };
  t.false(finish(core.reportDeviceFault(a, FAULT)));
  domain.faultHandler = function* () {
    throw new Errno('ENOMEM', 'no memory for the group');
  };
  t.false(finish(core.reportDeviceFault(a, FAULT)));
  domain.faultHandler = null;
  t.false(finish(core.reportDeviceFault(a, FAULT)));
  t.deepEqual(driver.log, [
    'a response 2/9 1',
    'a response 1/9 15',
    'a response 1/9 15',
    'a response 1/9 1',
  ]);
});

test('a device that leaves has its open groups answered INVALID, its parts dropped', (t) => {
  const { core, a, driver, groups } = listening();
  finish(core.reportDeviceFault(a, FAULT));
  finish(core.reportDeviceFault(a, { ...FAULT, grpid: 3, last: false }));
  t.true(core.iopf.isPending(groups[0]!));
  finish(core.iopf.removeDevice(a));
  t.deepEqual(driver.log, ['a response 1/9 1']);
  t.false(core.iopf.isPending(groups[0]!));
  t.false(finish(core.pageGroupResponse(groups[0]!, RESPONSE.SUCCESS)));
  core.iopf.addDevice(a);
  t.throws(() => core.iopf.addDevice(a), { message: /^EBUSY/ });
  finish(core.reportDeviceFault(a, { ...FAULT, grpid: 3 }));
  t.is(groups[1]?.faults.length, 1);
});

test('stored requests are bounded', (t) => {
  const { core, a, groups } = listening();
  for (let n = 0; n < 5000; n++) finish(core.reportDeviceFault(a, { ...FAULT, last: false }));
  finish(core.reportDeviceFault(a, FAULT));
  t.is(groups[0]?.faults.length, 2049);
});

test('a fault of a PASID nobody attached goes to a nested RID only where the driver says so', (t) => {
  const { core, a, driver, domain, groups } = listening();
  finish(core.attachGroupHandle(domain, core.groupOf(a), { domain }));
  t.false(finish(core.reportDeviceFault(a, { ...FAULT, pasid: 4 })));
  Object.assign(driver, { userPasidTable: true });
  t.true(finish(core.reportDeviceFault(a, { ...FAULT, pasid: 4 })));
  t.true(finish(core.reportDeviceFault(a, { ...FAULT, pasidValid: false, pasid: 0 })));
  t.is(groups.length, 2);
});
