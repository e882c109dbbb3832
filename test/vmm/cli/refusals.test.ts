// What the command line refuses: one clear line, the exit code, and nothing lost.
import { existsSync, readdirSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { fileOf, MIB, MINUTES, refused, succeeded, test, vsva } from './processes.ts';

const MISUSES: [what: string, args: string[], message: RegExp][] = [
  ['an unknown option', ['run', '--bogus'], /unknown option '--bogus'/],
  ['a misspelt option', ['run', '--sed', '1'], /unknown option '--sed'.*--seed/],
  ['an unknown command', ['walk'], /unknown command 'walk'|too many arguments/],
  ['a second file', ['run', '-', '-'], /too many arguments/],
  ['an option without its value', ['run', '--out'], /--out <OUT>.* argument missing/],
  ['a seed that is none', ['run', '--seed', 'x'], /--seed <N>.*'x'.*whole number/],
  ['no machine at all', ['run', '--vms', '0'], /--vms <N>.*from 1 to/],
  ['too many machines', ['run', '--vms', '32'], /--vms <N>.*from 1 to 31/],
  ['a memory size that is none', ['run', '--mem', 'big'], /--mem <SIZE>.*'big'.*256M/],
  ['two kinds of output', ['run', '--quiet', '--json'], /'--quiet'.*'--json'/],
  ['steps without a terminal', ['run', '--step'], /--step.*not a terminal/],
  ['a copy to standard output', ['run', '--out', '-'], /--out needs a file/],
  ['a recording to standard output', ['run', '--trace', '-'], /--trace needs a file/],
  ['more host than there can be', ['run', '--mem', '4G', '--vms', '3'], /8 GiB.*--mem or --vms/],
];

for (const [what, args, message] of MISUSES) {
  test.serial(`refused with 2: ${what}`, async (t) => {
    refused(t, await vsva(args), 2, message);
  });
}

test.serial('an unreadable FILE is refused', async (t) => {
  const missing = join(t.context.folder, 'missing');
  refused(t, await vsva(['run', missing]), 1, /cannot read .*missing: no such file/);
  refused(t, await vsva(['run', t.context.folder]), 1, /cannot read .*: it is a directory/);
});

test.serial('an OUT or a trace that cannot be written is refused before the run', async (t) => {
  const { folder } = t.context;
  const { path, bytes } = fileOf(t, 100);
  for (const option of ['--out', '--trace']) {
    const nowhere = join(folder, 'no', 'such');
    refused(t, await vsva(['run', path, option, nowhere]), 1, /cannot write .*no such file/);
    refused(t, await vsva(['run', path, option, folder]), 1, /cannot write .*directory/);
  }
  // One of four names is taken by a directory: the other three are not left behind.
  const taken = await vsva([
    'run',
    '-',
    '--procs',
    '4',
    '--out',
    join(folder, '..', 'nowhere', 'x'),
  ]);
  refused(t, taken, 1, /cannot write .*x\.vm0\.p0: no such file/);
  refused(t, await vsva(['run', path, '--trace', path]), 2, /--trace would overwrite the file/);
  const both = join(folder, 'both');
  refused(
    t,
    await vsva(['run', path, '--trace', both, '--out', both]),
    2,
    /--trace and --out would write the same file/,
  );
  t.deepEqual(readdirSync(folder), ['file']);
  t.true(readFileSync(path).equals(bytes));
});

test.serial(
  'too little guest memory: told how much is needed and which option gives it',
  async (t) => {
    t.timeout(3 * MINUTES);
    const { path } = fileOf(t, 0);
    truncateSync(path, 64 * MIB);
    const out = join(t.context.folder, 'out');
    const ended = await vsva(['run', path, '--mem', '64M', '--out', out]);
    refused(t, ended, 2, /67108864 bytes need \d+ MiB .*has 64 MiB: raise it with --mem \d+M/);
    t.false(existsSync(out));

    // What is advised is enough.
    truncateSync(path, 10 * MIB);
    const small = await vsva(['run', path, '--mem', '4M']);
    const advice = /--mem (\d+M)/.exec(small.stderr)?.[1] ?? '';
    t.not(advice, '');
    succeeded(t, await vsva(['run', path, '--quiet', '--mem', advice]));
  },
);
