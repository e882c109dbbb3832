import test from 'ava';
import { FS_LO, SS_LO } from '../../../../devices/spec/x86/paging.ts';
import {
  type Change,
  type TableEntry,
  type TableKind,
  Tables,
} from '../../../../devices/vtd/sanitizer/tables.ts';
import { TestMemory } from '../bench.ts';

interface Seen {
  readonly entry: TableEntry;
  readonly seen: boolean;
}

/** A dependent of one entry with the content `before`; what it hears when memory holds `after`. */
function write(kind: TableKind, level: number, before: bigint, after: bigint): Seen[] {
  const memory = new TestMemory(1 << 16, true);
  const heard: Seen[] = [];
  const tables = new Tables(memory, (entry, _now, seen) => ({ entry, seen }) as unknown as Change);
  memory.write64(0x2008, before);
  const entry = tables.at(kind, level, 0x2008);
  entry.dependents.add({ changed: (change) => heard.push(change as unknown as Seen) });
  memory.write64(0x2008, after);
  tables.stored(0x2008, 8);
  return heard;
}

const FRAME = 0x5000n;
const FS = (bits: number): bigint => FRAME | BigInt(bits);
const { P, RW, US, A, D, PS } = FS_LO;

test('what makes a first-stage entry stale', (t) => {
  const old = FS(P | RW | US | A | D);
  const stale = (now: bigint, level = 1): boolean =>
    write('first-stage', level, old, now).length === 1;
  t.true(stale(0n), 'not present');
  t.true(stale(old ^ 0x1000n), 'another frame');
  t.true(stale(FS(P | US | A | D)), 'not writable any more');
  t.true(stale(FS(P | RW | A | D)), 'not for users any more');
  t.true(stale(old | (1n << 63n)), 'not executable any more');
  t.true(stale(old | BigInt(PS), 2), 'a large page instead of a table');
  t.false(stale(FS(P | RW | US)), 'accessed and dirty bits are hardware');
  t.false(stale(old | 0xe00n), 'bits that are software');
});

test('rights that are added make nothing stale', (t) => {
  t.is(write('first-stage', 1, FS(P | US), FS(P | US | RW)).length, 0);
  t.is(
    write('second-stage', 1, FRAME | BigInt(SS_LO.R), FRAME | BigInt(SS_LO.R | SS_LO.W)).length,
    0,
  );
});

test('a dirty bit that software takes back from the second stage counts', (t) => {
  const old = FRAME | BigInt(SS_LO.R | SS_LO.W | SS_LO.A | SS_LO.D);
  t.is(write('second-stage', 1, old, old & ~BigInt(SS_LO.D)).length, 1);
  t.is(write('second-stage', 1, old, old & ~BigInt(SS_LO.A)).length, 0);
});

test('an entry changes once, and a write that nobody saw is found at the next look', (t) => {
  const memory = new TestMemory(1 << 16, true);
  const heard: boolean[] = [];
  const tables = new Tables(memory, (entry, _now, seen) => ({ entry, seen }) as unknown as Change);
  const dependent = { changed: (change: unknown) => heard.push((change as Seen).seen) };
  memory.write64(0x2000, FS(P));
  const entry = tables.at('first-stage', 1, 0x2000);
  entry.dependents.add(dependent);
  t.is(tables.at('first-stage', 1, 0x2000), entry);
  memory.write64(0x2000, 0n);
  t.not(tables.at('first-stage', 1, 0x2000), entry);
  t.deepEqual(heard, [false]);
  tables.stored(0x2000, 8);
  t.deepEqual(heard, [false]);
});

test('what nothing depends on is forgotten', (t) => {
  const memory = new TestMemory(1 << 16, true);
  const tables = new Tables(memory, () => t.fail());
  const dependent = { changed: () => t.fail() };
  const entry = tables.at('PASID', 0, 0x3040);
  entry.dependents.add(dependent);
  t.is(tables.size, 1);
  tables.release([entry], dependent);
  t.is(tables.size, 0);
  memory.write64(0x3040, 1n);
  tables.stored(0x3040, 64);
});
