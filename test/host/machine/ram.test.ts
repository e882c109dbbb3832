import test from 'ava';
import { Ram } from '../../../host/machine/ram.ts';

test('all views show the same little-endian bytes', (t) => {
  const ram = new Ram(1 << 20);
  ram.write64(0x1000, 0x8877_6655_4433_2211n);
  t.is(ram.read32(0x1000), 0x4433_2211);
  t.is(ram.read32(0x1004), 0x8877_6655 | 0);
  t.is(ram.bytes[0x1007], 0x88);
  t.is(ram.words[0x400], 0x4433_2211);
  ram.write32(0x1004, -1);
  t.is(ram.read64(0x1000), 0xffff_ffff_4433_2211n);
  ram.write(0x1002, Uint8Array.of(1, 2, 3));
  const back = new Uint8Array(4);
  ram.read(0x1001, back);
  t.deepEqual([...back], [0x22, 1, 2, 3]);
});

test('contains knows the end and the holes', (t) => {
  const small = new Ram(1 << 20);
  t.true(small.contains(0, 1 << 20));
  t.false(small.contains(1, 1 << 20));
  t.false(small.contains(-1, 1));
  t.false(small.contains(NaN, 1));
  const big = new Ram(5 * 2 ** 30);
  t.true(big.contains(0xb000_0000 - 1, 1));
  t.false(big.contains(0xb000_0000 - 1, 2));
  t.false(big.contains(0xb00f_ffff, 1));
  t.true(big.contains(0xb010_0000, 1));
  t.false(big.contains(0xfec0_0000, 1));
  t.false(big.contains(0xffff_ffff, 2));
  t.true(big.contains(2 ** 32, 2 ** 30));
  t.deepEqual(big.ranges, [
    { start: 0, end: 0xb000_0000 },
    { start: 0xb010_0000, end: 0xfec0_0000 },
    { start: 2 ** 32, end: 5 * 2 ** 30 },
  ]);
  t.deepEqual(small.ranges, [{ start: 0, end: 1 << 20 }]);
});

test('RAM beyond 4 GiB is reached', (t) => {
  const ram = new Ram(2 ** 33);
  const address = 2 ** 33 - 8;
  ram.write64(address, 0x0102_0304_0506_0708n);
  t.is(ram.read32(address + 4), 0x0102_0304);
  t.is(ram.read64(address), 0x0102_0304_0506_0708n);
});

test('sizes that are no whole pages or too large are refused', (t) => {
  for (const bytes of [0, 4095, 4097, 2 ** 33 + 4096, -4096]) {
    t.throws(() => new Ram(bytes), { instanceOf: RangeError });
  }
});
