/** The sanitizer on whole worlds: every mistake is caught for what it is, and no right deed is. */
import test from 'ava';
import { Random } from '../../../host/machine/random.ts';
import type { EventRecord } from '../../../trace/event.ts';
import type { FindingJson } from '../../../trace/story/sanitizer.ts';
import { Findings, findingLines } from '../../../trace/story/sanitizer.ts';
import { BUGS, type Bug } from '../../../vmm/scenario/bugs.ts';
import { hostileGuest } from '../../../vmm/scenario/hostile-guest.ts';
import { inScenario, SCENARIOS, type ScenarioName } from '../../../vmm/scenario/scenarios.ts';
import { World } from '../../../vmm/scenario/world.ts';
import { type Guest, pattern, startVms } from './vms.ts';

const INPUT = pattern(21_213);
/** A mistake may make somebody wait for ever. */
const MOST_STEPS = 20_000;
/** Seeds of the runs that must be clean; more of them with VSVA_SANITIZER_SEEDS. */
const SEEDS = Number(process.env['VSVA_SANITIZER_SEEDS'] ?? '2');
/** Random worlds that must be clean; more of them with VSVA_SANITIZER_RUNS. */
const RUNS = Number(process.env['VSVA_SANITIZER_RUNS'] ?? '8');

interface Watched {
  readonly events: readonly EventRecord[];
  readonly findings: readonly FindingJson[];
  readonly world: World;
}

function watch(name: ScenarioName, seed: number, bugs: readonly Bug[] = [], sanitize = true) {
  const found = new Findings();
  const events: EventRecord[] = [];
  const hear = (record: EventRecord): void => {
    found.add(record);
    if (record.def.layer === 'vmm') events.push(record);
  };
  const guestBytes = 32 * 2 ** 20;
  const options = { seed, vms: 1, procs: 1, guestBytes, input: INPUT, sanitize };
  const world = new World(inScenario({ ...options, bugs: new Set(bugs), listeners: [hear] }, name));
  for (let steps = 0; world.step() && (bugs.length === 0 || steps < MOST_STEPS); steps++);
  const watched: Watched = { events, findings: found.list, world };
  return watched;
}

const HOST = ['host', 'host kernel'] as const;
const GUEST = ['vm0', 'guest kernel (vm0)'] as const;
const VMM = ['host', 'VMM (vm0)'] as const;
const DEVICE = ['host', 'device'] as const;
const FS = /^p_iotlb_inv page did=1 pasid=1 0x\w+ am=\d+, then p_dev_tlb_inv sid=00:01.0 pasid=1/;
const FS_ON_HOST = /^p_iotlb_inv page did=2 pasid=1 0x\w+ am=\d+/;
const DEVTLB = /^p_dev_tlb_inv sid=00:01.0 pasid=1 0x\w+\+0x\w+$/;
const PC = /^pc_inv pasid did=\d pasid=1, then .*p_iotlb_inv .*, then p_dev_tlb_inv /;
const SS = /^iotlb_inv domain did=2, then p_iotlb_inv page did=2 pasid=1/;
const DRAIN = /inv_wait with FN, .* then inv_wait with PD$/;
const FREE = /^unmap, invalidate and wait before the memory goes back$/;
const PLACE = /^P last; while present, one aligned 16-byte write/;
const ONCE = /a group is answered once/;
const CALL = /^IOMMU_HWPT_INVALIDATE of the nested HWPT: p_iotlb_inv page did=2 pasid=1/;
const CONFIRM = /^the device must drop what an invalidate request names/;

