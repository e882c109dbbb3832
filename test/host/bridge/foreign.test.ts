import test from 'ava';
import { type Backing, ForeignFrames } from '../../../host/bridge/foreign.ts';

class Bytes implements Backing {
  readonly bytes = new Uint8Array(1 << 16);
  gone = false;

  read(at: number, into: Uint8Array): boolean {
    into.set(this.bytes.subarray(at, at + into.length));
    return !this.gone;
  }

  write(at: number, from: Uint8Array): boolean {
    if (!this.gone) this.bytes.set(from, at);
    return !this.gone;
  }
}

test('two pins of one page are one frame; neighbours are neighbours', (t) => {
  const frames = new ForeignFrames();
  const memory = new Bytes();
  const pfn = frames.pin(memory, 3);
  t.is(frames.pin(memory, 3), pfn);
  t.is(frames.pin(memory, 4), pfn + 1);
  t.is(frames.pinned, 2);
  frames.unpin(pfn);
  t.is(frames.pinned, 2);
  frames.unpin(pfn);
  frames.unpin(pfn + 1);
  t.is(frames.pinned, 0);
  t.false(frames.holds(memory));
  t.throws(() => frames.unpin(pfn));
});

test('bytes go through, and memory that is gone says so', (t) => {
  const frames = new ForeignFrames();
  const memory = new Bytes();
  const address = frames.pin(memory, 1) * 4096;
  t.true(frames.contains(address, 4096));
  t.false(frames.contains(address, 4097));
  t.true(frames.write(address + 10, Uint8Array.of(1, 2, 3)));
  t.deepEqual(memory.bytes.subarray(4106, 4109), Uint8Array.of(1, 2, 3));
  memory.gone = true;
  t.false(frames.write(address, Uint8Array.of(9)));
  frames.unpin(address / 4096);
  t.false(frames.read(address, new Uint8Array(1)));
});

test('pages that leave their place stay the same for their pins, and are new for the next', (t) => {
  const frames = new ForeignFrames();
  const memory = new Bytes();
  const [first, second, third] = [2, 3, 4].map((page) => frames.pin(memory, page) * 4096);
  const byte = (address: number): number => {
    const into = new Uint8Array(1);
    t.true(frames.read(address, into));
    return into[0]!;
  };
  memory.bytes.set([21], 2 * 4096);
  memory.bytes.set([31], 3 * 4096);
  memory.bytes.set([41], 4 * 4096);
  frames.leave(memory, 2, 3, -1);
  memory.bytes.fill(0, 2 * 4096, 3 * 4096);
  t.is(byte(first!), 21);
  t.true(frames.write(first!, Uint8Array.of(22)));
  t.is(memory.bytes[2 * 4096], 0);
  // Over the border of what left and what stayed.
  const both = new Uint8Array(8192);
  t.true(frames.read(first!, both));
  t.deepEqual([both[0], both[4096]], [22, 31]);
  // The same address is another page now; its neighbour is the page that it was.
  const again = frames.pin(memory, 2) * 4096;
  t.not(again, first);
  t.is(frames.pin(memory, 3) * 4096, second!);
  t.deepEqual([frames.pinsOf(memory, 2), frames.pinsOf(memory, 3)], [1, 2]);
  t.is(byte(again), 0);
  // Moved, and then gone from there.
  frames.leave(memory, 4, 5, 9);
  memory.bytes.set([42], 9 * 4096);
  t.is(byte(third!), 42);
  frames.leave(memory, 9, 10, -1);
  memory.bytes.set([43], 9 * 4096);
  t.is(byte(third!), 42);
  // What cannot be read when it leaves is lost, and says so.
  memory.gone = true;
  frames.leave(memory, 3, 4, -1);
  memory.gone = false;
  t.false(frames.read(second!, new Uint8Array(1)));
  for (const address of [first, second, second, third, again]) frames.unpin(address! / 4096);
  t.is(frames.pinned, 0);
  t.false(frames.holds(memory));
});
