import test from 'ava';
import { Mmu, PF } from '../../../devices/cpu/mmu.ts';
import { FS } from '../../../devices/spec/x86/paging.ts';

const PHYSICAL_BITS = 46;
const ADDRESS = ((1n << 46n) - 1n) & ~0xfffn;

/** Page tables in a sparse memory; a hole reads all ones. */
class Tables {
  readonly words = new Map<number, bigint>();
  loads = 0;
  onLoad: (address: number) => void = () => undefined;
  read64(address: number): bigint {
    this.loads++;
    const value = this.words.get(address) ?? (1n << 64n) - 1n;
    this.onLoad(address);
    return value;
  }
  cmpxchg64(address: number, expected: bigint, value: bigint): bigint {
    const old = this.words.get(address) ?? (1n << 64n) - 1n;
    if (old === expected) this.words.set(address, value);
    return old;
  }
}

/** The walk as the SDM's tables describe it, with bigints and no shortcuts. */
function reference(
  words: ReadonlyMap<number, bigint>,
  cr3: bigint,
  levels: number,
  linear: bigint,
  write: boolean,
  user: boolean,
): { address: bigint } | { error: number } {
  const access = (write ? 2 : 0) | (user ? 4 : 0);
  const width = BigInt(12 + 9 * levels);
  const top = linear >> (width - 1n);
  if (top !== 0n && top !== (1n << (65n - width)) - 1n) return { error: access };
  let table = cr3;
  let [canWrite, canUser] = [true, true];
  for (let level = levels; ; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const entry = words.get(Number(table + ((linear >> shift) & 511n) * 8n)) ?? (1n << 64n) - 1n;
    if ((entry & 1n) === 0n) return { error: access };
    const large = level > 1 && ((entry >> 7n) & 1n) === 1n;
    const low = (1n << shift) - 1n - 0xfffn - (level > 1 ? 0x1000n : 0n);
    const reserved =
      ((entry >> 46n) & 0x3fn) !== 0n || (large && (level > 3 || (entry & low) !== 0n));
    if (reserved) return { error: access | 1 | 8 };
    canWrite &&= (entry & 2n) !== 0n;
    canUser &&= (entry & 4n) !== 0n;
    if (level === 1 || large) {
      if ((user && !canUser) || (write && !canWrite)) return { error: access | 1 };
      const offset = linear & ((1n << shift) - 1n);
      return { address: (entry & ADDRESS & ~((1n << shift) - 1n)) | offset };
    }
    table = entry & ADDRESS;
  }
}

function mmuOver(tables: Tables, options = { gbpages: true }): Mmu {
  const mmu = new Mmu(tables, { physicalBits: PHYSICAL_BITS, ...options });
  mmu.cr3 = 0x1000;
  return mmu;
}

