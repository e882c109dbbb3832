/** The whole path: guests boot, bind, copy nothing, replace, unbind and power off. */
import { World } from '../../vmm/scenario/world.ts';
import type { Group } from './measure.ts';
import { figures, measure } from './measure.ts';

const ONE = '1 process';

export const lifeCycle: Group = {
  name: 'life-cycle',
  about: 'boot, bind, NOOP, replace, unbind, power off',
  async run(options) {
    const many = options.quick ? 4 : 16;
    const cases = [
      { name: ONE, calls: 1, run: () => run(1) },
      { name: `${many} processes`, calls: 1, run: () => run(many) },
    ];
    return figures(await measure(cases, options), ONE);
  },
};

function run(procs: number): void {
  const world = new World({
    seed: 1,
    vms: 1,
    procs,
    guestBytes: 64 * 2 ** 20,
    input: new Uint8Array(0),
    listeners: [],
  });
  while (world.step());
  if (world.result().vms[0]?.code !== 0) throw new Error('the guest failed');
}