/** The mistake, where it shows, and the report: kind, unit and culprit, what is missing. */
const CAUGHT: readonly (readonly [
  bug: Bug,
  scenario: ScenarioName,
  kind: string,
  where: readonly [unit: string, who: string],
  missing: RegExp,
])[] = [
  ['host-unmap-no-flush', 'memory-first', 'missing-invalidation', HOST, FS_ON_HOST],
  ['host-unmap-frees-tables', 'memory-first', 'missing-invalidation', HOST, SS],
  ['host-unmap-keeps-entries', 'memory-first', 'freed-while-mapped', HOST, FREE],
  ['host-unmap-unpins-first', 'memory-first', 'freed-while-mapped', HOST, FREE],
  ['host-flush-wrong-did', 'copy', 'wrong-domain-id', HOST, FS_ON_HOST],
  ['host-flush-leaf-only', 'memory-first', 'leaf-only', HOST, /^iotlb_inv domain did=2/],
  ['host-flush-too-narrow', 'copy', 'too-narrow', HOST, FS_ON_HOST],
  ['host-flush-no-device-tlb', 'copy', 'no-device-tlb-invalidation', HOST, DEVTLB],
  ['host-flush-device-first', 'copy', 'wrong-order', HOST, DEVTLB],
  ['host-flush-no-wait', 'copy', 'not-waited', HOST, /^inv_wait with a status write/],
  ['host-teardown-no-pasid-cache', 'copy', 'missing-invalidation', HOST, PC],
  ['host-teardown-no-iotlb', 'copy', 'missing-invalidation', HOST, SS],
  ['host-teardown-no-device-tlb', 'copy', 'no-device-tlb-invalidation', HOST, DEVTLB],
  ['host-teardown-wrong-pasid', 'copy', 'wrong-pasid', HOST, PC],
  ['host-teardown-no-drain', 'copy', 'no-drain', HOST, DRAIN],
  ['host-replace-no-flush', 'copy', 'missing-invalidation', HOST, PC],
  ['host-replace-new-did', 'copy', 'wrong-domain-id', HOST, PC],
  ['host-replace-torn', 'copy', 'changed-in-place', HOST, PLACE],
  ['host-present-first', 'copy', 'present-too-early', HOST, PLACE],
  ['host-answers-twice', 'copy', 'second-response', HOST, ONCE],
  ['host-answers-unasked', 'copy', 'unmatched-response', HOST, ONCE],
  ['guest-munmap-no-flush', 'copy', 'missing-invalidation', GUEST, FS],
  ['guest-munmap-frees-early', 'copy', 'missing-invalidation', GUEST, FS],
  ['guest-exit-frees-early', 'unbind', 'missing-invalidation', GUEST, FS],
  ['guest-flush-too-narrow', 'copy', 'too-narrow', GUEST, FS],
  ['guest-flush-wrong-pasid', 'copy', 'wrong-pasid', GUEST, FS],
  ['guest-flush-wrong-did', 'copy', 'wrong-domain-id', GUEST, FS],
  ['guest-flush-no-device-tlb', 'copy', 'no-device-tlb-invalidation', GUEST, DEVTLB],
  ['guest-flush-device-first', 'copy', 'wrong-order', GUEST, DEVTLB],
  ['guest-teardown-no-pasid-cache', 'copy', 'missing-invalidation', GUEST, PC],
  ['guest-teardown-no-iotlb', 'copy', 'missing-invalidation', GUEST, FS],
  ['guest-teardown-no-drain', 'copy', 'no-drain', GUEST, DRAIN],
  ['guest-replace-no-flush', 'copy', 'missing-invalidation', GUEST, PC],
  ['guest-replace-frees-early', 'copy', 'freed-while-mapped', GUEST, FREE],
  ['guest-present-first', 'copy', 'present-too-early', GUEST, PLACE],
  ['guest-answers-twice', 'copy', 'second-response', GUEST, ONCE],
  ['vmm-drops-invalidation', 'copy', 'not-forwarded', VMM, CALL],
  ['vmm-invalidates-one-page', 'copy', 'too-narrow', VMM, CALL],
  ['vmm-invalidates-other-pasid', 'copy', 'not-forwarded', VMM, CALL],
  ['vmm-ignores-detach', 'copy', 'pasid-use-after-detach', VMM, /DETACH_IOMMUFD_PT of PASID 1$/],
  ['vmm-ignores-replace', 'copy', 'attachment-out-of-date', VMM, /ATTACH_IOMMUFD_PT of PASID 1$/],
  [
    'vmm-keeps-refused',
    'failed-replace',
    'attachment-out-of-date',
    VMM,
    /ATTACH_IOMMUFD_PT of PASID 1$/,
  ],
  ['device-keeps-translations', 'copy', 'stale-device-tlb', DEVICE, CONFIRM],
  ['device-drops-one-page', 'copy', 'stale-device-tlb', DEVICE, CONFIRM],
];

test('every mistake is in the table', (t) => {
  t.deepEqual(new Set(CAUGHT.map(([bug]) => bug)), new Set(Object.keys(BUGS)));
  t.true(CAUGHT.length >= 25);
});

for (const [bug, scenario, kind, [unit, who], missing] of CAUGHT) {
  test(`${bug}: ${kind}, ${who}`, (t) => {
    const { findings } = watch(scenario, 1, [bug]);
    const [first] = findings;
    t.is(first?.kind, kind);
    t.is(first?.unit, unit);
    t.is(first?.who, who);
    t.regex(first?.missing ?? '', missing);
    t.is(first?.sid, '00:01.0');
    // What relied on it has a history, down to what somebody began.
    const acted = first?.history.filter(({ role }) => role === 'acted') ?? [];
    t.true(acted.length > 0);
    if (first?.change !== '') {
      t.true(first?.history.some(({ role, seq }) => role === 'changed' && seq > 0));
      t.true(first?.history.some(({ role, seq }) => role === 'filled' && seq > 0));
    }
    const lines = findingLines(first!, 100);
    t.true(lines.some((line) => line.includes(`BUG: IOMMU sanitizer: ${kind} by ${who}`)));
    t.true(lines.every((line) => line.length <= 100 || !line.trim().includes(' ')));
  });
}

