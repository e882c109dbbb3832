import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import test from 'ava';

const ENTRY = resolve(import.meta.dirname, '../../../vmm/cli/vsva.js');

/** Runs the entry file in a process that believes to be Node `version`. */
function runAs(version: string): { status: number | null; stdout: string; stderr: string } {
  const disguise = `Object.defineProperty(process, 'versions', { value: { node: '${version}' } });`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [`--import=data:text/javascript,${encodeURIComponent(disguise)}`, ENTRY, '--help'],
    { encoding: 'utf8' },
  );
  return { status, stdout, stderr };
}

for (const version of ['14.21.3', '20.20.2', '23.11.0']) {
  test(`Node ${version} gets one line that says what to do`, (t) => {
    const { status, stdout, stderr } = runAs(version);
    t.is(status, 1);
    t.is(stdout, '');
    t.regex(stderr, /^[^\n]+\n$/);
    t.true(stderr.includes(`Node ${version}`));
    t.true(stderr.includes('Node 24 or newer'));
    t.true(stderr.includes('npm ci'));
    t.true(stderr.includes('npm start'));
  });
}

for (const version of ['24.0.0', '100.1.0']) {
  test(`Node ${version} gets past the check`, (t) => {
    const { status, stderr } = runAs(version);
    t.is(status, 0);
    t.is(stderr, '');
  });
}
