import test from 'ava';
import type { PageRequest } from '../../../../devices/spec/vtd/page-request.ts';
import { PRS, REG } from '../../../../devices/spec/vtd/registers.ts';
import type { FaultGroup } from '../../../../host/kernel/iommu/ops.ts';
import { RESPONSE } from '../../../../host/kernel/iommu/ops.ts';
import type { World } from './world.ts';
import { handleOf, makeWorld, nested, nestParent } from './world.ts';

const REQUEST: PageRequest = {
  rid: 8,
  pasid: 5,
  pasidPresent: true,
  exec: false,
  priv: false,
  read: true,
  write: false,
  last: true,
  prgi: 1,
  address: 0x1000,
};

function listening(): { world: World; groups: FaultGroup[]; domain: ReturnType<typeof nested> } {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  const groups: FaultGroup[] = [];
  domain.faultHandler = function* (group) {
    groups.push(group);
    return 0;
  };
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  return { world, groups, domain };
}

test('requests that break a rule are answered INVALID when they end a group, and only then', (t) => {
  const { world, groups } = listening();
  const bad: readonly Partial<PageRequest>[] = [
    { pasidPresent: false, pasid: 0 },
    { address: 0x0000_8000_0000_0000 },
    { priv: true },
    { exec: true },
    { rid: 0x10 },
    { pasid: 6 },
  ];
  for (const [prgi, wrong] of bad.entries()) {
    world.unit.pageRequest64({ ...REQUEST, ...wrong, prgi });
    world.unit.pageRequest64({ ...REQUEST, ...wrong, prgi, last: false });
  }
  world.settle();
  t.deepEqual(world.unit.log, [
    'page_grp_resp invalid rid=00:01.0 prgi=0',
    'page_grp_resp invalid rid=00:01.0 pasid=5 prgi=1',
    'page_grp_resp invalid rid=00:01.0 pasid=5 prgi=2',
    'page_grp_resp invalid rid=00:01.0 pasid=5 prgi=3',
    'page_grp_resp invalid rid=00:02.0 pasid=5 prgi=4',
    'page_grp_resp invalid rid=00:01.0 pasid=6 prgi=5',
  ]);
  t.is(groups.length, 0);
});

test('a stop marker is dropped, and the ring is handed back', (t) => {
  const { world, groups } = listening();
  world.unit.pageRequest64({ ...REQUEST, read: false });
  world.settle();
  t.deepEqual(world.unit.log, []);
  t.is(groups.length, 0);
  t.is(world.unit.get(REG.PQH), 32);
  t.is(world.unit.get(REG.PRS), 0);
});

test('five thousand requests around the ring are each delivered and answered once', (t) => {
  const { world, groups, domain } = listening();
  domain.faultHandler = function* (group) {
    groups.push(group);
    yield* world.core.pageGroupResponse(group, RESPONSE.SUCCESS);
    return 0;
  };
  function* device() {
    for (let n = 0; n < 5000; n++) {
      const request = { ...REQUEST, prgi: n % 512, address: n * 4096 };
      while (!world.unit.pageRequest64(request)) yield 10_000;
      if (n % 100 === 0) yield 20_000;
    }
  }
  world.machine.scheduler.spawn('device', device());
  world.settle();
  t.is(groups.length, 5000);
  t.deepEqual(
    groups.map(({ faults }) => Number(faults[0]!.address) / 4096),
    groups.map((_, n) => n),
  );
  t.is(world.unit.log.filter((text) => text.startsWith('page_grp_resp success')).length, 5000);
  t.is(world.unit.get(REG.PQH), world.unit.get(REG.PQT));
});

test('an overflow drops collected parts of groups and is cleared', (t) => {
  const { world, groups } = listening();
  world.unit.pageRequest64({ ...REQUEST, last: false });
  world.settle();
  world.unit.overflow();
  world.settle();
  t.is(world.unit.get(REG.PRS) & PRS.PRO, 0);
  world.unit.pageRequest64({ ...REQUEST, address: 0x2000 });
  world.settle();
  t.deepEqual(
    groups.map(({ faults }) => faults.map(({ address }) => address)),
    [[0x2000n]],
  );
});

test('detach waits for requests of its PASID that are in the ring', (t) => {
  const { world, groups, domain } = listening();
  const dev = world.devs[0]!;
  world.unit.onDescriptor = (text) => {
    // The last request of the old translation comes while the entry is flushed.
    if (text.startsWith('pc_inv')) world.unit.pageRequest64(REQUEST);
    return 'ok';
  };
  world.run(world.core.detachDevicePasid(domain, dev, 5));
  t.is(groups.length, 1);
  world.settle();
  t.is(world.unit.log.at(-1), 'page_grp_resp invalid rid=00:01.0 pasid=5 prgi=1');
});

test('attaching a domain that takes faults needs PRI on the function', (t) => {
  const world = makeWorld({ functions: [{ pri: false }] });
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  domain.faultHandler = function* () {
    return 0;
  };
  const attempt = world.core.attachDevicePasid(domain, dev, 5, handleOf(domain));
  t.throws(() => world.run(attempt), { message: /ENODEV/ });
  t.is(domain.tags.size, 0);
});

test('a replace ends although requests keep coming through the new translation', (t) => {
  const { world, groups, domain } = listening();
  const dev = world.devs[0]!;
  const next = nested(dev, domain.parent, 0x2000n);
  domain.faultHandler = next.faultHandler = function* (group) {
    groups.push(group);
    if (groups.length < 500) world.unit.pageRequest64(REQUEST);
    return 0;
  };
  world.unit.pageRequest64(REQUEST);
  world.run(world.core.replaceDevicePasid(next, dev, 5, handleOf(next)));
  t.true(groups.length < 20, `${groups.length} requests`);
});