/** The scenarios in which nobody does wrong, each world once: some are the same one by another name. */
const RIGHT = (Object.keys(SCENARIOS) as ScenarioName[]).filter((name) => {
  const { bugs, twist } = SCENARIOS[name];
  const isCopy = Object.keys(twist).length === 0 && name !== 'copy';
  return bugs.length === 0 && !('hostile' in twist) && !isCopy;
});

for (const name of RIGHT) {
  test(`${name}: nothing to report`, (t) => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { findings, world } = watch(name, seed);
      t.deepEqual(findings, [], `seed ${seed}`);
      const { vms, leftovers } = world.result();
      if (SCENARIOS[name].verified) t.true(vms.every(({ code }) => code === 0));
      t.deepEqual(leftovers, { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
    }
  });
}

test('random worlds: nothing to report', (t) => {
  const random = new Random(SEEDS);
  for (let run = 0; run < RUNS; run++) {
    const name = RIGHT[random.below(RIGHT.length)]!;
    const found = new Findings();
    const seed = random.below(2 ** 31);
    const options = {
      seed,
      vms: 1 + random.below(2),
      procs: 1 + random.below(4),
      guestBytes: 40 * 2 ** 20,
      input: pattern(1 + random.below(90_000)),
      restlessCaches: random.below(2) === 0,
      fiveLevel: random.below(4) === 0,
      sanitize: true,
      listeners: [(r: EventRecord) => found.add(r)],
    };
    const cut = 'powerCut' in SCENARIOS[name].twist ? { powerCut: 1 + random.below(9) } : {};
    const world = new World({ ...inScenario(options, name), ...cut });
    while (world.step());
    t.true(world.done);
    t.deepEqual(found.list, [], `${name}, seed ${seed}`);
  }
});

test('failed-replace: the PASID is blocked, the guest told, and its program fails', (t) => {
  const { findings, world, events } = watch('failed-replace', 3);
  t.deepEqual(findings, []);
  t.is(world.result().vms[0]?.code, 1);
  const told = events.filter(({ def }) => /error_report|detach_hwpt|_bind|unbind/.test(def.name));
  const refused = told.findIndex(({ def }) => def.name === 'vmm:error_report');
  t.regex(String(told[refused]?.values['error']), /ATTACH_IOMMUFD_PT: ENOMEM/);
  const after = told[refused + 1];
  t.is(after?.def.name, 'vmm:vtd_device_detach_hwpt', 'the old table goes before anything else');
  t.is(after?.values['pasid'], 1);
});

test('forgotten-flush: the report is the mistake', (t) => {
  const { findings } = watch('forgotten-flush', 1);
  t.is(findings[0]?.kind, 'missing-invalidation');
  t.is(findings[0]?.who, 'guest kernel (vm0)');
});

test('hostile-guest: the honest guest beside it has its copy, and nobody else is blamed', (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { findings, world } = watch('hostile-guest', seed);
    const { vms, leftovers } = world.result();
    t.deepEqual(
      vms.map(({ code }) => code),
      [7, 0],
    );
    t.deepEqual(leftovers, { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
    const others = findings.filter(({ who }) => who !== 'guest kernel (vm0)');
    t.deepEqual(others, [], `seed ${seed}`);
  }
});

test('a hostile guest: what it does is its own, and neither the host nor an honest guest is blamed', (t) => {
  for (const seed of [1, 2, 3]) {
    const ramBytes = 4 * 2 ** 20;
    const hostile: Guest = (cpu) => hostileGuest(cpu, { ramBytes, seed, operations: 1500 });
    const { rig, vms } = startVms({
      guests: [hostile, undefined],
      input: pattern(9000),
      seed,
      guestBytes: ramBytes,
      rig: { sanitize: true },
    });
    const found = new Findings();
    rig.machine.trace.listen((record) => found.add(record));
    rig.settle();
    rig.sanitizer?.end();
    t.is(vms[1]?.result?.code, 0);
    const others = found.list.filter(({ who }) => who !== 'guest kernel (vm0)');
    t.deepEqual(others, [], `seed ${seed}`);
  }
});

test('a mistake without the sanitizer is told by nobody', (t) => {
  t.deepEqual(watch('copy', 1, ['guest-munmap-no-flush'], false).findings, []);
});

test('the watch changes nothing of what happens', (t) => {
  const [with_, without] = [true, false].map((on) => watch('restless', 5, [], on).world.result());
  t.is(with_!.ns, without!.ns);
  t.deepEqual(with_!.vms, without!.vms);
});
