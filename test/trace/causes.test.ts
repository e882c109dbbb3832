/** Every event knows what caused it: all of a world descend from its power-on. */
import test from 'ava';
import type { EventRecord } from '../../trace/event.ts';
import { World } from '../../vmm/scenario/world.ts';

const MIB = 2 ** 20;

for (const [name, shape] of Object.entries({
  'one program': { vms: 1, procs: 1 },
  'two machines with two programs each': { vms: 2, procs: 2 },
  'a guest that does what it should not': { vms: 2, procs: 1, hostile: 300 },
})) {
  test(`only the power-on has no cause: ${name}`, (t) => {
    const roots: EventRecord[] = [];
    const early: EventRecord[] = [];
    const input = Uint8Array.from({ length: 9000 }, (_, i) => i);
    const listen = (record: EventRecord): void => {
      if (record.cause === 0) roots.push(record);
      if (record.cause >= record.seq) early.push(record);
    };
    const world = new World({
      seed: 1,
      guestBytes: 64 * MIB,
      input,
      listeners: [listen],
      ...shape,
    });
    while (world.step());
    t.deepEqual(
      roots.map(({ def }) => def.name),
      ['engine:power_on'],
    );
    t.deepEqual(early, []);
  });
}

test('the end of a machine descends from what its guest did, the counters from the end of all', (t) => {
  const records: EventRecord[] = [];
  const world = new World({
    seed: 1,
    vms: 1,
    procs: 1,
    guestBytes: 64 * MIB,
    input: Uint8Array.of(1, 2, 3),
    listeners: [(record) => records.push(record)],
  });
  while (world.step());
  const causeOf = (name: string): string | undefined => {
    const effect = records.find(({ def }) => def.name === name)!;
    return records.find(({ seq }) => seq === effect.cause)?.def.name;
  };
  t.is(causeOf('host:boot'), 'engine:power_on');
  t.is(causeOf('vmm:start'), 'host:boot');
  t.is(causeOf('vmm:stop'), 'guest:power_off');
  t.is(causeOf('dsa:stats'), 'engine:settled');
  t.is(causeOf('host:leftovers'), 'engine:settled');
});
