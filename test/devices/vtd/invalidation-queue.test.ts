import type { Descriptor } from '../../../devices/spec/vtd/invalidation.ts';
import { Bench, SID } from './bench.ts';
import { rule } from './rule.ts';

const IQE = 0x10;
const ICE = 0x20;
const ITE = 0x40;
const TIMEOUT = 10_000_000;
const STATUS = 0x8000n;

const waitSw = (data: number, flags = 0n): bigint => 0x25n | flags | (BigInt(data) << 32n);
const FENCE = 0x40n;
const DRAIN = 0x80n;
const devTlb = (sid: number): bigint => 3n | (BigInt(sid) << 32n);
const pasidDevTlb = (sid: number, pasid: number, mip = 0): bigint =>
  8n | (BigInt(mip) << 4n) | (BigInt(sid) << 16n) | (BigInt(pasid) << 32n);

function ready(options: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  const bench = new Bench(options);
  bench.setRoot();
  bench.enableQueue();
  return bench;
}

const status = (bench: Bench, at = STATUS): number => bench.memory.read32(Number(at));
const iqh = (bench: Bench): number => bench.r32(0x80);
const iqei = (bench: Bench): number => bench.r32(0xb0) & 0xf;

rule('IQ-WAIT-1', 'a wait writes its status; nothing happens inside the register write', (t) => {
  const bench = ready();
  bench.put(waitSw(0xdead_beef), STATUS);
  bench.ring();
  t.is(status(bench), 0);
  t.is(iqh(bench), 0);
  bench.clock.run(1000);
  t.is(status(bench) >>> 0, 0xdead_beef);
  t.is(iqh(bench), 32);
  t.is(bench.r32(0x9c), 0, 'no IF');
});

rule(
  ['IQ-1', 'IQ-2'],
  'the queue wraps, works with translation off, and stands while it is disabled',
  (t) => {
    const bench = ready();
    for (let i = 1; i <= 300; i++) {
      bench.submit([[waitSw(i), STATUS]], 300);
      if (status(bench) !== i) t.fail(`wait ${i}`);
    }
    t.is(iqh(bench), (300 * 32) % 4096);
    bench.gcmd(0x0400_0000, false);
    t.is(iqh(bench), 0);
    bench.put(waitSw(999), STATUS);
    bench.ring();
    bench.clock.run(10_000);
    t.is(status(bench), 300);
    t.is(bench.unit.stats.descriptors, 300);
  },
);

rule(
  'IQ-WAIT-1',
  'IF raises IWC and its message; several waits, one message until cleared',
  (t) => {
    const bench = ready();
    bench.w32(0xa4, 0x55);
    bench.w32(0xa8, 0xfee0_0000);
    bench.w32(0xa0, 0);
    bench.submit([
      [0x15n, 0n],
      [0x15n, 0n],
    ]);
    t.is(bench.r32(0x9c), 1);
    t.deepEqual(bench.msis, [{ address: 0xfee0_0000, data: 0x55 }]);
    bench.w32(0x9c, 1);
    t.is(bench.r32(0x9c), 0);
  },
);

rule('IQ-WAIT-3', 'PD with PDS, and a wait whose status address is nowhere', (t) => {
  const bench = ready();
  bench.submit([
    [waitSw(3, DRAIN), STATUS],
    [waitSw(4), 1n << 45n],
    [waitSw(5), STATUS + 4n],
  ]);
  t.is(status(bench), 3);
  t.is(status(bench, STATUS + 4n), 5);
});

interface Bad {
  name: string;
  qw0: bigint;
  qw1?: bigint;
  iqei: number;
  options?: ConstructorParameters<typeof Bench>[0];
}

const bad: Bad[] = [
  { name: 'type 0', qw0: 0n, iqei: 3 },
  { name: 'type 10', qw0: 0xan, iqei: 3 },
  { name: 'type 0x15 (upper bits)', qw0: 0x205n, iqei: 3 },
  { name: 'cc G=0', qw0: 0x01n, iqei: 4 },
  { name: 'iotlb G=0', qw0: 0x02n, iqei: 4 },
  { name: 'iotlb page without PSI', qw0: 0x32n, iqei: 4, options: { cap: { PSI: 0 } } },
  { name: 'iotlb AM beyond MAMV', qw0: 0x32n, qw1: 19n, iqei: 4 },
  { name: 'pc G=2', qw0: 0x27n, iqei: 4 },
  { name: 'p_iotlb G=1', qw0: 0x16n, iqei: 4 },
  { name: 'reserved bit of qw1', qw0: 0x11n, qw1: 1n, iqei: 4 },
  { name: 'wait with PD, no PDS', qw0: 0xa5n, iqei: 4, options: { ecap: { PDS: 0 } } },
  { name: 'dev_tlb without DT', qw0: 3n, iqei: 3, options: { ecap: { DT: 0, PRS: 0 } } },
  { name: 'pgrp without PRS', qw0: 9n, iqei: 3, options: { ecap: { PRS: 0 } } },
];

