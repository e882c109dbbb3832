import test from 'ava';

import { AT } from '../../../devices/pci/fabric.ts';
import { Bench, SID, TestMemory, vpn } from './bench.ts';
import { PS, Tables } from './tables.ts';
import { type Ask, type Setup, Walker } from './walker.ts';

const BYTES = 1 << 18;
const CASES = 2500;
const ASKS = 10;
const PASID = 5;

/** xorshift32: the same cases in every run. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const KINDS = ['read', 'write', 'ats', 'ats-nw'] as const;

interface Case {
  setup: Setup;
  addresses: bigint[];
}

/** Builds tables that are mostly sound, with some wrong bit here and there. */
function build(memory: TestMemory, root: bigint, roll: (below: number) => number): Case {
  const tables = new Tables(memory, 0x4000);
  const chance = (percent: number): boolean => roll(100) < percent;
  const setup: Setup = {
    pgtt: 1 + roll(3),
    fsRoot: 0n,
    fsLevels: 4 + roll(2),
    ssRoot: tables.page(),
    ssLevels: 3 + roll(3),
    ssade: chance(40),
    eafe: chance(30),
    wpe: chance(50),
    snooped: chance(85),
    haw: chance(50) ? 46 : 40,
    mgaw: chance(80) ? 57 : 38,
    snoopControl: true,
    gigabytePages: true,
  };
  const nested = setup.pgtt === 3;
  // Under nesting, guest page g of the tables lies at the host page that `placed` remembers.
  const placed = new Map<bigint, bigint>();
  let guest = 0x10_0000n;
  const ssBits = (): bigint =>
    (chance(4) ? BigInt(roll(4)) : 3n) | (chance(60) ? 0x300n : 0n) | (chance(3) ? 0x800n : 0n);
  const noise = (): bigint => {
    if (chance(97)) return 0n;
    return [1n << 47n, 1n << 62n, PS, 1n << 51n, 1n << 55n, 1n << 13n][roll(6)]!;
  };
  const mapSecond = (gpa: bigint, hpa: bigint, level = 1): void => {
    tables.map(
      setup.ssRoot,
      setup.ssLevels,
      gpa,
      hpa | ssBits() | noise() | (level > 1 ? PS : 0n),
      3n | (chance(70) ? 0x100n : 0n),
      level,
    );
  };
  const freshFirst = (): bigint => {
    const host = tables.page();
    if (!nested) return host;
    guest += 4096n;
    placed.set(guest, host);
    mapSecond(guest, host);
    return guest;
  };
  const place = (address: bigint): bigint => placed.get(address) ?? address;
  setup.fsRoot = freshFirst();
  const fsBits = (): bigint =>
    (chance(94) ? 1n : 0n) |
    (chance(85) ? 2n : 0n) |
    (chance(92) ? 4n : 0n) |
    (chance(60) ? 0x20n : 0n) |
    (chance(50) ? 0x40n : 0n) |
    (chance(60) ? 0x400n : 0n);
  const link = (): bigint => (chance(90) ? 7n : 5n) | (chance(80) ? 0x420n : 0n);
  const addresses: bigint[] = [];
  for (let i = 0; i < 4; i++) {
    const level = chance(75) ? 1 : 1 + roll(3);
    const size = 1n << BigInt(12 + 9 * (level - 1));
    let target = BigInt(1 + roll(0x3ff)) * (chance(90) ? 1n << 30n : 1n << 12n);
    target = (target / size) * size;
    if (chance(2)) target = 0xfee0_0000n & ~(size - 1n);
    const va =
      (BigInt(roll(2)) << 39n) |
      (BigInt(roll(2)) << 30n) |
      (BigInt(roll(3)) << 21n) |
      (BigInt(roll(4)) << 12n) |
      (setup.fsLevels === 5 && setup.pgtt !== 2 && chance(30) ? 1n << 50n : 0n);
    const address = setup.pgtt === 2 && setup.ssLevels === 3 ? va & ((1n << 39n) - 1n) : va;
    addresses.push(address);
    try {
      if (setup.pgtt === 2) {
        mapSecond(address - (address % size), target, level);
        continue;
      }
      const leaf = target | fsBits() | noise() | (level > 1 ? PS : 0n);
      tables.map(setup.fsRoot, setup.fsLevels, address, leaf, link(), level, place, freshFirst);
      const ssLevel = chance(70) ? 1 : 1 + roll(3);
      const ssSize = 1n << BigInt(12 + 9 * (ssLevel - 1));
      const output = target + (address % size);
      const host = ((BigInt(1 + roll(0x3ff)) << 30n) / ssSize) * ssSize;
      if (nested && chance(93) && !placed.has(output - (output % 4096n))) {
        mapSecond(output - (output % ssSize), host, ssLevel);
      }
    } catch {
      // A wrong bit led the builder out of memory: the tables stay as they are.
    }
  }
  addresses.push(1n << 47n, 0xffff_8000_0000_0000n, 1n << 60n);
  const directory = tables.context(root, SID, { ridPasid: 0 });
  tables.pasid(directory, PASID, {
    pgtt: setup.pgtt,
    fs: setup.fsRoot,
    ss: setup.ssRoot,
    aw: setup.ssLevels - 2,
    fspm: setup.fsLevels - 4,
    ssade: setup.ssade,
    eafe: setup.eafe,
    wpe: setup.wpe,
    pwsnp: setup.snooped,
    sre: true,
  });
  return { setup, addresses };
}

