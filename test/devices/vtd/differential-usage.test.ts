import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const PROGRAM = fileURLToPath(new URL('differential.ts', import.meta.url));

function run(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

test('--help tells the usage; what there is not is refused with it', (t) => {
  const help = run('--help');
  t.is(help.status, 0);
  t.regex(help.stdout, /^usage: npm run differential/);
  for (const wrong of [['--bogus'], ['--requests', 'many'], ['--seed', '1.5']]) {
    t.deepEqual(run(...wrong), { status: 2, stdout: '', stderr: help.stdout });
  }
});
