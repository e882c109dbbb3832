import test from 'ava';
import { FSPM, pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import { guest } from '../../../trace/catalogue/guest.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { vmm } from '../../../trace/catalogue/vmm.ts';
import type { EventDef, EventRecord } from '../../../trace/event.ts';
import { World, type WorldOptions, type WorldResult } from '../../../vmm/scenario/world.ts';

const PAGE = 4096;
const INPUT = Uint8Array.from({ length: 3 * PAGE + 5 }, (_, i) => (i * 31 + (i >>> 8)) & 0xff);

interface Run {
  readonly result: WorldResult;
  readonly of: (def: EventDef) => EventRecord['values'][];
}

function run(options: Partial<WorldOptions>): Run {
  const events: EventRecord[] = [];
  const world = new World({
    seed: 3,
    vms: 1,
    procs: 2,
    guestBytes: 32 * 2 ** 20,
    input: INPUT,
    listeners: [(record) => events.push(record)],
    ...options,
  });
  while (world.step());
  return {
    result: world.result(),
    of: (def) => events.filter((record) => record.def === def).map(({ values }) => values),
  };
}

/** First-stage depth (FSPM) of the present entries of PASIDs 1 and up, as their writer saw them. */
function depths(entries: readonly EventRecord['values'][]): Set<number> {
  const words = entries
    .filter(({ pasid, qw0 }) => pasid !== 0 && (BigInt(qw0!) & 1n) === 1n)
    .map(({ qw0, qw1, qw2 }) => [qw0, qw1, qw2, 0, 0, 0, 0, 0].map((word) => BigInt(word!)));
  return new Set(words.map((entry) => pasidEntry.decode(entry).FSPM));
}

test('five levels from the guest process to the silicon: copies, replaces, nothing left', (t) => {
  const { result, of } = run({ fiveLevel: true });
  t.deepEqual(result.leftovers, { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
  for (const { code, crash, outputs } of result.vms) {
    t.is(crash, undefined);
    t.is(code, 0);
    t.deepEqual(outputs, [INPUT, INPUT]);
  }
  t.deepEqual(of(vmm.refused), []);
  t.deepEqual([...depths(of(guest.pasidEntry))], [FSPM.LEVELS_5], 'the guest asks for five');
  t.deepEqual([...depths(of(host.pasidEntry))], [FSPM.LEVELS_5], 'the host programs five');
  t.true(of(guest.prqReport).length > 0, 'pages came in through page requests');
});

test('four levels without it, on a unit that has no more', (t) => {
  const { result, of } = run({});
  t.is(result.vms[0]!.code, 0);
  t.deepEqual([...depths(of(guest.pasidEntry))], [FSPM.LEVELS_4]);
  t.deepEqual([...depths(of(host.pasidEntry))], [FSPM.LEVELS_4]);
});
