/** A program's files in memory as the kernel pins them. The program is this process. */
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { ForeignFrames } from '../../../host/bridge/foreign.ts';
import { MemoryFile } from '../../../host/bridge/memory-file.ts';
import { ProcessMemory } from '../../../host/bridge/process-memory.ts';
import { SharedObjects } from '../../../host/bridge/shared-objects.ts';

const PAGE = 4096;

/** A file in memory, open in this process, and what the bridge has of it. */
function setup(bytes: number) {
  const frames = new ForeignFrames();
  const shared = new SharedObjects(frames);
  const memory = new ProcessMemory(process.pid, { now: 0 });
  const directory = mkdtempSync('/dev/shm/vsva-test-');
  const fd = openSync(join(directory, 'file'), 'w+');
  rmSync(directory, { recursive: true });
  ftruncateSync(fd, bytes);
  const open = (of = fd): MemoryFile | undefined => MemoryFile.open(of, memory, frames, shared);
  return { frames, fd, open, memory };
}

test('pages are pinned by their place in the file, whoever opened it; DMA lands in them', (t) => {
  const { frames, fd, open, memory } = setup(3 * PAGE);
  const [one, two] = [open()!, open()!];
  const pfns = one.pin(0, 3);
  t.deepEqual([...two.pin(1, 1)], [pfns[1]]);
  t.is(frames.pinned, 3);
  closeSync(fd);
  t.true(frames.write(pfns[1]! * PAGE + 5, Uint8Array.of(1, 2, 3)));
  t.deepEqual([...one.read(PAGE + 4, 5)], [0, 1, 2, 3, 0]);
  two.write(PAGE + 4, Uint8Array.of(9));
  const seen = new Uint8Array(2);
  t.true(frames.read(pfns[1]! * PAGE + 4, seen));
  t.deepEqual([...seen], [9, 1]);
  one.unpin(pfns);
  t.is(frames.pinned, 1);
  two.unpin([pfns[1]!]);
  t.is(frames.pinned, 0);
  one.release();
  two.release();
  memory[Symbol.dispose]();
});

test('beyond the end: EINVAL for pins, EFAULT for bytes; the program sees what is written', (t) => {
  const { fd, open, memory } = setup(PAGE + 100);
  const file = open()!;
  t.is(file.bytes, PAGE + 100);
  t.throws(() => file.pin(1, 2), { message: /EINVAL/ });
  t.throws(() => file.pin(2, 1), { message: /EINVAL/ });
  t.throws(() => file.read(PAGE, 101), { message: /EFAULT/ });
  t.throws(() => file.write(PAGE + 100, Uint8Array.of(1)), { message: /EFAULT/ });
  file.write(PAGE, Uint8Array.of(7));
  const bytes = new Uint8Array(1);
  readSync(fd, bytes, 0, 1, PAGE);
  t.is(bytes[0], 7);
  file.release();
  closeSync(fd);
  memory[Symbol.dispose]();
});

test('what is no file in memory is not opened', (t) => {
  const { fd, open, memory } = setup(PAGE);
  t.is(open(9999), undefined);
  const zero = openSync('/dev/zero', 'r+');
  t.is(open(zero), undefined);
  const directory = mkdtempSync(join(tmpdir(), 'vsva-test-'));
  const plain = openSync(join(directory, 'file'), 'w+');
  writeSync(plain, 'text');
  const onDisk = open(plain);
  // Where temporary files are in memory, too, it is one.
  if (onDisk !== undefined) t.deepEqual([...onDisk.read(0, 4)], [...Buffer.from('text')]);
  onDisk?.release();
  rmSync(directory, { recursive: true });
  for (const each of [fd, zero, plain]) closeSync(each);
  memory[Symbol.dispose]();
});
