import test from 'ava';

import { PageAllocator } from '../../../guest/mm/page-alloc.ts';
import { FakeCpu } from '../machine/cpu.ts';

test('frames come from the ranges, without low memory and reserved pages, and zeroed', (t) => {
  const cpu = new FakeCpu(4 << 20);
  cpu.ram.fill(0xaa);
  const ranges = [
    { start: 0, bytes: 0x10_3000 },
    { start: 0x20_0800, bytes: 0x3000 },
  ];
  const pages = new PageAllocator(cpu, ranges, [{ start: 0x10_1010, bytes: 8 }]);
  t.is(pages.totalPages, 4);
  const frames = Array.from({ length: 4 }, () => pages.alloc());
  t.deepEqual(frames, [0x10_0000, 0x10_2000, 0x20_1000, 0x20_2000]);
  t.true(frames.every((frame) => cpu.ram.subarray(frame, frame + 4096).every((b) => b === 0)));
  t.is(pages.freePages, 0);
  t.throws(() => pages.alloc(), { message: /ENOMEM/ });
  pages.free(0x10_2000);
  t.is(pages.alloc(), 0x10_2000);
});

test('a run is contiguous; what it skips still serves single pages', (t) => {
  const cpu = new FakeCpu(8 << 20);
  const ranges = [
    { start: 0x10_0000, bytes: 0x2000 },
    { start: 0x20_0000, bytes: 0x8000 },
  ];
  const pages = new PageAllocator(cpu, ranges, []);
  t.is(pages.allocRun(4), 0x20_0000);
  t.is(pages.freePages, 6);
  const rest = Array.from({ length: 6 }, () => pages.alloc());
  t.is(new Set(rest).size, 6);
  t.true(rest.includes(0x10_0000) && rest.includes(0x10_1000));
});

test('promises are strict and name what is left', (t) => {
  const pages = new PageAllocator(new FakeCpu(1 << 20), [{ start: 1 << 20, bytes: 1 << 20 }], []);
  pages.commit(100);
  t.throws(() => pages.commit(100), { message: /409600 bytes asked for, 114688 left/ });
  pages.uncommit(100);
  t.notThrows(() => pages.commit(128));
});
