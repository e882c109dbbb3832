import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { Clients } from './clients.ts';

const clients = new Clients();
test.after.always(() => {
  clients.remove();
});

test('instructions on device memory do what the processor does on ordinary memory', (t) => {
  const preload = fileURLToPath(new URL('../../../host/bridge/preload/', import.meta.url));
  const sources = ['cpu.c', 'decode.c', 'vectors.c'].map((name) => preload + name);
  const tester = fileURLToPath(new URL('instructions.c', import.meta.url));
  const program = clients.compile('instructions', [tester, ...sources], `-I${preload}`);
  const { status, stdout, stderr } = spawnSync(program, { encoding: 'utf8', timeout: 60_000 });
  t.is(stderr, '');
  t.regex(stdout, /, 0 differ$/m);
  t.is(status, 0);
});
