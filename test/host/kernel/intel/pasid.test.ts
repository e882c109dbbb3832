import test from 'ava';
import { pasidEntry } from '../../../../devices/spec/vtd/pasid.ts';
import { setupEntry, teardownEntry } from '../../../../host/kernel/intel/pasid.ts';
import type { EntryWords } from '../../../../host/kernel/intel/pasid-entry.ts';
import { nestedEntry, passThroughEntry } from '../../../../host/kernel/intel/pasid-entry.ts';
import { PasidTable } from '../../../../host/kernel/intel/pasid-table.ts';
import { deviceState, entryOf, makeWorld } from './world.ts';

test('set-up of a present entry is EBUSY; without memory for its table ENODEV', (t) => {
  const world = makeWorld();
  const device = deviceState(world.devs[0]!);
  const entry = passThroughEntry(device.unit);
  world.run(setupEntry(device, 70, entry));
  t.throws(() => world.run(setupEntry(device, 70, entry)), { message: /^EBUSY/ });
  world.kernel.failpoints.failAt('intel:pasid-table');
  t.throws(() => world.run(setupEntry(device, 700, entry)), { message: /^ENODEV/ });
  t.is(device.table.addressOf(700), -1);
  t.is(device.table.live(), 1);
});

test('a process that goes leaves FPD: no faults are recorded until the last teardown', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const device = deviceState(dev);
  world.run(setupEntry(device, 5, passThroughEntry(device.unit)));
  world.run(teardownEntry(device, 5, true));
  t.is(entryOf(dev, 5)[0], pasidEntry.masks.FPD);
  t.deepEqual(world.unit.log, [
    'pc_inv pasid did=1 pasid=5',
    'p_iotlb_inv pasid did=1 pasid=5',
    'p_dev_tlb_inv sid=00:01.0 pasid=5 all',
  ]);
  world.unit.log.length = 0;
  world.run(teardownEntry(device, 5));
  t.is(entryOf(dev, 5)[0], 0n);
  t.is(world.unit.log.at(-1), 'wait PD');
  world.unit.log.length = 0;
  world.run(teardownEntry(device, 5));
  t.deepEqual(world.unit.log, [], 'nothing is left to tear down');
});

/** What the unit may see of an entry at any moment: its two halves, each old or new. */
function statesOf(from: EntryWords, to: EntryWords): string[] {
  const world = makeWorld();
  const table = new PasidTable(world.kernel, 64);
  table.write(5, from);
  const states: string[] = [];
  const { ram } = world.machine;
  const [write, write64] = [ram.write.bind(ram), ram.write64.bind(ram)];
  const look = (): void => {
    const words = table.read(5);
    const low = words[0] === to[0] && words[1] === to[1] ? 'new' : 'old';
    const high = words[2] === to[2] && words[3] === to[3] ? 'new' : 'old';
    if (states.at(-1) !== `${low}/${high}`) states.push(`${low}/${high}`);
  };
  const replacement = table.prepareReplace(5, to);
  ram.write = (address, bytes) => {
    write(address, bytes);
    look();
  };
  ram.write64 = (address, value) => {
    write64(address, value);
    look();
  };
  replacement.apply();
  replacement.finish();
  return states;
}

test('each kind of change goes through no state that is neither the old nor the new translation', (t) => {
  const { unit } = deviceState(makeWorld().devs[0]!);
  const nested = (root: bigint, ss: number, did: number): EntryWords => {
    const guest = { flags: 0n, pgtbl_addr: root, addr_width: 48, __reserved: 0 };
    return nestedEntry(
      unit,
      guest,
      { root: ss, addressWidth: 2, dirty: false, forceSnooping: false },
      did,
    );
  };
  const plain = passThroughEntry(unit);
  const one = nested(0x1000n, 0x8000, 2);
  // First stage ignored before: it may be new first; ignored after: it may be old last.
  t.deepEqual(statesOf(plain, one), ['old/new', 'new/new']);
  t.deepEqual(statesOf(one, plain), ['new/old', 'new/new']);
  t.deepEqual(statesOf(one, nested(0x2000n, 0x8000, 3)), ['old/new', 'new/new']);
  t.deepEqual(statesOf(one, nested(0x1000n, 0x9000, 3)), ['new/new']);
  // Both tables change: one write to the directory.
  t.deepEqual(statesOf(one, nested(0x2000n, 0x9000, 3)), ['old/old', 'new/new']);
});
