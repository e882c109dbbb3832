import { Bench, type BenchOptions, SID } from './bench.ts';
import { faultId } from './fault-rules.ts';
import { rule } from './rule.ts';

const COMPAT = 0xfee0_1000;
/** Remappable format of an index below 2^15. */
const remappable = (index: number): number => 0xfee0_0010 + index * 32;

interface Ready {
  bench: Bench;
  table: bigint;
}

function ready(options: BenchOptions = {}): Ready {
  const bench = new Bench(options);
  const table = bench.tables.page();
  bench.w64(0xb8, table | 3n);
  bench.gcmd(0x0100_0000, true);
  bench.gcmd(0x0200_0000, true);
  return { bench, table };
}

/** Vector 0x45 to APIC 3, for SID alone. */
const LOW = 1n | (0x45n << 16n) | (0x300n << 32n);
const HIGH = BigInt(SID) | (1n << 18n);

rule(['IR-1', 'FR-29'], 'remapping off: compatibility messages pass, nothing else does', (t) => {
  const bench = new Bench();
  t.true(bench.unit.interruptRequest(SID, COMPAT, 0x41));
  t.false(bench.unit.interruptRequest(SID, remappable(1), 0));
  t.is(bench.takeFault()?.code, 0x29);
  t.false(bench.unit.interruptRequest(SID, 0x1000, 0));
  t.is(bench.takeFault()?.code, 0x29);
});

rule(['IR-2', 'FR-25'], 'compatibility messages are blocked unless CFI', (t) => {
  const { bench, table } = ready();
  t.false(bench.unit.interruptRequest(SID, COMPAT, 0x41));
  t.is(bench.takeFault()?.code, 0x25);
  bench.gcmd(0x0080_0000, true);
  t.true(bench.unit.interruptRequest(SID, COMPAT, 0x41));
  bench.w64(0xb8, table | 0x803n);
  bench.gcmd(0x0100_0000, true);
  t.false(bench.unit.interruptRequest(SID, COMPAT, 0x41), 'with EIME nothing allows them');
  t.is(bench.takeFault()?.code, 0x25);
});

rule('IR-3', 'a remapped message goes out in its new form', (t) => {
  const { bench, table } = ready();
  bench.tables.write(table + 5n * 16n, LOW);
  bench.tables.write(table + 5n * 16n + 8n, HIGH);
  t.false(bench.unit.interruptRequest(SID, remappable(5), 0));
  t.deepEqual(bench.msis, [{ address: 0xfee0_3000, data: 0x45 }]);
  t.false(bench.unit.interruptRequest(SID, remappable(3) + 8, 2));
  t.is(bench.msis.length, 2, 'handle plus subhandle');
});

const rows: {
  name: string;
  code: number;
  low: bigint;
  high: bigint;
  address?: number;
  data?: number;
  sid?: number;
}[] = [
  {
    name: 'reserved data',
    code: 0x20,
    low: LOW,
    high: HIGH,
    address: remappable(5) + 8,
    data: 0x1_0000,
  },
  { name: 'index beyond the table', code: 0x21, low: LOW, high: HIGH, address: remappable(16) },
  { name: 'not present', code: 0x22, low: 0n, high: 0n },
  { name: 'reserved', code: 0x24, low: LOW | (1n << 12n), high: HIGH },
  { name: 'posted, which the unit lacks', code: 0x24, low: LOW | (1n << 15n), high: HIGH },
  { name: 'wide destination without EIME', code: 0x24, low: LOW | (1n << 60n), high: HIGH },
  { name: 'another source', code: 0x26, low: LOW, high: HIGH, sid: SID + 1 },
];

for (const { name, code, low, high, address = remappable(5), data = 0, sid = SID } of rows) {
  rule([faultId(code), 'FPD-1'], `${code.toString(16)}h ${name}`, (t) => {
    const { bench, table } = ready();
    bench.tables.write(table + 80n, low);
    bench.tables.write(table + 88n, high);
    t.false(bench.unit.interruptRequest(sid, address, data));
    t.deepEqual(bench.msis, []);
    t.like(bench.takeFault(), { code, sid, hasPasid: false });
    bench.tables.or(table + 80n, 2n);
    bench.unit.interruptRequest(sid, address, data);
    const silent = code === 0x22 || code === 0x24 || code === 0x26;
    t.is(bench.takeFault()?.code, silent ? undefined : code);
  });
}

rule(
  ['FR-23', 'FR-21', 'REG-SIRTP-1', 'LOG-9'],
  '23h: a table that is nowhere; the index stands in the record',
  (t) => {
    const { bench } = ready();
    bench.w64(0xb8, (1n << 40n) | 3n);
    t.false(bench.unit.interruptRequest(SID, remappable(99), 0), 'not latched yet');
    t.is(bench.takeFault()?.code, 0x21);
    bench.gcmd(0x0100_0000, true);
    bench.unit.interruptRequest(SID, remappable(7), 0);
    t.like(bench.takeFault(), { code: 0x23, address: 7n << 48n });
  },
);

