import test from 'ava';
import { PGTT, pasidEntry } from '../../../../devices/spec/vtd/pasid.ts';
import { Errno } from '../../../../host/kernel/errno.ts';
import type { FaultGroup } from '../../../../host/kernel/iommu/ops.ts';
import { NO_PASID, RESPONSE } from '../../../../host/kernel/iommu/ops.ts';
import type { World } from './world.ts';
import { deviceState, entryOf, handleOf, makeWorld, nested, nestParent } from './world.ts';

const ZERO = Array.from({ length: 8 }, () => 0n);

function attached(world: World, pasid = 5) {
  const dev = world.devs[0]!;
  const parent = nestParent(world);
  const domain = nested(dev, parent, 0x1234000n);
  world.run(world.core.attachDevicePasid(domain, dev, pasid, handleOf(domain)));
  world.unit.log.length = 0;
  return { dev, parent, domain };
}

test('a nested attach writes the 512-bit entry and flushes nothing with CM=0', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const parent = nestParent(world);
  const domain = nested(dev, parent, 0x1234000n, { flags: 7n });
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  const root = BigInt(parent.secondStage.root);
  // P, AW=48 bit, PGTT=3; DID 2, PWSNP; SRE, WPE, EAFE.
  t.deepEqual(entryOf(dev, 5), [
    root | (3n << 6n) | (2n << 2n) | 1n,
    (1n << 23n) | 2n,
    0x1234000n | 0x91n,
    0n,
    0n,
    0n,
    0n,
    0n,
  ]);
  t.deepEqual(world.unit.log, []);
  t.is(world.kernel.leftovers().pasidEntries, 1);
  const setup = world.events.find(
    (e) => e.def.name === 'intel_iommu:pasid_entry' && e.values['pasid'] === 5,
  );
  t.is(setup?.values['change'], 'setup');
  t.regex(String(setup?.values['entry']), /PGTT=nested DID=2/);
});

test('caching mode: a new entry is flushed under its own domain id', (t) => {
  const world = makeWorld({ cap: 0x81d2008c602f0606n | 0x80n });
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  t.deepEqual(world.unit.log, ['pc_inv pasid did=2 pasid=5', 'p_iotlb_inv pasid did=2 pasid=5']);
});

test('detach: P first, then PASID cache, IOTLB of the domain, device-TLB, and a drain', (t) => {
  const world = makeWorld();
  const { dev, domain } = attached(world);
  const seen: boolean[] = [];
  world.unit.onDescriptor = () => {
    seen.push((entryOf(dev, 5)[0]! & 1n) === 0n && entryOf(dev, 5)[2] === 0x1234000n);
    return 'ok';
  };
  world.run(world.core.detachDevicePasid(domain, dev, 5));
  t.deepEqual(world.unit.log, [
    'pc_inv pasid did=2 pasid=5',
    'iotlb_inv domain did=2 DR DW',
    'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
    'inv_wait FN',
    'p_iotlb_inv pasid did=1 pasid=5',
    'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
    'wait PD',
  ]);
  t.deepEqual(seen.slice(0, 3), [true, true, true]);
  t.deepEqual(entryOf(dev, 5), ZERO);
  t.is(world.kernel.leftovers().pasidEntries, 0);
  t.is(deviceState(dev).unit.domainIds.size, 0);
  t.is(domain.tags.size, 0);
});

