import test from 'ava';
import { buildSdt, checksum } from '../../../devices/spec/acpi.ts';
import { buildDmar, DmarFlag, parseDmar, ScopeType } from '../../../devices/spec/dmar.ts';

const endpoint = {
  type: ScopeType.ENDPOINT,
  enumerationId: 0,
  startBus: 0,
  path: [{ device: 1, fn: 0 }],
};
const behindBridge = {
  type: ScopeType.ENDPOINT,
  enumerationId: 0,
  startBus: 2,
  path: [
    { device: 3, fn: 1 },
    { device: 0, fn: 7 },
  ],
};
const ioapic = { ...endpoint, type: ScopeType.IOAPIC, enumerationId: 9 };
const unit = {
  segment: 0,
  registerBase: 0xfed9_0000,
  registerBytes: 4096,
  includeAll: false,
  scopes: [ioapic, endpoint],
};

test('the smallest table has its fields at the specified offsets', (t) => {
  const bytes = buildDmar({ hostAddressWidth: 46, drhds: [{ ...unit, scopes: [endpoint] }] });
  t.is(bytes.length, 48 + 16 + 8);
  t.is(checksum(bytes), 0);
  t.deepEqual([...bytes.subarray(36, 38)], [45, 0]);
  t.deepEqual(
    [...bytes.subarray(48)],
    [0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 1, 0],
  );
});

test('units, ATSR and SATC read back', (t) => {
  const dmar = {
    hostAddressWidth: 52,
    flags: DmarFlag.INTR_REMAP | DmarFlag.DMA_CTRL_OPT_IN,
    drhds: [
      unit,
      { ...unit, segment: 1, registerBase: 0xfed9_1000, registerBytes: 16384, scopes: [] },
      { ...unit, includeAll: true, scopes: [behindBridge] },
    ],
    atsrs: [
      { segment: 0, allPorts: true, scopes: [] },
      { segment: 1, allPorts: false, scopes: [{ ...behindBridge, type: ScopeType.BRIDGE }] },
    ],
    satcs: [{ segment: 0, atcRequired: true, scopes: [endpoint] }],
  };
  t.deepEqual(parseDmar(buildDmar(dmar)), dmar);
});

/** A DMAR table whose structures are these bytes. */
function withStructures(...structures: number[]): Uint8Array {
  return buildSdt('DMAR', 1, Uint8Array.of(45, 0, ...new Array<number>(10).fill(0), ...structures));
}

test('unknown structures are skipped', (t) => {
  const dmar = parseDmar(withStructures(9, 0, 6, 0, 1, 2, 2, 0, 8, 0, 1, 0, 0, 0));
  t.deepEqual(dmar.atsrs, [{ segment: 0, allPorts: true, scopes: [] }]);
  t.deepEqual(dmar.drhds, []);
});

test('a broken table is refused by the rule it breaks', (t) => {
  const base = [0, 0, 0xd9, 0xfe, 0, 0, 0, 0];
  const cases: [RegExp, Uint8Array][] = [
    [/header is cut off/, buildSdt('DMAR', 1, new Uint8Array(11))],
    [/structure header is cut off/, withStructures(0, 0, 4)],
    [/type 9 has length 0/, withStructures(9, 0, 0, 0)],
    [/type 9 has length 8/, withStructures(9, 0, 8, 0, 0, 0, 0)],
    [/DRHD of 8 bytes/, withStructures(0, 0, 8, 0, 0, 0, 0, 0)],
    [/DRHD register base 0x0/, withStructures(0, 0, 16, 0, ...new Array<number>(12).fill(0))],
    [/ATSR of 4 bytes/, withStructures(2, 0, 4, 0)],
    [/SATC of 6 bytes/, withStructures(5, 0, 6, 0, 0, 0)],
    [/scope has length 0/, withStructures(0, 0, 18, 0, 0, 0, 0, 0, ...base, 1, 0)],
    [/scope has length 0/, withStructures(0, 0, 17, 0, 0, 0, 0, 0, ...base, 1)],
    [/scope has length 8/, withStructures(0, 0, 22, 0, 0, 0, 0, 0, ...base, 1, 8, 0, 0, 0, 0)],
    [/scope has length 7/, withStructures(2, 0, 15, 0, 0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0)],
  ];
  for (const [message, bytes] of cases) {
    t.throws(() => parseDmar(bytes), { instanceOf: RangeError, message });
  }
  const odd = { ...unit, registerBytes: 5000 };
  t.throws(() => buildDmar({ hostAddressWidth: 46, drhds: [odd] }), { message: /5000 bytes/ });
});