rule('IR-4', 'source validation by bus range and by function mask', (t) => {
  // Setting the table again drops the cached entries.
  const { bench, table } = ready({ cap: { ESIRTPS: 1 } });
  const changed = (): void => bench.gcmd(0x0100_0000, true);
  bench.tables.write(table + 80n, LOW);
  bench.tables.write(table + 88n, 0x0203n | (2n << 18n));
  for (const [sid, sent] of [
    [0x0100, 0],
    [0x0200, 1],
    [0x03ff, 2],
    [0x0400, 2],
  ] as const) {
    bench.unit.interruptRequest(sid, remappable(5), 0);
    t.is(bench.msis.length, sent);
  }
  bench.tables.write(table + 88n, BigInt(SID) | (3n << 16n) | (1n << 18n));
  changed();
  bench.unit.interruptRequest(SID + 7, remappable(5), 0);
  t.is(bench.msis.length, 3);
  bench.tables.write(table + 88n, BigInt(SID) | (3n << 18n));
  changed();
  bench.unit.interruptRequest(SID, remappable(5), 0);
  t.is(bench.msis.length, 3, 'validation type 3 is reserved');
});

rule('FR-21', 'an entry beyond the host address width', (t) => {
  const { bench } = ready({ haw: 39 });
  bench.w64(0xb8, (1n << 39n) | 3n);
  bench.gcmd(0x0100_0000, true);
  bench.unit.interruptRequest(SID, remappable(7), 0);
  t.like(bench.takeFault(), { code: 0x21, address: 7n << 48n });
});

rule('FR-2A', 'EIMER: every interrupt is blocked while EIME is 0', (t) => {
  const { bench, table } = ready({ ecap: { EIMER: 1 } });
  bench.tables.write(table + 80n, LOW);
  bench.tables.write(table + 88n, HIGH);
  for (const address of [COMPAT, remappable(5)]) {
    t.false(bench.unit.interruptRequest(SID, address, 0x41));
    t.is(bench.takeFault()?.code, 0x2a);
  }
  bench.w64(0xb8, table | 0x803n);
  bench.gcmd(0x0100_0000, true);
  bench.unit.interruptRequest(SID, remappable(5), 0);
  t.is(bench.msis.length, 1);
});

rule('FR-2B', 'IRREQ: no interrupt passes while remapping is off', (t) => {
  const bench = new Bench({ ecap: { IRREQ: 1 } });
  for (const address of [COMPAT, remappable(5)]) {
    t.false(bench.unit.interruptRequest(SID, address, 0x41));
    t.is(bench.takeFault()?.code, 0x2b);
  }
});

rule('EVT-6', "the unit's own message goes out as it is, whatever the remapping", (t) => {
  const { bench } = ready();
  bench.w32(0x3c, 0x41);
  bench.w32(0x40, COMPAT);
  bench.w32(0x38, 0);
  t.false(bench.unit.interruptRequest(SID, COMPAT, 0x41), 'blocked for a function: a fault');
  t.deepEqual(bench.msis, [{ address: COMPAT, data: 0x41 }]);
});

/** Entries 4 to 7 with vectors 0x40 to 0x43, all used once. */
function cached(options: BenchOptions = {}): Ready {
  const made = ready(options);
  const { bench } = made;
  bench.setRoot();
  bench.enableQueue();
  vectors(made, 0x40);
  for (const index of [4, 5, 6, 7]) bench.unit.interruptRequest(SID, remappable(index), 0);
  bench.msis.length = 0;
  return made;
}

function vectors({ bench, table }: Ready, first: number): void {
  for (const index of [4, 5, 6, 7]) {
    const vector = BigInt(first + index - 4);
    bench.tables.write(table + BigInt(index) * 16n, 1n | (vector << 16n) | (0x300n << 32n));
    bench.tables.write(table + BigInt(index) * 16n + 8n, HIGH);
  }
}

/** Which of the entries are new. */
function fresh({ bench }: Ready): string {
  bench.msis.length = 0;
  for (const index of [4, 5, 6, 7]) bench.unit.interruptRequest(SID, remappable(index), 0);
  return bench.msis.map(({ data }, i) => (data >= 0x80 ? `${i + 4}` : '')).join('');
}

for (const [name, descriptor, gone] of [
  ['nothing', null, ''],
  ['global', 0x04n, '4567'],
  ['index 5', 0x14n | (5n << 32n), '5'],
  ['index 7, IM 1', 0x14n | (1n << 27n) | (7n << 32n), '67'],
  ['index 5, IM 2', 0x14n | (2n << 27n) | (5n << 32n), '4567'],
  ['index 9, IM 31', 0x14n | (31n << 27n) | (9n << 32n), '4567'],
  ['iotlb global', 0x12n, ''],
] as const) {
  rule('IEC-1', `iec: ${name} drops ${gone === '' ? 'none' : gone}`, (t) => {
    const made = cached();
    vectors(made, 0x80);
    if (descriptor !== null) made.bench.submit([[descriptor, 0n]]);
    t.is(fresh(made), gone);
  });
}

rule(['IEC-1', 'REG-SIRTP-2'], 'SIRTP drops the cache with ESIRTPS only', (t) => {
  for (const ESIRTPS of [0, 1]) {
    const made = cached({ cap: { ESIRTPS } });
    vectors(made, 0x80);
    made.bench.gcmd(0x0100_0000, true);
    t.is(fresh(made), ESIRTPS === 1 ? '4567' : '');
  }
});

rule('IEC-1', 'an entry that was not present is not cached', (t) => {
  const made = ready();
  const { bench, table } = made;
  bench.unit.interruptRequest(SID, remappable(5), 0);
  t.is(bench.takeFault()?.code, 0x22);
  bench.tables.write(table + 80n, LOW);
  bench.tables.write(table + 88n, HIGH);
  bench.unit.interruptRequest(SID, remappable(5), 0);
  t.is(bench.msis.length, 1);
});
