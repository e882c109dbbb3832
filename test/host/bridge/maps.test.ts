import test from 'ava';
import { Maps, parseLine } from '../../../host/bridge/maps.ts';

test('a line of maps', (t) => {
  const line =
    '7f00a000-7f00c000 rw-s 00003000 00:01 1027                       /memfd:x (deleted)';
  t.deepEqual(parseLine(line), {
    start: 0x7f00a000,
    end: 0x7f00c000,
    readable: true,
    writable: true,
    shared: true,
    offset: 0x3000,
    object: '00:01:1027',
  });
});

test('memory of the kernel in the process is not for devices', (t) => {
  t.false(parseLine('7ff0000-7ff4000 r--p 00000000 00:00 0      [vvar]')?.readable);
});

test('this process: its own mappings may be read, page 0 may not', (t) => {
  using maps = new Maps(process.pid, { now: 0 });
  const [first] = maps.covering(0x400000, 0x400001);
  t.false(maps.allows(0, 4096, false));
  if (first !== undefined) t.true(first.end > 0x400000);
});
