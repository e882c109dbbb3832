import test from 'ava';
import { pasidCacheDesc, pasidIotlbDesc } from '../../../../devices/spec/vtd/invalidation.ts';
import { deviceTlb } from '../../../../host/kernel/intel/flush.ts';
import type { InvalidationQueue } from '../../../../host/kernel/intel/qi.ts';
import type { World } from './world.ts';
import { deviceState, makeWorld } from './world.ts';

const pc = (pasid: number): BigUint64Array<ArrayBuffer> =>
  pasidCacheDesc({ granularity: 1, did: 9, pasid });
const queueOf = (world: World): InvalidationQueue => deviceState(world.devs[0]!).unit.queue;

test('descriptors are carried out in order, and submit returns after the last', (t) => {
  const world = makeWorld();
  world.run(queueOf(world).submit([pc(1), pc(2)]));
  t.deepEqual(world.unit.log, ['pc_inv pasid did=9 pasid=1', 'pc_inv pasid did=9 pasid=2']);
  const shown = world.events.filter((e) => e.def.name === 'intel_iommu:qi_submit').slice(-2);
  t.deepEqual(
    shown.map((e) => e.values['descriptor']),
    world.unit.log,
  );
});

test('a refused descriptor is EINVAL for its own submitter only', (t) => {
  const world = makeWorld();
  const queue = queueOf(world);
  world.unit.onDescriptor = (text) => (text.includes('pasid=66') ? 'refuse' : 'ok');
  const outcomes: string[] = [];
  function* submit(pasid: number) {
    try {
      yield* queue.submit([pc(pasid), pc(pasid + 1000)]);
      outcomes.push(`${pasid} done`);
    } catch (error) {
      outcomes.push(`${pasid} ${String(error).slice(7, 13)}`);
    }
  }
  for (const pasid of [1, 66, 2]) world.machine.scheduler.spawn('submitter', submit(pasid));
  world.settle();
  t.deepEqual(outcomes.toSorted(), ['1 done', '2 done', '66 EINVAL']);
  t.true(world.unit.log.includes('pc_inv pasid did=9 pasid=1066'), 'the queue went on');
});

test('a device-TLB time-out is submitted anew; a device that never answers ends in ETIMEDOUT', (t) => {
  const world = makeWorld();
  const queue = queueOf(world);
  let timeouts = 0;
  world.unit.onDescriptor = (text) =>
    text.startsWith('p_dev') && timeouts++ === 0 ? 'timeout' : 'ok';
  world.run(queue.submit([pc(1), deviceTlb(8, 5, 0, 'all')]));
  t.is(world.unit.log.filter((text) => text.startsWith('p_dev')).length, 1);
  world.unit.onDescriptor = (text) => (text.startsWith('p_dev') ? 'timeout' : 'ok');
  t.throws(() => world.run(queue.submit([deviceTlb(8, 5, 0, 'all')])), { message: /ETIMEDOUT/ });
  world.unit.onDescriptor = () => 'ok';
  world.run(queue.submit([pc(2)]));
  t.is(world.unit.log.at(-1), 'pc_inv pasid did=9 pasid=2');
});

test('a full ring makes posters wait, and no descriptor is lost or overwritten', (t) => {
  const world = makeWorld();
  const queue = queueOf(world);
  world.unit.stopped = true;
  function* post() {
    for (let pasid = 0; pasid < 700; pasid++) yield* queue.post(pc(pasid));
  }
  const thread = world.machine.scheduler.spawn('poster', post());
  const from = world.machine.clock.now;
  world.machine.clock.run(() => world.machine.clock.now > from + 100_000);
  t.false(thread.done);
  t.is(queue.pending, 255);
  world.unit.resume();
  world.settle();
  t.true(thread.done);
  t.deepEqual(
    world.unit.log,
    Array.from({ length: 700 }, (_, pasid) => `pc_inv pasid did=9 pasid=${pasid}`),
  );
});

test('a refused descriptor that nobody waits for does not stop the queue', (t) => {
  const world = makeWorld();
  const queue = queueOf(world);
  world.unit.onDescriptor = (text) => (text.includes('pasid=66') ? 'refuse' : 'ok');
  world.run(queue.post(pc(66)));
  world.run(queue.post(pc(3)));
  world.settle();
  t.deepEqual(world.unit.log, ['inv_wait FN', 'pc_inv pasid did=9 pasid=3']);
  world.run(queue.submit([pasidIotlbDesc({ granularity: 2, did: 1, pasid: 5 })]));
  t.is(world.unit.log.at(-1), 'p_iotlb_inv pasid did=1 pasid=5');
});