const names = { read: 'read', write: 'write', ats: 'translation', 'ats-nw': 'translation NW' };

test('random tables: fast walk, checked walk and an independent walker agree', (t) => {
  const roll = random(20260115);
  let granted = 0;
  const faults = new Map<number, number>();
  for (let n = 0; n < CASES; n++) {
    const memory = new TestMemory(BYTES, true);
    const root = 0x1000n;
    const { setup, addresses } = build(memory, root, roll);
    const copy = (flat: boolean): TestMemory => {
      const bytes = new Uint8Array(BYTES);
      memory.read(0, bytes);
      return new TestMemory(BYTES, flat, bytes.buffer);
    };
    const oracle = copy(true);
    const walker = new Walker(oracle, setup);
    const benches = [copy(true), copy(false)].map((own) => {
      const bench = new Bench({
        memory: own,
        haw: setup.haw,
        cap: { MGAW: setup.mgaw - 1, SAGAW: 0xe, FS5LP: 1 },
      });
      bench.w64(0x20, root | (1n << 10n));
      bench.w32(0x18, 0x4000_0000);
      bench.w32(0x18, 0x8000_0000);
      return bench;
    });
    for (let i = 0; i < ASKS; i++) {
      const ask: Ask = {
        address:
          addresses[roll(8) === 0 ? roll(addresses.length) : roll(4)]! +
          (roll(8) === 0 ? 4096n : 0n),
        user: roll(4) !== 0,
        kind: KINDS[roll(4)]!,
      };
      const want = walker.ask(ask);
      faults.set(want.fault, (faults.get(want.fault) ?? 0) + 1);
      const isAts = ask.kind === 'ats' || ask.kind === 'ats-nw';
      const canRetry = want.read || want.write;
      for (const bench of benches) {
        const { unit } = bench;
        const type = isAts ? AT.TRANSLATION : AT.UNTRANSLATED;
        const noWrite = ask.kind === 'ats-nw';
        const write = ask.kind === 'write';
        const ok = unit.translate(SID, PASID, !ask.user, type, vpn(ask.address), write, noWrite);
        const got = unit.result;
        const text = `case ${n}.${i} ${names[ask.kind]} ${ask.address.toString(16)} user=${ask.user}`;
        if (got.fault !== want.fault || ok !== (want.fault === 0 && canRetry)) {
          t.fail(
            `${text}: fault ${got.fault.toString(16)}, expected ${want.fault.toString(16)} ${JSON.stringify(setup, (_k, v: unknown) => (typeof v === 'bigint' ? v.toString(16) : v))}`,
          );
          return;
        }
        if (!ok) continue;
        granted++;
        if (BigInt(got.pfn) << 12n !== want.address || got.shift !== want.shift) {
          t.fail(
            `${text}: ${(got.pfn * 4096).toString(16)}/${got.shift}, not ${want.address.toString(16)}/${want.shift}`,
          );
          return;
        }
        if (isAts && (got.read !== want.read || got.write !== want.write)) {
          t.fail(`${text}: permissions ${got.read} ${got.write}, not ${want.read} ${want.write}`);
          return;
        }
      }
    }
    const expected = new Uint8Array(BYTES);
    const actual = new Uint8Array(BYTES);
    oracle.read(0, expected);
    for (const bench of benches) {
      bench.memory.read(0, actual);
      if (Buffer.compare(actual, expected) !== 0) {
        const at = actual.findIndex((byte, i) => byte !== expected[i]);
        t.fail(`case ${n}: accessed or dirty bits differ at ${at.toString(16)}`);
        return;
      }
    }
  }
  t.true(granted > CASES * 4, `granted ${granted}`);
  // The generator reaches every condition of page tables in flat memory.
  const seen = [...faults.keys()].sort((a, b) => a - b).map((code) => code.toString(16));
  for (const code of [
    '0',
    '71',
    '72',
    '74',
    '77',
    '79',
    '7a',
    '7c',
    '80',
    '81',
    '84',
    '85',
    '86',
    '87',
    '90',
  ]) {
    t.true(seen.includes(code), `${code} is not among ${seen.join(' ')}`);
  }
});