for (const { name, qw0, qw1 = 0n, iqei: code, options } of bad) {
  rule(
    ['IQ-IQE-1', 'IQ-IQE-4'],
    `IQE ${code}: ${name}; the head stays, a corrected descriptor goes on`,
    (t) => {
      const bench = ready(options);
      bench.w32(0x3c, 9);
      bench.w32(0x38, 0);
      bench.put(waitSw(1), STATUS);
      const at = bench.put(qw0, qw1);
      bench.put(waitSw(3), STATUS);
      bench.ring();
      bench.clock.run(5000);
      t.is(status(bench), 1);
      t.is(iqh(bench), 32);
      t.is(bench.r32(0x34), IQE);
      t.is(iqei(bench), code);
      t.is(bench.msis.length, 1);
      bench.ring();
      bench.clock.run(5000);
      t.is(iqh(bench), 32, 'a new tail does not start it');
      bench.tables.write(at, waitSw(2));
      bench.tables.write(at + 8n, STATUS + 4n);
      bench.w32(0x34, IQE);
      bench.clock.run(5000);
      t.is(bench.r32(0x34), 0);
      t.is(iqh(bench), 96);
      t.is(status(bench), 3);
      t.is(status(bench, STATUS + 4n), 2);
    },
  );
}

rule('IQ-IQE-2', 'IQE: reserved words of a 256-bit descriptor', (t) => {
  const bench = ready();
  const at = bench.put(0x11n);
  bench.tables.write(at + 24n, 1n);
  bench.ring();
  bench.clock.run(1000);
  t.is(iqei(bench), 4);
});

rule('IQ-IQE-3', 'IQE of the tail: out of range 1, misaligned 6; of the fetch 2', (t) => {
  const bench = ready();
  bench.w32(0x88, 4096);
  bench.clock.run(1000);
  t.is(iqei(bench), 1);
  bench.w32(0x34, IQE);
  bench.clock.run(1000);
  t.is(bench.r32(0x34), IQE, 'not mended: it stops again');
  bench.w32(0x88, 0x30);
  bench.w32(0x34, IQE);
  bench.clock.run(1000);
  t.is(iqei(bench), 6);
  const far = new Bench();
  far.setRoot();
  far.w64(0x90, (1n << 40n) | (1n << 11n));
  far.gcmd(0x0400_0000, true);
  far.w32(0x88, 32);
  far.clock.run(1000);
  t.is(iqei(far), 2);
});

rule(
  ['IQ-IQE-3', 'IQ-3'],
  'IQE of the mode: 128-bit queue in scalable mode 5, reserved TTM 7',
  (t) => {
    const bench = new Bench();
    bench.setRoot();
    bench.enableQueue(16);
    bench.submit([[0x11n, 0n]]);
    t.is(iqei(bench), 5);
    const other = new Bench();
    other.setRoot(2);
    other.enableQueue();
    other.submit([[0x11n, 0n]]);
    t.is(iqei(other), 7);
  },
);

rule('IQ-DEV-1', 'device-TLB invalidations: arguments, and a wait behind the answers', (t) => {
  const bench = ready({ answers: false });
  bench.submit([
    [devTlb(SID), 0x11001n],
    [pasidDevTlb(SID, 5), 0x10800n],
    [pasidDevTlb(SID, 6), 0x7fff_ffff_ffff_f801n],
    [waitSw(1), STATUS],
    [0x11n, 0n],
  ]);
  t.deepEqual(bench.invalidations, [
    { sid: SID, itag: 0, pasid: -1, global: false, vpn: 0x10, shift: 14 },
    { sid: SID, itag: 1, pasid: 5, global: false, vpn: 0x10, shift: 13 },
    { sid: SID, itag: 2, pasid: 6, global: true, vpn: 0, shift: 64 },
  ]);
  t.is(status(bench), 0);
  t.is(iqh(bench), 160, 'the queue goes on behind a wait without FN');
  bench.unit.invalidateComplete(SID, 1);
  bench.unit.invalidateComplete(SID, 0);
  t.is(status(bench), 0);
  bench.unit.invalidateComplete(SID, 2);
  t.is(status(bench), 1);
});

rule('IQ-WAIT-1', 'waits complete in order, each behind its own past only', (t) => {
  const bench = ready({ answers: false });
  bench.submit([
    [devTlb(SID), 0n],
    [waitSw(1), STATUS],
    [devTlb(SID), 0x1000n],
    [waitSw(2), STATUS + 4n],
  ]);
  bench.unit.invalidateComplete(SID, 0);
  t.is(status(bench), 1);
  t.is(status(bench, STATUS + 4n), 0);
  bench.unit.invalidateComplete(SID, 1);
  t.is(status(bench, STATUS + 4n), 2);
});

