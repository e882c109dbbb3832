import test from 'ava';

import {
  CC_GRANULARITY,
  ccDesc,
  PASID_CACHE_GRANULARITY,
  pasidCacheDesc,
} from '../../../devices/spec/vtd/invalidation.ts';
import { REG } from '../../../devices/spec/vtd/registers.ts';
import { InvalidationQueue } from '../../../guest/iommu/qi.ts';
import { UnitRegisters } from '../../../guest/iommu/registers.ts';
import type { Task } from '../../../guest/task.ts';
import { Bench } from '../machine/bench.ts';
import { UNIT_BASE } from '../machine/machine.ts';

function queue(): { bench: Bench; qi: InvalidationQueue } {
  const bench = new Bench();
  const qi = new InvalidationQueue(bench.core, new UnitRegisters(UNIT_BASE));
  bench.run(qi.enable());
  return { bench, qi };
}

const CC_GLOBAL = ccDesc({ granularity: CC_GRANULARITY.GLOBAL });

test('the queue is 256 descriptors of 256 bits', (t) => {
  const { bench } = queue();
  t.is(bench.machine.unit.read(REG.IQA, 8) & 0xfffn, 0x801n);
});

test('a submission ends in its own wait that writes 2 to its slot', (t) => {
  const { bench, qi } = queue();
  bench.run(qi.submit([CC_GLOBAL]));
  const [cc, wait] = bench.machine.unit.log;
  t.is(cc!.qw0, 0x11n);
  t.is(wait!.qw0, 0x0000_0002_0000_0025n);
  t.is(bench.machine.unit.read(REG.IQT, 4), 64n);
  bench.run(qi.submit([CC_GLOBAL], true));
  t.is(bench.machine.unit.log[3]!.qw0, 0x0000_0002_0000_00a5n);
});

test('slots come back: more submissions than the queue is long', (t) => {
  const { bench, qi } = queue();
  for (let i = 0; i < 300; i++) bench.run(qi.submit([CC_GLOBAL]));
  t.is(bench.machine.unit.log.length, 600);
  t.is(bench.machine.unit.read(REG.IQT, 4), BigInt((600 % 256) * 32));
});

test('a refused descriptor is EINVAL, and the queue goes on', (t) => {
  const { bench, qi } = queue();
  const bad = pasidCacheDesc({ granularity: 2, did: 1, pasid: 5 });
  t.throws(() => bench.run(qi.submit([bad])), { message: /EINVAL.*0x500010027/ });
  const granularity = PASID_CACHE_GRANULARITY.PASID;
  bench.run(qi.submit([pasidCacheDesc({ granularity, did: 1, pasid: 5 })]));
  t.is(bench.machine.unit.since(0).at(-1)![0], 0x0000_0005_0001_0017n);
});

test('a timed-out invalidation is repeated, and given up in the end', (t) => {
  const { bench, qi } = queue();
  bench.machine.unit.timeouts = 2;
  bench.run(qi.submit([CC_GLOBAL]));
  t.is(bench.machine.unit.since(0).length, 3);
  bench.machine.unit.timeouts = 100;
  t.throws(() => bench.run(qi.submit([CC_GLOBAL])), { message: /ETIMEDOUT/ });
});

test('each descriptor leaves its cause at its slot', (t) => {
  const { bench, qi } = queue();
  const base = Number(bench.machine.unit.read(REG.IQA, 8) & ~0xfffn);
  bench.run(
    (function* (): Task {
      yield* qi.submit([CC_GLOBAL]);
    })(),
  );
  const [submitted] = bench.machine.named('guest:qi_submit');
  t.is(submitted!.values['descriptor'], 'cc_inv global');
  bench.machine.trace.cause = 0;
  bench.machine.trace.adopt('vm0', base);
  t.is(bench.machine.trace.cause, submitted!.seq);
});
