import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import type { SuiteResult, SuiteRun } from './suite.ts';
import { runSuite } from './suite.ts';

const HEAD = 'echo "TAP version 13"; echo 1..3; echo "#  RUN           f.a ..."; echo ok 1 f.a\n';
const LIST = `if [ "$1" = -l ]; then echo '# FIXTURE VARIANT TEST'; printf '%-20s %-25s %s\\n' f '' a '' '' b '' '' c; exit 4; fi\n`;

const LIST_BEGIN = 'if [ "$1" = -l ]';
const NO_LIST = `if [ "$1" = -l ]; then exit 0; fi\n`;

/** Runs a shell script in place of a selftest. */
async function suite(
  t: ExecutionContext,
  script: string,
  changes: Partial<SuiteRun> = {},
): Promise<SuiteResult> {
  const directory = mkdtempSync(join(tmpdir(), 'conformance-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const program = join(directory, 'program');
  writeFileSync(program, `#!/bin/sh\n${script.startsWith(LIST_BEGIN) ? '' : NO_LIST}${script}`);
  chmodSync(program, 0o755);
  return runSuite({
    name: 'f',
    program,
    release: '6.12',
    only: undefined,
    timeoutMs: 20_000,
    shortage: undefined,
    signal: new AbortController().signal,
    progress: () => undefined,
    command: [],
    ...changes,
  });
}

function outcomes({ cases }: SuiteResult): string[] {
  return cases.map(({ name, outcome }) => `${name} ${outcome}`);
}

test('all cases of a program that ends well', async (t) => {
  const result = await suite(t, `${HEAD}echo ok 2 f.b; echo "ok 3 f.c # SKIP not here"`);
  t.deepEqual(outcomes(result), ['f.a pass', 'f.b pass', 'f.c skip']);
  t.is(result.cases[2]!.reason, 'not here');
});

test('a program that dies half-way loses no result, and names what it did not run', async (t) => {
  const script = `${LIST}${HEAD}echo "#  RUN           f.b ..."; echo boom >&2; kill -SEGV $$`;
  const result = await suite(t, script);
  t.deepEqual(outcomes(result), ['f.a pass', 'f.b fail', 'f.c fail']);
  t.regex(result.cases[1]!.reason, /did not finish: the program ended with SIGSEGV \(boom\)/);
  t.regex(result.cases[2]!.reason, /never ran/);
});

test('without a listing the lost cases have their numbers', async (t) => {
  const result = await suite(t, `${HEAD}exit 0`);
  t.deepEqual(outcomes(result), ['f.a pass', 'case 2 fail', 'case 3 fail']);
});

test('a program that says nothing any more is ended', async (t) => {
  const result = await suite(t, `${HEAD}sleep 60`, { timeoutMs: 1000 });
  t.deepEqual(outcomes(result), ['f.a pass', 'case 2 fail', 'case 3 fail']);
  t.regex(result.cases[1]!.reason, /ended after 1 s without a word/);
});

test('an interrupt keeps what is known', async (t) => {
  const controller = new AbortController();
  const script = `${HEAD}echo "#  RUN           f.b ..."; sleep 60`;
  const progress = (_: number, __: number | undefined, name: string): void => {
    if (name === 'f.b') controller.abort();
  };
  const result = await suite(t, script, { signal: controller.signal, progress });
  t.deepEqual(outcomes(result), ['f.a pass', 'f.b fail', 'case 3 fail']);
  t.regex(result.cases[1]!.reason, /interrupted/);
});

test('no plan, a program that is not there, and a bad end are failures', async (t) => {
  t.deepEqual(outcomes(await suite(t, 'exit 0')), ['case 1 fail']);
  t.deepEqual(outcomes(await suite(t, '', { program: '/nowhere' })), ['case 1 fail']);
  const end = await suite(t, `${HEAD}echo ok 2 f.b; echo ok 3 f.c; exit 77`);
  t.deepEqual(outcomes(end), ['f.a pass', 'f.b pass', 'f.c pass', 'exit fail']);
});

test('a result beyond the plan and a plan beyond the listing are failures', async (t) => {
  const more = await suite(t, `${HEAD}for n in 2 3 4; do echo ok $n f.x; done`);
  t.deepEqual(outcomes(more).slice(3), ['4 f.x fail']);
  const list = LIST.replace(" '' '' c", '');
  const fewer = await suite(t, `${list}${HEAD}echo ok 2 f.b; echo ok 3 f.c`);
  t.deepEqual(outcomes(fewer).slice(3), ['plan fail']);
});

test('cases that are chosen are asked for by name', async (t) => {
  const script = `${LIST}echo 1..$(($# / 2)); echo "ok 1 $2"; echo "ok 2 $4"`;
  const result = await suite(t, script, { only: /[ac]$/ });
  t.deepEqual(outcomes(result), ['f.a pass', 'f.c pass']);
  t.deepEqual((await suite(t, script, { only: /zzz/ })).cases, []);
});

test('want of huge pages excuses only a case that fails for it', async (t) => {
  const failing = (name: string, why: string): string =>
    `echo 1..1; echo "#  RUN           ${name} ..."; echo "# ${why}"; echo not ok 1 ${name}`;
  const shortage = 'none';
  const huge = await suite(t, failing('f.x_huge.y', 'Expected MAP_FAILED != buf'), { shortage });
  t.deepEqual(outcomes(huge), ['f.x_huge.y skip']);
  t.is(huge.cases[0]!.reason, 'none');
  const wrong = await suite(t, failing('f.x_huge.y', 'Expected 0 == rc'), { shortage });
  t.deepEqual(outcomes(wrong), ['f.x_huge.y fail']);
  const small = await suite(t, failing('f.x.y', 'Expected MAP_FAILED != buf'), { shortage });
  t.deepEqual(outcomes(small), ['f.x.y fail']);
});
