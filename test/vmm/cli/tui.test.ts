import { refused, succeeded, test, vsva } from './processes.ts';

test('without a terminal it says in one line what to do instead', async (t) => {
  refused(t, await vsva(['tui']), 2, /needs a terminal.*`vsva run`/);
});

test('its help is there without a terminal, and its options are those of run', async (t) => {
  const help = await vsva(['tui', '--help']);
  succeeded(t, help);
  for (const option of ['--mem', '--vms', '--procs', '--seed', '--la57']) {
    t.true(help.stdout.includes(option), option);
  }
});
