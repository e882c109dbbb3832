import test from 'ava';
import { DsaDevice } from '../../../devices/dsa/dsa.ts';
import { bootKernel } from '../../../host/kernel/boot.ts';
import { Machine } from '../../../host/machine/machine.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { FakeFunction } from '../machine/fakes.ts';

function boot() {
  const machine = new Machine({
    ramBytes: 64 << 20,
    seed: 1,
    functions: [
      (rid, world) => new DsaDevice({ rid, ...world }),
      (rid) => new FakeFunction(rid),
      (rid, world) => new DsaDevice({ rid, ...world }),
    ],
  });
  const records: EventRecord[] = [];
  machine.trace.listen((record) => records.push(record));
  const thread = machine.scheduler.spawn('boot', bootKernel(machine));
  machine.clock.run();
  machine.scheduler.rethrow();
  return { machine, records, kernel: thread.result! };
}

test('the kernel finds its devices, switches translation on and holds nothing yet', (t) => {
  const { kernel, machine, records } = boot();
  t.deepEqual(
    kernel.pciDevices.map(({ name }) => name),
    ['0000:00:01.0', '0000:00:02.0', '0000:00:03.0'],
  );
  t.true(kernel.devicePaths().includes('/dev/iommu'));
  t.true(kernel.devicePaths().includes('/dev/vfio/devices/vfio0'));
  const gsts = machine.root.read(0xfed9_001c, 4);
  t.is(gsts >> 31n, 1n);
  t.deepEqual(kernel.leftovers(), { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
  t.like(records.at(-1), {
    def: { name: 'host:boot' },
    values: { ramBytes: 64 << 20, units: 1, functions: 3 },
  });
});

test('two boots with one seed are the same, event for event', (t) => {
  const show = ({ records }: { records: EventRecord[] }): string[] =>
    records.map(({ seq, ns, cause, def, values }) => {
      const fields = Object.entries(values).map(([name, value]) => `${name}=${value}`);
      return [seq, ns, cause, def.name, ...fields].join(' ');
    });
  t.deepEqual(show(boot()), show(boot()));
});
