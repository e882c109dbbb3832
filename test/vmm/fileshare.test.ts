import test from 'ava';
import {
  FILESHARE_COMMAND,
  FILESHARE_MAGIC,
  FILESHARE_REG,
  FILESHARE_STATUS,
  FILESHARE_WINDOW_BYTES,
} from '../../devices/spec/fileshare.ts';
import { PciHeader } from '../../devices/spec/pci.ts';
import { BarAllocator } from '../../vmm/bar-windows.ts';
import { FileShare } from '../../vmm/fileshare.ts';
import { MemoryMap } from '../../vmm/memory-map.ts';
import { FakeHost } from './fake-host.ts';

function share(input: Uint8Array, outputs = 2) {
  const sys = new FakeHost();
  const window = sys.run(sys.mmap(FILESHARE_WINDOW_BYTES, 3, 0x22, -1, 0));
  const map = new MemoryMap();
  const { memory } = sys;
  const bars = new BarAllocator();
  const fs = new FileShare({ rid: 0x10, map, memory, window, input, outputs, bars });
  const command = (value: number, offset: number, length: number, output = 0): bigint => {
    sys.run(fs.write(FILESHARE_REG.OFFSET, 8, BigInt(offset)));
    sys.run(fs.write(FILESHARE_REG.LENGTH, 4, BigInt(length)));
    sys.run(fs.write(FILESHARE_REG.OUTPUT, 4, BigInt(output)));
    sys.run(fs.write(FILESHARE_REG.COMMAND, 4, BigInt(value)));
    return sys.run(fs.read(FILESHARE_REG.STATUS, 4));
  };
  return { sys, fs, map, window, command };
}

const { READ, WRITE } = FILESHARE_COMMAND;
const STATUS = Object.fromEntries(
  Object.entries(FILESHARE_STATUS).map(([name, value]) => [name, BigInt(value)]),
) as Record<keyof typeof FILESHARE_STATUS, bigint>;

test('a file is read through the window, a piece at a time', (t) => {
  const { sys, fs, window, command } = share(new Uint8Array([1, 2, 3, 4, 5]));
  t.is(sys.run(fs.read(FILESHARE_REG.MAGIC, 4)), BigInt(FILESHARE_MAGIC));
  t.is(sys.run(fs.read(FILESHARE_REG.FILE_SIZE, 8)), 5n);
  t.is(command(READ, 3, 2), STATUS.OK);
  t.is(sys.memory.load(window, 2), 0x0504n);
  t.is(command(READ, 4, 2), STATUS.OUT_OF_RANGE);
  t.is(command(7, 0, 1), STATUS.BAD_COMMAND);
});

test('outputs grow up to the size of the input; one that was never written is null', (t) => {
  const { sys, fs, window, command } = share(new Uint8Array(6));
  sys.memory.write(window, new Uint8Array([9, 8]));
  t.is(command(WRITE, 3, 2, 1), STATUS.OK);
  t.is(command(WRITE, 0, 1, 1), STATUS.OK);
  t.deepEqual(fs.results(), [null, new Uint8Array([9, 0, 0, 9, 8])]);
  t.is(command(WRITE, 5, 2, 1), STATUS.OUT_OF_RANGE);
  t.is(command(WRITE, 0, 1, 2), STATUS.BAD_OUTPUT);
  t.is(command(WRITE, 2 ** 52, 1, 1), STATUS.OUT_OF_RANGE);
});

test('an empty file has an empty output', (t) => {
  const { fs, command } = share(new Uint8Array(0));
  t.is(command(READ, 0, 0), STATUS.OK);
  t.is(command(WRITE, 0, 0, 0), STATUS.OK);
  t.deepEqual(fs.results(), [new Uint8Array(0), null]);
});

test('more than the window is refused', (t) => {
  const { command } = share(new Uint8Array(2 * FILESHARE_WINDOW_BYTES));
  t.is(command(READ, 0, FILESHARE_WINDOW_BYTES), STATUS.OK);
  t.is(command(READ, 0, FILESHARE_WINDOW_BYTES + 1), STATUS.OUT_OF_RANGE);
});

test('BARs size, move and switch off', (t) => {
  const { sys, fs, map } = share(new Uint8Array(1));
  const bar = sys.run(fs.configRead(PciHeader.BAR2, 4));
  t.is(map.find(bar)?.kind, 'memory');
  sys.run(fs.configWrite(PciHeader.BAR2, 4, 0xffff_ffff));
  t.is(sys.run(fs.configRead(PciHeader.BAR2, 4)), 0xfff0_0000);
  sys.run(fs.configWrite(PciHeader.BAR2, 4, 0xd000_0000));
  t.is(map.find(0xd00f_ffff)?.kind, 'memory');
  t.is(map.find(bar), null);
  sys.run(fs.configWrite(PciHeader.COMMAND, 2, 0));
  t.is(map.find(0xd000_0000), null);
});
