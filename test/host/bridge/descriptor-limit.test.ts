/** The limit of open files that the user set, seen through the processes that raise it. */
import { spawnSync } from 'node:child_process';
import test from 'ava';
import { type Ancestor, ownDescriptorLimit } from '../../../host/bridge/descriptor-limit.ts';
import { VSVA } from './programs.ts';

const HARD = 4096;

/** From this process (number of them) up to the first (1). `N` is Node, `s` something else. */
function family(...line: readonly (readonly ['N' | 's', number])[]): number | undefined {
  const people = new Map<number, Ancestor>();
  line.forEach(([kind, soft], index) => {
    const pid = line.length - index;
    people.set(pid, { parent: pid - 1, soft, hard: HARD, isNode: kind === 'N' });
  });
  return ownDescriptorLimit(line.length, (pid) => people.get(pid));
}

test('what Node raised is taken back, also through npm and its shell', (t) => {
  t.is(family(['N', HARD], ['s', 1024]), 1024);
  t.is(family(['N', HARD], ['s', HARD], ['N', HARD], ['s', 256], ['s', 1024]), 256);
});

test('what somebody else raised, or nobody, stays', (t) => {
  t.is(family(['N', HARD], ['s', HARD], ['s', 1024]), HARD);
  t.is(family(['N', HARD], ['s', HARD]), HARD);
  t.is(family(['N', 512], ['s', 1024]), 512);
  t.is(
    ownDescriptorLimit(7, () => undefined),
    undefined,
  );
});

test("a program under exec has the user's soft limit, and the hard one", (t) => {
  const command = `ulimit -S -n 700; hard=$(ulimit -H -n); "$0" ${VSVA} exec -- sh -c 'ulimit -S -n; ulimit -H -n'; echo $hard`;
  const { stdout, stderr } = spawnSync('sh', ['-c', command, process.execPath], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  const [soft, hard, own] = stdout.trim().split('\n');
  t.deepEqual({ soft, hard, stderr }, { soft: '700', hard: own, stderr: '' });
});
