/** What grows with VMs, with PASIDs in use and with memory: costs that should stay flat. */
import { AT } from '../../devices/pci/fabric.ts';
import { World } from '../../vmm/scenario/world.ts';
import type { BenchOptions, Figure, Group } from './measure.ts';
import { heapInUse, interleaved } from './measure.ts';
import { nestedUnit, translateMany } from './nested.ts';

const MIB = 2 ** 20;
const HIT_PAGES = 64;

export const scaling: Group = {
  name: 'scaling',
  about: 'cost and memory with ever more PASIDs, pages and VMs',
  async run(options) {
    const { quick } = options;
    return [
      ...(await translations(options, 'PASIDs', quick ? [1, 1024] : [1, 64, 4096, 2 ** 18])),
      ...(await translations(options, 'pages', quick ? [64, 4096] : [64, 4096, 2 ** 16, 2 ** 19])),
      ...machines(options, quick ? [1, 2] : [1, 4, 16, 31]),
    ];
  },
};

/** A translation, with so many PASIDs or pages of one PASID in turn. */
async function translations(options: BenchOptions, what: 'PASIDs' | 'pages', counts: number[]) {
  options.progress(what);
  const cases = counts.map((count) => {
    const unit = nestedUnit(
      what === 'PASIDs' ? { pages: HIT_PAGES, pasids: count } : { pages: count },
    );
    const { length } = unit.requests.vpns;
    const calls = 1 << 14;
    let at = 0;
    const run = (): void => {
      at = translateMany(unit, AT.UNTRANSLATED, length, at, calls);
    };
    return { name: `translation, ${count} ${what} in turn`, calls, run };
  });
  const times = await interleaved(cases, options);
  const of = cases[0]!.name;
  return [...times].map(
    ([name, value]): Figure => ({ name, ratio: value / times.get(of)!, of, value, unit: 'ns' }),
  );
}

/** Guests that boot, bind, copy a page and power off: time and memory of each. */
function machines({ progress }: BenchOptions, counts: readonly number[]): Figure[] {
  const found: Figure[] = [];
  const [timeOf, bytesOf] = [`a VM's life, ${counts[0]!} VMs`, `heap of a VM, ${counts[0]!} VMs`];
  // What runs first must not pay for the compiler.
  live(1);
  for (const vms of counts) {
    progress(`${vms} VMs`);
    const { ns, bytes } = live(vms);
    const first = found[0]?.value ?? ns;
    const firstBytes = found[1]?.value ?? bytes;
    found.push(
      { name: `a VM's life, ${vms} VMs`, ratio: ns / first, of: timeOf, value: ns, unit: 'ns' },
      {
        name: `heap of a VM, ${vms} VMs`,
        ratio: bytes / firstBytes,
        of: bytesOf,
        value: bytes,
        unit: 'bytes',
      },
    );
  }
  return found;
}

/** Time of each VM, and heap that each keeps when all have ended but the world is still there. */
function live(vms: number): { ns: number; bytes: number } {
  const before = heapInUse();
  const start = process.hrtime.bigint();
  const world = new World({
    seed: 1,
    vms,
    procs: 1,
    guestBytes: 32 * MIB,
    input: new Uint8Array(4096),
    listeners: [],
  });
  while (world.step());
  const ns = Number(process.hrtime.bigint() - start) / vms;
  const bytes = (heapInUse() - before) / vms;
  if (world.result().vms.some(({ code }) => code !== 0)) throw new Error('a guest failed');
  return { ns, bytes };
}
