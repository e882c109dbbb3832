import test from 'ava';
import { GuestMemory } from '../../vmm/guest-memory.ts';
import type { MmioHandler, Range } from '../../vmm/memory-map.ts';
import { MemoryMap } from '../../vmm/memory-map.ts';
import { FakeHost } from './fake-host.ts';

const handler = {} as MmioHandler;
const ram = (start: number, bytes: number, hva: number): Range => ({
  kind: 'ram',
  start,
  bytes,
  hva,
});

test('ranges are found by address; holes are null', (t) => {
  const map = new MemoryMap();
  const low = ram(0, 0x10000, 0x100000);
  const trap = { kind: 'trap', start: 0xfed9_0000, bytes: 0x1000, handler } as const;
  t.true(map.add(trap));
  t.true(map.add(low));
  t.is(map.find(0xffff), low);
  t.is(map.find(0x10000), null);
  t.is(map.find(0xfed9_0fff), trap);
  t.is(map.find(0xfed9_1000), null);
  t.is(map.find(-1), null);
  t.is(map.find(NaN), null);
});

test('an overlap is refused and changes nothing', (t) => {
  const map = new MemoryMap();
  map.add(ram(0x1000, 0x1000, 0));
  for (const [start, bytes] of [
    [0x1000, 0x1000],
    [0x1fff, 1],
    [0, 0x1001],
    [0, 0x10000],
    [0x5000, 0],
    [2 ** 52 - 0x1000, 0x2000],
  ] as const) {
    t.false(map.add({ kind: 'trap', start, bytes, handler }), `${start}+${bytes}`);
  }
  t.is(map.ranges.length, 1);
  t.true(map.add(ram(0x2000, 0x1000, 0)), 'adjacent is no overlap');
});

test('a removed range is a hole at once', (t) => {
  const map = new MemoryMap();
  const range = ram(0, 0x1000, 0x5000);
  map.add(range);
  t.is(map.ram(0x10, 4), 0x5010);
  map.remove(range);
  t.is(map.ram(0x10, 4), -1);
});

test('RAM, device memory and plain memory are told apart, and lengths are checked', (t) => {
  const map = new MemoryMap();
  map.add(ram(0, 0x1000, 0x5000));
  map.add({ kind: 'device', start: 0x1000, bytes: 0x1000, hva: 0x9000 });
  map.add({ kind: 'memory', start: 0x2000, bytes: 0x1000, hva: 0xd000 });
  t.is(map.ram(0xffc, 4), 0x5ffc);
  t.is(map.ram(0xffd, 4), -1, 'crosses into another range');
  t.is(map.ram(0x1000, 4), -1);
  t.is(map.device(0x1040, 64), 0x9040);
  t.is(map.memory(0x2000, 4), 0xd000);
  t.is(map.memory(0x1000, 4), -1);
  t.is(map.ram(0, -1), -1);
});

test('the virtual unit reaches guest RAM and nothing else', (t) => {
  const sys = new FakeHost();
  const hva = sys.run(sys.mmap(0x2000, 3, 0x22, -1, 0));
  const map = new MemoryMap();
  map.add(ram(0, 0x1000, hva));
  const memory = new GuestMemory(map, sys.memory);
  sys.memory.store(hva + 0x1000, 8, 0x1234n);
  memory.write64(0xff8, -1n);
  t.is(memory.read64(0xff8), 2n ** 64n - 1n);
  t.is(memory.read32(0xffc), -1);
  t.true(memory.contains(0, 0x1000));
  t.false(memory.contains(0x1000, 8));
  t.false(memory.contains(0xffc, 8));
  memory.write64(0x1000, 5n);
  memory.write(0xfff, new Uint8Array(2));
  t.is(sys.memory.load(hva + 0x1000, 8), 0x1234n);
  t.is(memory.read64(0x1000), 0n);
});
