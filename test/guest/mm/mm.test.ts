import test from 'ava';

import { FS, pageIndex } from '../../../devices/spec/x86/paging.ts';
import { type AddressSpace, MMAP_BASE, type MmuNotifier } from '../../../guest/mm/mm.ts';
import { copyFromUser, copyToUser } from '../../../guest/mm/uaccess.ts';
import type { Task } from '../../../guest/task.ts';
import { Bench } from '../machine/bench.ts';

/** Entries on the way to an address, top first. */
function path(bench: Bench, mm: AddressSpace, address: number): bigint[] {
  const entries: bigint[] = [];
  let table = mm.pgd;
  for (let level: number = mm.table.levels; level >= 1; level--) {
    const entry = bench.core.cpu.read64(table + 8 * pageIndex(address / 4096, level));
    entries.push(entry);
    table = Number(entry & 0x000f_ffff_ffff_f000n);
  }
  return entries;
}

for (const levels of [4, 5] as const) {
  test(`demand paging fills ${levels}-level tables with user entries`, (t) => {
    const bench = new Bench({}, levels);
    const mm = bench.mm();
    const at = mm.mmap(3 * 4096, { what: 'test' });
    t.is(at, MMAP_BASE);
    bench.cpuState.activate(mm, 0n);
    t.is(mm.handleFault(at + 5000, true, 'cpu'), 'mapped');
    t.is(mm.handleFault(at + 5000, false, 'device'), 'present');
    const entries = path(bench, mm, at + 4096);
    t.is(entries.length, levels);
    t.deepEqual(
      entries.map((entry) => entry & 0xfffn),
      entries.map(() => FS.P | FS.RW | FS.US),
    );
    t.is(mm.table.entry(at), 0n);
    copyToUser(bench.core.cpu, mm, at + 4090, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const back = new Uint8Array(8);
    copyFromUser(bench.core.cpu, mm, at + 4090, back);
    t.deepEqual([...back], [1, 2, 3, 4, 5, 6, 7, 8]);
    t.is(mm.table.entry(at) & (FS.A | FS.D), FS.A | FS.D);
  });
}

test('accesses that no mapping allows are refused', (t) => {
  const bench = new Bench();
  const mm = bench.mm();
  const readOnly = mm.mmap(4096, { what: 'test', write: false });
  t.is(mm.handleFault(readOnly, true, 'device'), 'access');
  t.is(mm.handleFault(readOnly, false, 'device'), 'mapped');
  t.is(mm.table.entry(readOnly) & FS.RW, 0n);
  t.is(mm.handleFault(readOnly + 4096, false, 'device'), 'no-vma');
  t.is(mm.handleFault(2 ** 64 - 4096, false, 'device'), 'no-vma');
  bench.cpuState.activate(mm, 0n);
  const error = { message: /EFAULT: write at 0x10: no-vma/ };
  t.throws(() => copyToUser(bench.core.cpu, mm, 0x10, new Uint8Array(1)), error);
});

test('mmap and munmap check their arguments', (t) => {
  const bench = new Bench();
  const mm = bench.mm();
  const at = mm.mmap(8192, { what: 'test' });
  for (const [bytes, place] of [
    [0, undefined],
    [4096, at],
    [4096, at + 1],
    [4096, 2 ** 47],
    [4096, -4096],
  ] as const) {
    t.throws(() => mm.mmap(bytes, { what: 'test', at: place }), { message: /EINVAL/ });
  }
  t.throws(() => bench.run(mm.munmap(at + 1, 4096)), { message: /EINVAL/ });
  t.throws(() => bench.run(mm.munmap(at, 0)), { message: /EINVAL/ });
  t.is(mm.mmap(4096, { what: 'next' }), at + 8192);
});

test('munmap clears entries, flushes the CPU, tells the notifiers, and only then frees', (t) => {
  const bench = new Bench();
  const mm = bench.mm();
  const { pages } = bench.core;
  const at = mm.mmap(4 * 4096, { what: 'test' });
  for (let i = 0; i < 4; i++) mm.handleFault(at + 4096 * i, true, 'cpu');
  bench.cpuState.activate(mm, 0n);
  const before = pages.freePages;
  const flushes = bench.machine.cpu.cr3Writes.length;
  const seen: unknown[] = [];
  const notifier: MmuNotifier = {
    *invalidateRange(start, end): Task {
      const cleared = mm.table.entry(at + 4096) === 0n && mm.table.entry(at + 8192) === 0n;
      const cpuFlushed = bench.machine.cpu.cr3Writes.length > flushes;
      seen.push(start, end, cleared, cpuFlushed, pages.freePages - before);
    },
    *rootChanged(): Task {},
    *release(): Task {},
  };
  mm.notifiers.add(notifier);
  bench.run(mm.munmap(at + 4096, 8192));
  t.deepEqual(seen, [at + 4096, at + 3 * 4096, true, true, 0]);
  t.is(pages.freePages - before, 2);
  t.is(mm.handleFault(at + 4096, false, 'cpu'), 'no-vma');
  t.not(mm.table.entry(at), 0n);
  t.not(mm.table.entry(at + 3 * 4096), 0n);
  t.is(mm.mmap(8192, { what: 'again', at: at + 4096 }), at + 4096);
  seen.length = 0;
  bench.run(mm.munmap(at + 2 ** 30, 4096));
  t.deepEqual(seen, []);
});

test('a new root has the same entries; the old one is freed after the notifiers', (t) => {
  const bench = new Bench();
  const mm = bench.mm();
  const at = mm.mmap(4096, { what: 'test' });
  mm.handleFault(at, true, 'cpu');
  bench.cpuState.activate(mm, 0n);
  const old = mm.pgd;
  const below = path(bench, mm, at).slice(1);
  const free = bench.core.pages.freePages;
  let during = -1;
  mm.notifiers.add({
    *invalidateRange(): Task {},
    *rootChanged(): Task {
      during = bench.core.pages.freePages;
    },
    *release(): Task {},
  });
  bench.run(mm.moveRoot());
  t.not(mm.pgd, old);
  t.is(bench.machine.cpu.cr3, mm.pgd);
  t.deepEqual(path(bench, mm, at).slice(1), below);
  t.is(during, free - 1);
  t.is(bench.core.pages.freePages, free);
});

test('exit gives every frame and every promise back', (t) => {
  const bench = new Bench();
  const { pages } = bench.core;
  const free = pages.freePages;
  const mm = bench.mm();
  const at = mm.mmap(2 ** 21 * 3, { what: 'test' });
  for (let i = 0; i < 3; i++) mm.handleFault(at + 2 ** 21 * i, true, 'cpu');
  mm.mmap(4096, { what: 'portal', device: 0x40_0000_0000 });
  bench.cpuState.activate(mm, 0n);
  t.true(pages.freePages < free);
  bench.run(mm.exit());
  t.is(pages.freePages, free);
  t.is(pages.committedPages, 0);
  t.is(mm.handleFault(at, false, 'device'), 'no-vma');
  t.not(bench.machine.cpu.cr3, mm.pgd);
});

test('out of memory is an outcome, not a crash', (t) => {
  const bench = new Bench();
  const mm = bench.mm();
  const at = mm.mmap(4096, { what: 'test' });
  while (bench.core.pages.freePages > 2) bench.core.pages.alloc();
  t.is(mm.handleFault(at, true, 'device'), 'oom');
  bench.cpuState.activate(mm, 0n);
  const error = { message: /ENOMEM: no page/ };
  t.throws(() => copyToUser(bench.core.cpu, mm, at, new Uint8Array(1)), error);
});