/** A small generator with a fixed seed (xorshift32). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

test('agrees with a plain bigint walker on random tables', (t) => {
  const next = numbers(7);
  let succeeded = 0;
  for (let round = 0; round < 400; round++) {
    const tables = new Tables();
    const levels = round % 2 === 0 ? 4 : 5;
    const linear =
      (BigInt(next(2 ** 20)) << 37n) ^ (BigInt(next(2 ** 31)) << 7n) ^ BigInt(next(4096));
    const address = next(16) === 0 ? linear | (1n << 60n) : linear & ((1n << 47n) - 1n);
    for (let level = levels, table = 0x1000; level >= 1; level--, table += 0x1000) {
      const shift = BigInt(12 + 9 * (level - 1));
      const slot = table + Number((address >> shift) & 511n) * 8;
      let entry = BigInt(table + 0x1000) | FS.P | FS.RW | FS.US;
      if (level <= 3 && next(6) === 0) entry = (entry & ~(ADDRESS & 0x3fff_ffffn)) | FS.PS;
      if (next(12) === 0) entry ^= 1n << BigInt(next(8));
      if (next(20) === 0) entry |= 1n << BigInt(46 + next(6));
      if (next(20) === 0) entry |= 1n << BigInt(12 + next(18));
      tables.words.set(slot, entry);
    }
    const write = next(2) === 0;
    const user = next(3) !== 0;
    const expected = reference(tables.words, 0x1000n, levels, address, write, user);
    const mmu = mmuOver(tables);
    mmu.la57 = levels === 5;
    const ok = mmu.translate(address, write, user);
    if (ok) succeeded++;
    t.deepEqual(ok ? { address: BigInt(mmu.address) } : { error: mmu.error }, expected, `${round}`);
  }
  t.true(succeeded > 80 && succeeded < 320, `${succeeded} of 400 succeed`);
});

function fourLevels(leaf: bigint): Tables {
  const tables = new Tables();
  const link = FS.P | FS.RW | FS.US;
  tables.words.set(0x1000, 0x2000n | link);
  tables.words.set(0x2000, 0x3000n | link);
  tables.words.set(0x3000, 0x4000n | link);
  tables.words.set(0x4000, leaf);
  return tables;
}

test('A is set at every level, D only by a write and only in the leaf', (t) => {
  const tables = fourLevels(0x9000n | FS.P | FS.RW | FS.US);
  const mmu = mmuOver(tables);
  t.true(mmu.translate(0x123n, false, true));
  t.is(mmu.address, 0x9123);
  t.is(mmu.room, 0x1000 - 0x123);
  for (const slot of [0x1000, 0x2000, 0x3000, 0x4000]) {
    t.is(tables.words.get(slot)! & (FS.A | FS.D), FS.A);
  }
  t.true(mmu.translate(0x123n, true, true));
  t.is(tables.words.get(0x4000)! & (FS.A | FS.D), FS.A | FS.D);
  t.is(tables.words.get(0x3000)! & FS.D, 0n);
});

test('a walk that fails sets nothing', (t) => {
  const tables = fourLevels(0x9000n | FS.P | FS.US);
  const mmu = mmuOver(tables);
  t.false(mmu.translate(0n, true, true));
  t.is(mmu.error, PF.PRESENT | PF.WRITE | PF.USER);
  for (const value of tables.words.values()) t.is(value & (FS.A | FS.D), 0n);
});

test('an entry that changes between load and exchange is walked again', (t) => {
  const tables = fourLevels(0x9000n | FS.P | FS.RW | FS.US);
  let changed = false;
  tables.onLoad = (address) => {
    if (address !== 0x4000 || changed) return;
    changed = true;
    tables.words.set(0x4000, 0xa000n | FS.P | FS.RW | FS.US);
  };
  const mmu = mmuOver(tables);
  t.true(mmu.translate(0n, true, true));
  t.is(mmu.address, 0xa000);
});

test('an entry that always changes ends in a fault', (t) => {
  const tables = fourLevels(0x9000n | FS.P | FS.RW | FS.US);
  let page = 16n;
  tables.onLoad = (address) => {
    if (address === 0x4000) tables.words.set(0x4000, (page++ << 12n) | FS.P | FS.RW | FS.US);
  };
  t.false(mmuOver(tables).translate(0n, true, true));
  t.true(tables.loads < 1000);
});

test('1 GiB pages are reserved without the feature', (t) => {
  const tables = fourLevels(0n);
  tables.words.set(0x2000, 0x4000_0000n | FS.P | FS.RW | FS.US | FS.PS);
  t.true(mmuOver(tables).translate(0x1234_5678n, false, true));
  const without = mmuOver(tables, { gbpages: false });
  t.false(without.translate(0x1234_5678n, false, true));
  t.is(without.error, PF.PRESENT | PF.RESERVED | PF.USER);
});

test('a table in a hole is all reserved bits', (t) => {
  const tables = new Tables();
  const mmu = mmuOver(tables);
  t.false(mmu.translate(0n, false, true));
  t.is(mmu.error, PF.PRESENT | PF.RESERVED | PF.USER);
});
