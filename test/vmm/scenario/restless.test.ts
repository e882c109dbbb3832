/** Hardware may drop any cached entry and fetch others at any time: correct software does not notice. */
import test from 'ava';
import { RestlessUnit } from '../../../devices/vtd/restless-unit.ts';
import { Machine } from '../../../host/machine/machine.ts';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import { World } from '../../../vmm/scenario/world.ts';
import { pattern } from './vms.ts';

const INPUT = pattern(5 * 4096 + 77);

for (const [seed, vms] of [
  [3, 1],
  [4, 2],
  [5, 2],
  [6, 1],
] as const) {
  test(`copies arrive whole and nothing is left, seed ${seed}, ${vms} VMs`, (t) => {
    const walks: number[] = [];
    for (const restlessCaches of [false, true]) {
      const world = new World({
        seed,
        vms,
        procs: 2,
        guestBytes: 32 * 2 ** 20,
        input: INPUT,
        restlessCaches,
        listeners: [
          ({ def, values }) => {
            if (def === vtd.stats && values['unit'] === 'host') walks.push(Number(values['walks']));
          },
        ],
      });
      while (world.step());
      const { leftovers, vms: results } = world.result();
      t.deepEqual(leftovers, { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
      for (const { code, crash, outputs } of results) {
        t.is(crash, undefined);
        t.is(code, 0);
        t.deepEqual(outputs, [INPUT, INPUT]);
      }
    }
    t.true(walks[1]! > walks[0]!, `${walks[1]} walks, ${walks[0]} when entries stay`);
  });
}

test('the machine makes such a unit by its named option only', (t) => {
  const options = { ramBytes: 2 ** 24, seed: 1, functions: [] };
  t.true(new Machine({ ...options, restlessCaches: true }).unit instanceof RestlessUnit);
  t.false(new Machine(options).unit instanceof RestlessUnit);
});
