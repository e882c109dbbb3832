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
