import test from 'ava';
import { EVERYTHING } from '../../../../host/kernel/intel/cache.ts';
import { deviceState, handleOf, makeWorld, nested, nestParent } from './world.ts';

test('sixteen descriptors share one wait', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  for (let pasid = 1; pasid <= 20; pasid++) {
    world.run(world.core.attachDevicePasid(domain, dev, pasid, handleOf(domain)));
  }
  const waits = world.unit.waits;
  world.run(domain.tags.flushRange(EVERYTHING, false));
  t.is(world.unit.log.length, 40);
  t.is(world.unit.waits - waits, 3);
});

test('a tag that is assigned twice goes with its last use', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const device = deviceState(dev);
  const { tags } = nestParent(world);
  tags.assign('IOTLB', device, 2, 0);
  tags.assign('IOTLB', device, 2, 0);
  tags.unassign('IOTLB', device, 2, 0);
  t.is(tags.size, 1);
  tags.unassign('IOTLB', device, 2, 0);
  t.is(tags.size, 0);
});

test('the flush tells the trace what it is for, and the queue hangs below', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  world.run(domain.tags.flushRange({ start: 4, pages: 4 }, false));
  const tags = world.events.filter((e) => e.def.name === 'intel_iommu:cache_tag_flush_range');
  t.deepEqual(
    tags.map(({ values }) => [values['tag'], values['start'], values['end']]),
    [
      ['IOTLB', 0x4000, 0x7fff],
      ['DEVTLB', 0x4000, 0x7fff],
    ],
  );
  world.run(world.core.detachDevicePasid(domain, dev, 5));
  const clear = world.events.findLast((e) => e.values['change'] === 'clear')!;
  const detach = world.events.findLast((e) => e.def.name === 'iommu:detach_device_pasid')!;
  const submits = world.events.filter((e) => e.cause === clear.seq);
  t.is(clear.cause, detach.seq);
  t.deepEqual(
    submits.map(({ values }) => values['descriptor']),
    [
      'pc_inv pasid did=2 pasid=5',
      'iotlb_inv domain did=2 DR DW',
      'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
      'inv_wait FN',
      'p_iotlb_inv pasid did=1 pasid=5',
      'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
    ],
  );
});

test('a detach during a flush does not keep another attachment from being flushed', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParent(world), 0x1000n);
  for (let pasid = 1; pasid <= 40; pasid++) {
    world.run(world.core.attachDevicePasid(domain, dev, pasid, handleOf(domain)));
  }
  const device = deviceState(dev);
  world.unit.onDescriptor = (text) => {
    if (text.startsWith('p_dev_tlb_inv') && text.includes('pasid=1 ')) {
      domain.tags.unassign('DEVTLB', device, 2, 1);
      domain.tags.unassign('IOTLB', device, 2, 1);
    }
    return 'ok';
  };
  world.run(domain.tags.flushRange(EVERYTHING, false));
  const flushed = world.unit.log.filter((text) => text.startsWith('p_dev_tlb_inv'));
  t.is(flushed.length, 40);
});