rule('IQ-WAIT-2', 'FN holds the queue until its wait is done', (t) => {
  const bench = ready({ answers: false });
  bench.submit([
    [devTlb(SID), 0n],
    [waitSw(1, FENCE), STATUS],
    [waitSw(2), STATUS + 4n],
  ]);
  t.is(iqh(bench), 64);
  bench.unit.invalidateComplete(SID, 0);
  t.is(status(bench), 1);
  bench.clock.run(1000);
  t.is(iqh(bench), 96);
  t.is(status(bench, STATUS + 4n), 2);
});

rule('IQ-DEV-2', 'at most 32 requests are under way, and at most MIP of one function', (t) => {
  const bench = ready({ answers: false });
  for (let i = 0; i < 40; i++) bench.put(devTlb(SID), BigInt(i) << 12n);
  bench.ring();
  bench.clock.run(20_000);
  t.is(bench.invalidations.length, 32);
  t.is(iqh(bench), 32 * 32);
  bench.unit.invalidateComplete(SID, 7);
  bench.clock.run(1000);
  t.is(bench.invalidations.length, 33);
  t.is(bench.invalidations[32]?.itag, 7, 'the free tag');

  const narrow = ready({ answers: false });
  narrow.submit([
    [pasidDevTlb(SID, 1, 2), 0n],
    [pasidDevTlb(SID, 1, 2), 0x1000n],
    [pasidDevTlb(SID, 1, 2), 0x2000n],
  ]);
  t.is(narrow.invalidations.length, 2);
  narrow.unit.invalidateComplete(SID, 0);
  narrow.clock.run(1000);
  t.is(narrow.invalidations.length, 3);
});

rule(
  'IQ-ITE-1',
  'no answer: ITE, waits are aborted, the queue restarts when ITE is cleared',
  (t) => {
    const bench = ready({ answers: false });
    bench.w32(0x38, 0);
    bench.submit([
      [devTlb(SID), 0n],
      [waitSw(1), STATUS + 8n],
    ]);
    bench.clock.run(TIMEOUT);
    t.is(bench.r32(0x34), ITE);
    t.is(Number((bench.r64(0xb0) >> 32n) & 0xffffn), SID);
    t.is(bench.msis.length, 1);
    bench.submit([[waitSw(2), STATUS]]);
    t.is(status(bench), 0, 'the queue stands');
    bench.w32(0x34, ITE);
    bench.clock.run(1000);
    t.is(status(bench), 2);
    t.is(bench.tables.read(STATUS + 8n), 0n, 'the aborted wait never wrote');
    bench.unit.invalidateComplete(SID, 0);
    t.is(bench.r32(0x34), ICE, 'too late is unexpected');
  },
);

rule('IQ-ITE-1', 'each request has its own deadline', (t) => {
  const bench = ready({ answers: false });
  bench.submit([[devTlb(SID), 0n]], TIMEOUT / 2);
  bench.submit([[devTlb(SID + 1), 0n]], TIMEOUT / 4);
  bench.unit.invalidateComplete(SID, 0);
  bench.clock.run(TIMEOUT / 2);
  t.is(bench.r32(0x34), 0);
  bench.clock.run(TIMEOUT / 2);
  t.is(bench.r32(0x34), ITE);
  t.is(Number((bench.r64(0xb0) >> 32n) & 0xffffn), SID + 1);
});

rule('IQ-ITE-1', 'a function that is not there runs into the timeout', (t) => {
  const bench = ready();
  bench.submit([[devTlb(0x0500), 0n]]);
  t.is(bench.r32(0x34), 0);
  bench.clock.run(TIMEOUT);
  t.is(bench.r32(0x34), ITE);
  t.is(Number((bench.r64(0xb0) >> 32n) & 0xffffn), 0x0500);
});

rule('IQ-ICE-1', 'an answer nobody waits for: ICE with its source, and processing goes on', (t) => {
  const bench = ready({ answers: false });
  bench.submit([[devTlb(SID), 0n]]);
  bench.unit.invalidateComplete(SID + 1, 0);
  t.is(bench.r32(0x34), ICE);
  t.is(Number(bench.r64(0xb0) >> 48n), SID + 1);
  bench.unit.invalidateComplete(SID, 31);
  bench.unit.invalidateComplete(SID, 1000);
  bench.submit([[waitSw(1), STATUS]]);
  bench.unit.invalidateComplete(SID, 0);
  t.is(status(bench), 1);
  bench.w32(0x34, ICE);
  t.is(bench.r32(0x34), 0);
});