test('replace on the same parent: two writes, old or new in between, flushed under the old id', (t) => {
  const world = makeWorld();
  const { dev, parent, domain } = attached(world);
  const next = nested(dev, parent, 0x5678000n);
  const before = entryOf(dev, 5);
  const states: bigint[][] = [];
  const { ram } = world.machine;
  const write = ram.write.bind(ram);
  ram.write = (address, from) => {
    write(address, from);
    states.push(entryOf(dev, 5));
  };
  world.run(world.core.replaceDevicePasid(next, dev, 5, handleOf(next)));
  const after = entryOf(dev, 5);
  t.is(states.length, 2);
  for (const state of states) {
    const entry = pasidEntry.decode(state);
    t.is(entry.P, 1);
    t.is(entry.PGTT, PGTT.NESTED);
    t.is(entry.SSPTPTR, parent.secondStage.root);
    t.true([0x1234000, 0x5678000].includes(entry.FSPTPTR));
    // The new table may be seen under the old id, never the old table under the new one.
    if (entry.FSPTPTR === 0x1234000) t.is(entry.DID, 2);
  }
  t.is(pasidEntry.decode(before).DID, 2);
  t.is(pasidEntry.decode(after).DID, 3);
  t.is(pasidEntry.decode(after).FSPTPTR, 0x5678000);
  t.deepEqual(world.unit.log.slice(0, 4), [
    'pc_inv pasid did=2 pasid=5',
    'p_iotlb_inv pasid did=2 pasid=5',
    'iotlb_inv domain did=2 DR DW',
    'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
  ]);
  t.is(domain.tags.size, 0);
  t.is(deviceState(dev).unit.domainIds.size, 1);
});

test('replace that changes both stages swaps the table page: never a mixture, nothing leaks', (t) => {
  const world = makeWorld();
  const { dev, domain } = attached(world);
  const other = nested(dev, nestParent(world), 0x5678000n);
  const neighbour = nested(dev, domain.parent, 0x9000n);
  world.run(world.core.attachDevicePasid(neighbour, dev, 6, handleOf(neighbour)));
  const untouched = entryOf(dev, 6);
  const old = entryOf(dev, 5);
  const free = world.kernel.pages.freePages;
  const seen = new Set<string>();
  const { ram } = world.machine;
  const [write, write64] = [ram.write.bind(ram), ram.write64.bind(ram)];
  const look = (): void => void seen.add(entryOf(dev, 5).join());
  ram.write = (address, from) => {
    write(address, from);
    look();
  };
  ram.write64 = (address, value) => {
    write64(address, value);
    look();
  };
  world.run(world.core.replaceDevicePasid(other, dev, 5, handleOf(other)));
  t.deepEqual([...seen], [old.join(), entryOf(dev, 5).join()]);
  t.is(pasidEntry.decode(entryOf(dev, 5)).SSPTPTR, other.parent.secondStage.root);
  t.deepEqual(entryOf(dev, 6), untouched);
  const shown = world.events.findLast((e) => e.values['change'] === 'replace');
  t.is(shown?.values['address'], deviceState(dev).table.addressOf(5));
  t.is(world.kernel.pages.freePages, free);
});

test('a replace that fails at any failure point leaves entry, ids, tags and frames as they were', (t) => {
  for (const sameParent of [true, false]) {
    for (let n = 1; ; n++) {
      const world = makeWorld();
      const { dev, parent, domain } = attached(world);
      const next = nested(dev, sameParent ? parent : nestParent(world), 0x5678000n);
      const before = entryOf(dev, 5);
      const free = world.kernel.pages.freePages;
      const ids = deviceState(dev).unit.domainIds.size;
      const tags = [domain.tags.size, next.tags.size, parent.tags.size];
      world.kernel.failpoints.failNth(n);
      const attempt = world.core.replaceDevicePasid(next, dev, 5, handleOf(next));
      let failed = false;
      try {
        world.run(attempt);
      } catch (error) {
        failed = error instanceof Errno;
      }
      if (!failed) {
        t.true(n > (sameParent ? 6 : 7), 'every step has a failure point');
        break;
      }
      t.deepEqual(entryOf(dev, 5), before);
      t.is(world.kernel.pages.freePages, free);
      t.is(deviceState(dev).unit.domainIds.size, ids);
      t.deepEqual([domain.tags.size, next.tags.size, parent.tags.size], tags);
      t.is(world.core.attachHandle(world.core.groupOf(dev), 5).domain, domain);
      // And it still works.
      world.kernel.failpoints.disarm();
      world.run(world.core.replaceDevicePasid(next, dev, 5, handleOf(next)));
      t.is(pasidEntry.decode(entryOf(dev, 5)).FSPTPTR, 0x5678000);
    }
  }
});

