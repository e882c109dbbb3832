import test from 'ava';
import fc from 'fast-check';
import { BlockList } from '../../../host/kernel/block-list.ts';
import { PageAllocator } from '../../../host/kernel/page-alloc.ts';
import { Ram } from '../../../host/machine/ram.ts';
import { Random } from '../../../host/machine/random.ts';

const MIB = 1 << 20;

function allocator(seed = 1, mib = 16) {
  const ram = new Ram(mib * MIB);
  const pages = new PageAllocator(ram, new Random(seed), [{ start: MIB, end: mib * MIB }]);
  return { ram, pages };
}

test('frames come from the usable RAM, each once, until there is none', (t) => {
  const { pages } = allocator();
  const total = pages.freePages;
  t.is(total, 15 * 256);
  const seen = new Set<number>();
  for (let i = 0; i < total; i++) seen.add(pages.alloc());
  t.is(seen.size, total);
  t.true(Math.min(...seen) >= 256 && Math.max(...seen) < 16 * 256);
  t.is(pages.freePages, 0);
  t.throws(() => pages.alloc(), { name: 'Errno', message: /ENOMEM/ });
  t.is(pages.tryRun(1), -1);
  for (const pfn of seen) pages.free(pfn);
  t.is(pages.freePages, total);
  t.true(pages.tryRun(512) >= 0);
});

test('frames are zeroed when they are handed out', (t) => {
  const { ram, pages } = allocator();
  const pfn = pages.alloc();
  ram.bytes.fill(0xff, pfn * 4096, pfn * 4096 + 4096);
  pages.free(pfn);
  const again = pages.alloc();
  t.is(again, pfn);
  t.true(ram.bytes.subarray(pfn * 4096, pfn * 4096 + 4096).every((b) => b === 0));
});

test('the seed decides the order of the blocks, and nothing else does', (t) => {
  const order = (seed: number): number[] => {
    const { pages } = allocator(seed, 64);
    return Array.from({ length: 31 }, () => pages.allocRun(512) / 512);
  };
  t.deepEqual(order(1), order(1));
  t.notDeepEqual(order(1), order(2));
  t.deepEqual(
    order(1).toSorted((a, b) => a - b),
    Array.from({ length: 31 }, (_, i) => i + 1),
  );
});

test('single frames come from broken blocks, so that whole ones are kept', (t) => {
  const { pages } = allocator();
  const first = pages.alloc();
  // The half block above the first MiB is broken from the start.
  t.true(first >= 256 && first < 512);
  let runs = 0;
  while (pages.tryRun(512) >= 0) runs++;
  t.is(runs, 7);
});

test('runs are contiguous and aligned; more than a block are whole blocks in a row', (t) => {
  const { pages } = allocator();
  const four = pages.allocRun(4);
  t.is(four % 4, 0);
  const three = pages.allocRun(3);
  t.is(three % 4, 0);
  const two = pages.allocRun(1024);
  t.is(two % 512, 0);
  t.is(pages.tryRun(512 * 7), -1);
  t.throws(() => pages.allocRun(512 * 8), { name: 'Errno' });
  const before = pages.freePages;
  pages.freeRun(two, 1024);
  t.is(pages.freePages, before + 1024);
  t.throws(() => pages.tryRun(0), { instanceOf: RangeError });
});

test('a block whose frames all came back is whole again', (t) => {
  const { pages } = allocator(1, 4);
  const block = pages.allocRun(512);
  t.is(pages.tryRun(512), -1);
  pages.freeRun(block, 512);
  const frames = Array.from({ length: 300 }, () => pages.alloc());
  t.is(pages.tryRun(512), -1);
  for (const pfn of frames) pages.free(pfn);
  t.is(pages.allocRun(512), block);
});

test('a frame freed while pinned is reused only after the last unpin', (t) => {
  const { pages } = allocator();
  const pfn = pages.alloc();
  const free = pages.freePages;
  pages.pin(pfn);
  pages.pin(pfn);
  t.is(pages.pinned, 1);
  t.is(pages.pinsOf(pfn), 2);
  pages.free(pfn);
  t.is(pages.freePages, free);
  pages.unpin(pfn);
  t.is(pages.freePages, free);
  t.is(pages.pinned, 1);
  pages.unpin(pfn);
  t.is(pages.pinned, 0);
  t.is(pages.freePages, free + 1);
});

test('what only a broken model would do throws', (t) => {
  const { pages } = allocator();
  const pfn = pages.alloc();
  t.throws(() => pages.unpin(pfn), { message: /not pinned/ });
  pages.pin(pfn);
  pages.free(pfn);
  t.throws(() => pages.free(pfn), { message: /not in use/ });
  pages.unpin(pfn);
  t.throws(() => pages.free(pfn), { message: /not in use/ });
  t.throws(() => pages.pin(pfn), { message: /not in use/ });
  t.throws(() => pages.free(0), { message: /not in use/ });
  t.throws(() => pages.free(1e9), { message: /not in use/ });
  t.throws(() => pages.unpin(-1), { message: /not pinned/ });
});

test('any sequence of calls keeps runs disjoint and the count of free frames right', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -5, max: 700 }), { maxLength: 120 }), (steps) => {
      const { pages } = allocator(7, 8);
      const total = pages.freePages;
      const held: { pfn: number; count: number }[] = [];
      const used = new Set<number>();
      for (const step of steps) {
        if (step <= 0) {
          const run = held.splice(-step % Math.max(1, held.length), 1)[0];
          if (run === undefined) continue;
          pages.freeRun(run.pfn, run.count);
          for (let i = 0; i < run.count; i++) used.delete(run.pfn + i);
        } else {
          const pfn = pages.tryRun(step);
          if (pfn < 0) continue;
          held.push({ pfn, count: step });
          for (let i = 0; i < step; i++) {
            if (used.has(pfn + i)) return false;
            used.add(pfn + i);
          }
        }
        if (pages.freePages !== total - used.size) return false;
      }
      return true;
    }),
    { numRuns: 50 },
  );
  t.pass();
});

test('a block list removes from anywhere', (t) => {
  const list = new BlockList(8);
  for (const block of [3, 5, 7]) list.push(block);
  list.remove(3);
  t.false(list.has(3));
  t.deepEqual([list.item(0), list.item(1), list.length], [7, 5, 2]);
  list.remove(5);
  list.remove(7);
  t.is(list.length, 0);
  t.false(list.has(100));
});
