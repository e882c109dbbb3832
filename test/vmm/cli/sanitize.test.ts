// The sanitizer on the command line: for the project's own programs, and for real ones.

import { readFileSync } from 'node:fs';
import type { ReportJson } from '../../../vmm/cli/report.ts';
import { BUGS } from '../../../vmm/scenario/bugs.ts';
import { SCENARIOS } from '../../../vmm/scenario/scenarios.ts';
import { ACCELERATOR, Clients } from '../../host/bridge/clients.ts';
import { fileOf, MINUTES, succeeded, test, vsva } from './processes.ts';

const clients = new Clients();
test.after.always(() => {
  clients.remove();
});

test.serial('--bug list and --scenario list name everything, one line each', async (t) => {
  for (const [option, all] of [
    ['--bug', BUGS],
    ['--scenario', SCENARIOS],
  ] as const) {
    const ended = await vsva(['run', option, 'list']);
    succeeded(t, ended);
    const names = ended.stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/\s/)[0]);
    t.deepEqual(names, Object.keys(all));
    t.is((await vsva(['run', option, 'none'])).status, 2);
  }
});

test.serial('a mistake is reported on standard error, and the exit code is 1', async (t) => {
  t.timeout(2 * MINUTES);
  const { path } = fileOf(t, 20_000);
  const ended = await vsva([
    'run',
    path,
    '--json',
    '--mem',
    '32M',
    '--bug',
    'guest-munmap-no-flush',
  ]);
  t.is(ended.status, 1);
  t.regex(ended.stderr, /BUG: IOMMU sanitizer: missing-invalidation by guest kernel \(vm0\)/);
  t.regex(ended.stderr, /vsva: 1 IOMMU sanitizer report\n$/);
  const { findings = [] } = JSON.parse(ended.stdout) as ReportJson;
  t.is(findings.length, 1);
  t.is(findings[0]?.kind, 'missing-invalidation');
  t.true((findings[0]?.history.length ?? 0) > 0);
});

test.serial('without the sanitizer nobody tells, and the walkthrough has it on', async (t) => {
  t.timeout(2 * MINUTES);
  const { path } = fileOf(t, 20_000);
  const run = ['run', path, '--mem', '32M', '--bug', 'guest-munmap-no-flush'];
  t.is((await vsva([...run, '--quiet', '--no-sanitize'])).status, 0);
  t.is((await vsva(run)).status, 1);
});

test.serial('a scenario by name, and caches that evict and prefetch by --restless', async (t) => {
  t.timeout(2 * MINUTES);
  const { path } = fileOf(t, 20_000);
  const run = ['run', path, '--json', '--sanitize', '--mem', '32M'];
  const failed = await vsva([...run, '--scenario', 'failed-replace']);
  t.is(failed.status, 0, failed.stderr);
  const told = await vsva([...run, '--scenario', 'forgotten-flush']);
  t.is(told.status, 1);
  t.is((JSON.parse(told.stdout) as ReportJson).findings?.length, 1);
  const walks: number[] = [];
  for (const option of [[], ['--restless']]) {
    const trace = `${path}.${walks.length}.jsonl`;
    const ended = await vsva([...run, ...option, '--trace', trace]);
    t.is(ended.status, 0, ended.stderr);
    t.deepEqual((JSON.parse(ended.stdout) as ReportJson).findings, []);
    const stats = readFileSync(trace, 'utf8')
      .split('\n')
      .findLast((line) => line.includes('"vtd:stats"') && line.includes('"host"'));
    walks.push((JSON.parse(stats ?? '{}') as { walks: number }).walks);
  }
  t.true(walks[1]! > walks[0]!, walks.join());
});

/** A real program that has the device copy, unmaps what it copied, and goes on. */
const PROGRAM = `
  int main(void) {
    static struct dsa dsa;
    open_dsa(&dsa, "/dev/vfio/devices/vfio0");
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct record *record = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const uint64_t iova = map_at(&dsa, p, 8192, 1), done = map_at(&dsa, record, 4096, 1);
    CHECK(copy(&dsa, record, done, iova, iova + 4096, 64) == 1);
    CHECK(unmap_at(&dsa, iova, 8192) == 0);
    return 0;
  }`;

test.serial('a real program: no report, and the report of a mistake of the kernel', async (t) => {
  t.timeout(3 * MINUTES);
  const program = clients.build('sanitized', ACCELERATOR, PROGRAM);
  const clean = await vsva(['exec', '--sanitize', '--', program]);
  t.is(clean.stderr, '');
  t.is(clean.status, 0);
  for (const [bug, kind] of [
    ['host-unmap-no-flush', 'missing-invalidation'],
    ['host-flush-no-device-tlb', 'no-device-tlb-invalidation'],
    ['host-unmap-unpins-first', 'freed-while-mapped'],
  ] as const) {
    const caught = await vsva(['exec', '--bug', bug, '--', program]);
    t.is(caught.status, 1);
    t.regex(caught.stderr, new RegExp(`BUG: IOMMU sanitizer: ${kind} by host kernel`), bug);
  }
});
