import test from 'ava';
import { parseMcfg, parseRsdp, parseXsdt } from '../../../devices/spec/acpi.ts';
import { parseDmar } from '../../../devices/spec/dmar.ts';
import { PciHeader } from '../../../devices/spec/pci.ts';
import { runFirmware } from '../../../host/machine/firmware.ts';
import { Ram } from '../../../host/machine/ram.ts';
import { FakeFunction } from './fakes.ts';

function boot(haw = 46) {
  const ram = new Ram(64 << 20);
  const functions = [new FakeFunction(8), new FakeFunction(16)];
  return { ram, functions, info: runFirmware({ ram, functions, registerBytes: 0x1000, haw }) };
}

const barOf = (fn: FakeFunction, bar: number): number =>
  (fn.configRead(PciHeader.BAR0 + 4 * bar, 4) & ~0xf) +
  fn.configRead(PciHeader.BAR0 + 4 * bar + 4, 4) * 2 ** 32;

test('every BAR gets its own aligned place above RAM and below the address width', (t) => {
  for (const haw of [39, 46, 52]) {
    const { functions } = boot(haw);
    const places = functions
      .flatMap((fn) => [0, 2].map((bar) => ({ at: barOf(fn, bar), size: fn.barSize(bar) })))
      .sort((a, b) => a.at - b.at);
    t.is(places.length, 4);
    places.forEach(({ at, size }, i) => {
      t.is(at % size, 0);
      t.true(at >= 2 ** 33 && at + size <= 2 ** haw);
      const before = places[i - 1];
      t.true(before === undefined || before.at + before.size <= at);
    });
  }
  t.is(barOf(boot().functions[0]!, 0), 0x3800_0000_0000);
});

test('decoding and bus mastering are left to the kernel', (t) => {
  t.is(boot().functions[0]!.configRead(PciHeader.COMMAND, 2), 0);
});

test('the ACPI tables describe the unit, configuration space and the ATS devices', (t) => {
  const { ram, info } = boot();
  const from = (at: number): Uint8Array => ram.bytes.subarray(at, at + 4096);
  const { xsdt } = parseRsdp(from(info.rsdp));
  const [mcfg, dmar] = parseXsdt(from(xsdt));
  t.deepEqual(parseMcfg(from(mcfg!)), [{ base: 0xb000_0000, segment: 0, startBus: 0, endBus: 0 }]);
  const tables = parseDmar(from(dmar!));
  t.is(tables.hostAddressWidth, 46);
  t.like(tables.drhds[0], { registerBase: 0xfed9_0000, registerBytes: 0x1000, includeAll: true });
  t.true(tables.atsrs[0]!.allPorts);
  t.deepEqual(
    tables.satcs[0]!.scopes.map(({ startBus, path }) => ({ startBus, path })),
    [
      { startBus: 0, path: [{ device: 1, fn: 0 }] },
      { startBus: 0, path: [{ device: 2, fn: 0 }] },
    ],
  );
});

test("the kernel gets the RAM that is not the firmware's", (t) => {
  const { info } = boot();
  t.deepEqual(info.usable, [{ start: 1 << 20, end: 64 << 20 }]);
});
