/** What users make takes of the kernel's memory, which ends. */
import test from 'ava';
import { KernelMemory } from '../../../../host/kernel/kernel-memory.ts';
import { Client } from './client.ts';
import { allow } from './ioas-client.ts';
import { makeWorld } from './world.ts';

test('all or nothing, with the values in the reason', (t) => {
  const memory = new KernelMemory(10);
  memory.take(9, 'areas');
  t.throws(() => memory.take(2, 'areas'), {
    message: 'ENOMEM: 2 more (areas): the kernel has 9 things of its users, and takes 10',
  });
  t.is(memory.taken, 9);
  memory.take(1, 'areas');
  memory.give(10);
  t.is(memory.taken, 0);
});

test('objects, areas and allowed ranges: ENOMEM at the limit, and room again after', (t) => {
  const { kernel, ...world } = makeWorld({ kernel: { memory: 20 } });
  const user = world.user();
  const client = new Client(user);
  const ioas = client.ioas();
  const buffer = user.map(0x1000);
  const ranges = (count: number): [bigint, bigint][] =>
    Array.from({ length: count }, (_, n) => [BigInt(n) << 20n, (BigInt(n) << 20n) | 0xffffn]);

  t.is(allow(client, ioas, ranges(19)), 'OK');
  t.is(kernel.memory.taken, 20);
  t.is(client.mapAnywhere(ioas, buffer, 0x1000), 'ENOMEM');
  t.is(allow(client, ioas, ranges(1)), 'ENOMEM', 'the old list is there until the new one is');
  t.is(kernel.memory.taken, 20);
  t.is(allow(client, ioas, []), 'OK');
  t.is(allow(client, ioas, ranges(20)), 'ENOMEM');
  t.is(kernel.memory.taken, 1);

  for (let n = 0; n < 19; n++) t.is(typeof client.mapAnywhere(ioas, buffer, 0x1000), 'bigint');
  t.is(client.mapAnywhere(ioas, buffer, 0x1000), 'ENOMEM');
  t.throws(() => client.ioas(), { message: /ENOMEM/ });
  user.process.kill();
  world.run(user.process.wait());
  t.is(kernel.memory.taken, 0);
});
