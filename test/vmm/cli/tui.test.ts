import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { refused, succeeded, test, vsva } from './processes.ts';

test('without a terminal it prints the plain walkthrough', async (t) => {
  const told = await vsva(['tui', '--mem', '64M']);
  succeeded(t, told);
  t.regex(told.stdout, /^\n1\. The host boots, at 0 ns$/m);
  t.regex(told.stdout, /What is left/);
  t.notRegex(told.stdout, /\u001b/);
});

test('a recording without a terminal is told too', async (t) => {
  const path = join(mkdtempSync(join(tmpdir(), 'vsva-')), 'run.vsva');
  succeeded(t, await vsva(['run', '--quiet', '--mem', '64M', '--trace', path]));
  const told = await vsva(['tui', path]);
  succeeded(t, told);
  t.regex(told.stdout, /What is left/);
  rmSync(dirname(path), { recursive: true });
});

test('a server without a terminal, and a recording that is none, are refused in one line', async (t) => {
  refused(t, await vsva(['tui', 'ws://127.0.0.1:1/']), 2, /on a terminal/);
  refused(t, await vsva(['tui', 'no-such.vsva']), 1, /cannot read no-such.vsva/);
});

test('its help is there without a terminal, and its options are those of run', async (t) => {
  const help = await vsva(['tui', '--help']);
  succeeded(t, help);
  for (const option of ['--mem', '--vms', '--procs', '--seed', '--la57']) {
    t.true(help.stdout.includes(option), option);
  }
});
