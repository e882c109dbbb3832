/** Domains that enforce cache coherency: snooping in every leaf and in nested PASID entries. */
import test from 'ava';
import { HOST_ECAP } from '../../../../devices/spec/vtd/capabilities.ts';
import { pasidEntry } from '../../../../devices/spec/vtd/pasid.ts';
import { SS_LO } from '../../../../devices/spec/x86/paging.ts';
import { deviceState, entryOf, handleOf, makeWorld, nested, nestParentOf } from './world.ts';

const SC = 1n << 7n;

test('snooping is in the leaves, and above them in the entry of a nested domain', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  t.true(dev.ops.capable(dev, 'enforce-coherency'));
  const parent = nestParentOf(dev);
  t.true(parent.ops.enforceCacheCoherency!(parent));
  world.run(parent.map(0n, 0x5000, 4096, 3));
  let table = parent.secondStage.root;
  for (let level = deviceState(dev).unit.levels; level > 1; level--) {
    const entry = world.machine.root.read(table, 8);
    t.is(entry & BigInt(SS_LO.SNP), 0n, 'only leaves have it');
    table = Number(entry & ~0xfffn);
  }
  t.is(world.machine.root.read(table, 8), 0x5000n | BigInt(SS_LO.R | SS_LO.W | SS_LO.SNP));
  const domain = nested(dev, parent, 0x1000n);
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  t.is(pasidEntry.decode(BigUint64Array.from(entryOf(dev, 5))).PGSNP, 1);
});

test('not unless it is asked for', (t) => {
  const world = makeWorld();
  const dev = world.devs[0]!;
  const domain = nested(dev, nestParentOf(dev), 0x1000n);
  world.run(world.core.attachDevicePasid(domain, dev, 5, handleOf(domain)));
  t.is(pasidEntry.decode(BigUint64Array.from(entryOf(dev, 5))).PGSNP, 0);
});

test('a unit without snoop control cannot, and takes no domain that does', (t) => {
  const unable = makeWorld({ ecap: HOST_ECAP & ~SC }).devs[0]!;
  t.false(unable.ops.capable(unable, 'enforce-coherency'));
  const own = nestParentOf(unable);
  t.false(own.ops.enforceCacheCoherency!(own));
  const world = makeWorld();
  const parent = nestParentOf(world.devs[0]!);
  t.true(parent.ops.enforceCacheCoherency!(parent));
  t.throws(() => parent.requireCompatible(deviceState(unable).unit), { message: /snooping/ });
});