test('break-before-make tears the old entry down first, and a failed set-up leaves it blocked', (t) => {
  const world = makeWorld({ kernel: { replace: 'break-before-make' } });
  const { dev, parent } = attached(world);
  const next = nested(dev, parent, 0x5678000n);
  world.kernel.failpoints.failAt('intel:pasid-entry-setup');
  t.throws(() => world.run(world.core.replaceDevicePasid(next, dev, 5, handleOf(next))));
  t.deepEqual(entryOf(dev, 5), ZERO);
  world.kernel.failpoints.disarm();
  world.run(world.core.replaceDevicePasid(next, dev, 5, handleOf(next)));
  t.is(pasidEntry.decode(entryOf(dev, 5)).FSPTPTR, 0x5678000);
});

test('nested entries are refused by width and flags that the unit has not', (t) => {
  const world = makeWorld({ ecap: 0x0003ed9ea4f050dfn & ~(1n << 31n) & ~(1n << 34n) });
  const dev = world.devs[0]!;
  const parent = nestParent(world);
  for (const more of [{ width: 57 }, { width: 39 }, { flags: 1n }, { flags: 2n }]) {
    const domain = nested(dev, parent, 0x1000n, more);
    const attempt = world.core.attachDevicePasid(domain, dev, 5, handleOf(domain));
    t.throws(() => world.run(attempt), { instanceOf: Errno, message: /EINVAL/ });
    t.deepEqual(entryOf(dev, 5), ZERO);
    t.is(deviceState(dev).unit.domainIds.size, 0);
  }
});

test('the RID goes identity, blocked while owned, second stage, blocked, identity', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const group = world.core.groupOf(dev);
  const kind = (): number => pasidEntry.decode(entryOf(dev, NO_PASID)).PGTT;
  const domain = nestParent(world);
  t.is(kind(), PGTT.PASS_THROUGH);
  world.run(world.core.claimDmaOwner(group, world));
  t.deepEqual(entryOf(dev, NO_PASID), ZERO);
  world.run(world.core.attachGroupHandle(domain, group, handleOf(domain)));
  t.is(kind(), PGTT.SECOND_STAGE);
  world.run(world.core.detachGroupHandle(domain, group));
  t.deepEqual(entryOf(dev, NO_PASID), ZERO);
  world.run(world.core.releaseDmaOwner(group));
  t.is(kind(), PGTT.PASS_THROUGH);
  t.is(world.kernel.leftovers().pasidEntries, 0);
});

test('page requests reach the handler of their PASID; detaching answers what is open', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  const groups: FaultGroup[] = [];
  domain.faultHandler = function* (group) {
    groups.push(group);
    return 0;
  };
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  const request = {
    rid: dev.rid,
    pasid: 5,
    pasidPresent: true,
    exec: false,
    priv: false,
    read: true,
    write: true,
    last: true,
    prgi: 3,
    address: 0x7f0000001000,
  };
  world.unit.pageRequest64({ ...request, last: false, prgi: 4 });
  world.unit.pageRequest64(request);
  world.unit.pageRequest64({ ...request, prgi: 4, address: 0x7f0000002000 });
  world.settle();
  t.deepEqual(
    groups.map(({ faults }) => faults.map(({ grpid, address, perm }) => [grpid, address, perm])),
    [
      [[3, 0x7f0000001000n, 3]],
      [
        [4, 0x7f0000001000n, 3],
        [4, 0x7f0000002000n, 3],
      ],
    ],
  );
  t.true(world.run(world.core.pageGroupResponse(groups[0]!, RESPONSE.SUCCESS)));
  t.false(world.run(world.core.pageGroupResponse(groups[0]!, RESPONSE.SUCCESS)));
  world.settle();
  t.deepEqual(world.unit.log, ['page_grp_resp success rid=00:01.0 pasid=5 prgi=3']);
  world.run(world.core.detachDevicePasid(domain, dev, 5));
  world.settle();
  t.is(world.unit.log.at(-1), 'page_grp_resp invalid rid=00:01.0 pasid=5 prgi=4');
  t.false(world.run(world.core.pageGroupResponse(groups[1]!, RESPONSE.SUCCESS)));
});
