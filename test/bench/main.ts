/**
 * `npm run bench`: what a translation and a whole vSVA life cycle cost, measured side by side in one
 * run. Read the ratios: absolute times are the machine's, not the model's.
 */
import { Bench } from 'tinybench';
import { AT } from '../../devices/pci/fabric.ts';
import { Tracer } from '../../trace/tracer.ts';
import { World } from '../../vmm/scenario/world.ts';
import { SID } from '../devices/vtd/bench.ts';
import { nestedUnit, PASID } from './nested.ts';

const PAGES = 1 << 16;

/** Translations in one measured call, so that the measuring weighs nothing. */
const BATCH = 4096;

const bench = new Bench({ time: 1000, warmupTime: 300 });

const { unit, vpns } = nestedUnit(PAGES);
const traced = nestedUnit(PAGES, listened());
const raw = new Uint8Array(PAGES * 4096);

/** A tracer with a listener that keeps nothing. */
function listened(): Tracer {
  const tracer = new Tracer(() => 0);
  tracer.listen(() => undefined);
  return tracer;
}

function translations(which: typeof unit, pages: Float64Array, spread: number): () => void {
  let at = 0;
  return () => {
    for (let i = 0; i < BATCH; i++) {
      const vpn = pages[at]!;
      at = at + 1 < spread ? at + 1 : 0;
      if (!which.unit.translate(SID, PASID, false, AT.UNTRANSLATED, vpn, true, false)) {
        throw new Error(`page ${vpn}: fault 0x${which.unit.result.fault.toString(16)}`);
      }
    }
  };
}

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

const HIT = 'translation, IOTLB hit (one page)';
bench
  .add(HIT, translations(unit, vpns, 1))
  .add('translation, IOTLB hit (64 pages)', translations(unit, vpns, 64))
  .add('translation, nested walk (64Ki random pages)', translations(unit, vpns, PAGES))
  .add('the same, every walk traced', translations(traced.unit, traced.vpns, PAGES))
  .add('4 KiB copied in a plain Uint8Array, random pages', () => {
    for (let i = 0; i < BATCH; i++) {
      const page = vpns[i]! % PAGES;
      raw.copyWithin(
        page * 4096,
        ((page + 7919) % PAGES) * 4096,
        ((page + 7919) % PAGES) * 4096 + 4096,
      );
    }
  })
  .add('boot, bind, NOOP, replace, unbind, power off: 1 process', () => run(1))
  .add('the same, 16 processes', () => run(16));

await bench.run();

const perCall = (name: string): number =>
  /^(translation|the same, every|4 KiB)/.test(name) ? BATCH : 1;
const cost = new Map(
  bench.tasks.map(({ name, result }) => {
    if (result.state !== 'completed') throw new Error(`${name}: ${result.state}`);
    return [name, result.latency.p50 / perCall(name)];
  }),
);
const unitCost = cost.get(HIT)!;
process.stdout.write('median, as a multiple of an IOTLB hit\n');
for (const [name, ms] of cost) {
  const ratio = (ms / unitCost).toFixed(1).padStart(12);
  const time = `${(ms * 1e6).toFixed(0)} ns`.padStart(14);
  process.stdout.write(`${ratio} ${time}  ${name}\n`);
}
