import { createHash } from 'node:crypto';
import { stripVTControlCharacters } from 'node:util';
import test from 'ava';
import { guest } from '../../../trace/catalogue/guest.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { Tally } from '../../../trace/story/counts.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { makeReport, type Report, summaryLines } from '../../../vmm/cli/report.ts';
import { SCENARIOS, type Scenario } from '../../../vmm/scenario/scenarios.ts';

const CLEAN = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

const input = new TextEncoder().encode('what the device copies');
const other = new TextEncoder().encode('what the device copied');

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Case {
  path?: string;
  tally?: Tally;
  /** By VM, then process. */
  outputs?: (Uint8Array | null)[][];
  codes?: number[];
  crash?: unknown;
  scenario?: Scenario;
  leftovers?: typeof CLEAN;
}

function reportOf({
  path = 'in.txt',
  tally = new Tally(),
  outputs,
  codes,
  leftovers,
  scenario,
  ...more
}: Case): Report {
  const rows = outputs ?? [[input]];
  return makeReport({
    path,
    input,
    options: { vms: rows.length, procs: rows[0]!.length, seed: 7, scenario },
    tally,
    result: {
      vms: rows.map((row, i) => ({ code: codes?.[i] ?? 0, outputs: row, vmExits: 1, ...more })),
      leftovers: leftovers ?? CLEAN,
      ns: 12_345_678,
    },
  });
}

const summary = (report: Report): string[] => summaryLines(report).map(stripVTControlCharacters);

test('the copies equal, the programs content, nothing left: verified', (t) => {
  const report = reportOf({});
  t.true(report.verified && report.clean);
  t.deepEqual(report.outputs, [input]);
  t.deepEqual(report.json.sha256, { input: hashOf(input), output: hashOf(input) });
  t.is(report.json.file, 'in.txt');
  t.is(report.json.bytes, input.length);
  t.is(report.json.virtualNs, 12_345_678);
});

test('the JSON has the promised keys, in their order', (t) => {
  const { json } = reportOf({ path: '-' });
  const { file, counts } = json;
  t.is(file, '<stdin>');
  t.deepEqual(Object.keys(json), [
    'file',
    'bytes',
    'sha256',
    'pasids',
    'counts',
    'virtualNs',
    'leftovers',
  ]);
  t.deepEqual(Object.keys(counts), [
    'binds',
    'attaches',
    'replaces',
    'detaches',
    'pageRequests',
    'invalidations',
    'translations',
    'iotlbHits',
    'faults',
    'vmExits',
    'ioctls',
  ]);
  t.deepEqual(Object.keys(json.leftovers), ['objects', 'pins', 'pasidEntries', 'fds']);
});

test('one byte that differs, in any copy, is not verified, and its hash is shown', (t) => {
  for (const outputs of [
    [[other]],
    [
      [input, input],
      [input, other],
    ],
  ]) {
    const report = reportOf({ outputs });
    t.false(report.verified);
    t.true(report.clean);
    t.is(report.json.sha256.output, hashOf(other));
  }
});

test('the first copy that differs is the one shown', (t) => {
  const third = new TextEncoder().encode('a third thing');
  t.is(reportOf({ outputs: [[input, other, third]] }).json.sha256.output, hashOf(other));
});

test('a copy that is missing is not verified', (t) => {
  const report = reportOf({ outputs: [[input, null]] });
  t.false(report.verified);
  t.is(report.json.sha256.output, '');
  t.true(summary(report).some((line) => line.includes('no output (copy)')));
});

test('a guest that failed is not verified, whatever its bytes', (t) => {
  t.false(reportOf({ codes: [1] }).verified);
});

test('a scenario without copies to verify: any end is good but that of code that failed', (t) => {
  const scenario = SCENARIOS['power-cut'];
  t.true(reportOf({ scenario, codes: [137], outputs: [[null]] }).verified);
  const crash = new Error('a mistake of ours');
  t.false(reportOf({ scenario, codes: [255], outputs: [[null]], crash }).verified);
});

test('anything left over is told and not good', (t) => {
  for (const what of ['objects', 'pins', 'pasidEntries', 'fds'] as const) {
    const report = reportOf({ leftovers: { ...CLEAN, [what]: 3 } });
    t.true(report.verified);
    t.false(report.clean);
    const lines = summary(report);
    t.true(lines[1]!.startsWith('NOT VERIFIED. '));
    t.true(lines.at(-1)!.includes(`3 ${what}`));
  }
});

test('the summary says what was done', (t) => {
  const tally = new Tally();
  const trace = new Tracer(() => 0);
  trace.listen((record) => {
    tally.add(record);
  });
  for (const pid of [1, 2]) {
    trace.emit(guest.bind, { vm: 'vm0', pid, rid: '00:01.0', pasid: pid, pgd: 0 });
  }
  trace.emit(host.attachPasid, { device: 'd', pasid: 1, domain: 'x', hwpt: 0 });
  const report = reportOf({ tally });
  t.deepEqual(report.json.pasids, [1, 2]);
  t.deepEqual(summary(report), [
    '',
    `Verified. in.txt: ${input.length} bytes, 1 copy by the device`,
    `  sha256    ${hashOf(input)}, the same at both ends`,
    '  PASIDs    1, 2',
    '  guest     2 binds, 0 VM exits',
    '  host      0 ioctls; PASID: 1 attaches, 0 replaces, 0 detaches',
    '  VT-d      0 translations, 0 IOTLB hits, 0 page requests, 0 faults recorded',
    '            invalidations: none',
    '  time      12.3 ms of virtual time, seed 7',
    '  left over 0 objects, 0 pins, 0 pasidEntries, 0 fds',
  ]);
});

test('the summary keeps to 100 columns, and a path cannot play tricks with the terminal', (t) => {
  const tally = new Tally();
  for (let i = 0; i < 500; i++) tally.pasids.push({ vm: 'vm0', pid: i, pasid: 1_000_000 + i });
  for (let i = 0; i < 40; i++) tally.counts.invalidations[`descriptor_kind_${i}`] = 123_456;
  Object.assign(tally.counts, { ioctls: 1e15, attaches: 1e15, replaces: 1e15, detaches: 1e15 });
  const path = `${'a long path '.repeat(20)}\u001b[31m\n\u0007red`;
  const report = reportOf({ tally, path, outputs: [[input, other]] });
  const lines = summary(report);
  for (const line of lines) {
    t.true(line.length <= 100, line);
    t.notRegex(line, /\p{Cc}/u);
  }
  t.true(lines.join(' ').includes('1000499'));
  t.true(lines.join(' ').includes('descriptor_kind_39'));
  t.is(report.json.file, path, 'JSON has the path as it is');
});
