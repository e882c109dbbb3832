import test from 'ava';

import { parseCommandLine } from '../../guest/options.ts';

test('the command line has defaults and refuses what it cannot do', (t) => {
  t.deepEqual(parseCommandLine(''), {
    name: 'vm0',
    processes: 1,
    seed: 0,
    la57: false,
    program: 'copy',
    passThrough: false,
    bugs: new Set(),
  });
  t.deepEqual(
    parseCommandLine(
      ' name=vm1 procs=3 seed=42 la57=1 iommu=pt quiet program=leave bug=guest-munmap-no-flush,none',
    ),
    {
      name: 'vm1',
      processes: 3,
      seed: 42,
      la57: true,
      program: 'leave',
      passThrough: true,
      bugs: new Set(['guest-munmap-no-flush']),
    },
  );
  for (const line of ['procs=0', 'procs=x', 'procs=9999', 'seed=-1', 'la57=2', 'program=worm']) {
    t.throws(() => parseCommandLine(line), { message: /EINVAL/ }, line);
  }
});