rule('IQ-PGRP-1', 'page group responses go to the function, in order', (t) => {
  const bench = ready();
  bench.submit([
    [0x5_0108_0019n, 0x1cn],
    [0x0_0108_1009n, 0x20n],
  ]);
  t.deepEqual(bench.responses, [
    { sid: SID, pasid: 5, prgi: 3, code: 0 },
    { sid: SID, pasid: -1, prgi: 4, code: 1 },
  ]);
});

rule('IQ-3', 'legacy mode knows types 1 to 5, in 128 or 256 bits', (t) => {
  for (const width of [16, 32]) {
    const bench = new Bench();
    bench.setRoot(0);
    bench.enableQueue(width);
    bench.submit([
      [0x11n, 0n],
      [0x12n, 0n],
      [0x04n, 0n],
      [devTlb(SID), 0n],
      [waitSw(1), STATUS],
    ]);
    t.is(status(bench), 1);
    t.is(iqh(bench), 5 * width);
    bench.submit([[0x37n, 0n]]);
    t.is(iqei(bench), 3);
  }
});

rule('IQ-1', 'a hostile ring of endless work takes one descriptor per turn of the clock', (t) => {
  const bench = ready({ answers: false });
  bench.put(devTlb(SID), 0n);
  for (let i = 0; i < 100; i++) bench.put(waitSw(i), STATUS);
  bench.ring();
  bench.clock.run(100_000);
  t.true(iqh(bench) < 100 * 32, 'waits that stand are bounded');
  bench.unit.invalidateComplete(SID, 0);
  bench.clock.run(100_000);
  t.is(iqh(bench), 101 * 32);
  t.is(status(bench), 99);
});

rule(
  'IQ-VIRT-1',
  'a virtual unit hands every descriptor to its world and waits for resume',
  (t) => {
    let hold = false;
    const bench = ready({ forward: () => !hold });
    bench.submit([
      [0x11n, 0n],
      [devTlb(SID), 0n],
      [0x5_0108_0019n, 0x1cn],
      [waitSw(1), STATUS],
    ]);
    const types = (list: readonly Descriptor[]): string => list.map(({ type }) => type).join(' ');
    t.is(types(bench.forwarded), 'cc dev_tlb pgrp inv_wait');
    t.is(status(bench), 1);
    t.deepEqual(bench.invalidations, []);
    t.deepEqual(bench.responses, []);
    hold = true;
    bench.submit([
      [waitSw(2), STATUS],
      [waitSw(3), STATUS],
    ]);
    t.is(bench.forwarded.length, 5);
    t.is(status(bench), 1, 'a wait completes after its forwarding');
    hold = false;
    bench.unit.resume();
    t.is(status(bench), 2);
    bench.clock.run(1000);
    t.is(status(bench), 3);
    bench.unit.resume();
    t.is(status(bench), 3, 'a resume too many does nothing');
  },
);

rule('IQ-VIRT-1', 'resume from inside forward, and a queue disabled meanwhile', (t) => {
  const bench: Bench = ready({
    forward: () => {
      bench.unit.resume();
      return false;
    },
  });
  bench.submit([
    [waitSw(1), STATUS],
    [waitSw(2), STATUS],
  ]);
  t.is(status(bench), 2);
  const other = ready({ forward: () => false });
  other.submit([[waitSw(7), STATUS]]);
  other.gcmd(0x0400_0000, false);
  other.unit.resume();
  t.is(status(other), 0, 'the wait is forgotten');
});

rule('IQ-2', '2^QS pages of descriptors of either width', (t) => {
  for (const width of [16, 32]) {
    for (const qs of [0, 1, 2]) {
      const bench = new Bench();
      bench.setRoot(0);
      const bytes = 4096 * 2 ** qs;
      const base = bench.tables.page(2 ** qs);
      for (let at = 0; at < bytes; at += width) {
        bench.tables.write(base + BigInt(at), waitSw(at / width + 1));
        bench.tables.write(base + BigInt(at) + 8n, STATUS);
      }
      bench.w64(0x90, base | BigInt(qs) | (width === 32 ? 0x800n : 0n));
      bench.gcmd(0x0400_0000, true);
      bench.w32(0x88, bytes - width);
      bench.clock.run(100 * (bytes / width) + 1000);
      t.is(status(bench), bytes / width - 1);
      t.is(iqh(bench), bytes - width);
      bench.w32(0x88, 0);
      bench.clock.run(1000);
      t.is(status(bench), bytes / width);
      t.is(iqh(bench), 0, 'round the end');
      bench.w32(0x88, bytes);
      bench.clock.run(1000);
      t.is(iqei(bench), 1);
    }
  }
});
