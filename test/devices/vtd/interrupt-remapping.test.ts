import { Bench, SID } from './bench.ts';
import { faultId } from './fault-rules.ts';
import { rule } from './rule.ts';

const COMPAT = 0xfee0_1000;
/** Remappable format of an index below 2^15. */
const remappable = (index: number): number => 0xfee0_0010 + index * 32;

interface Ready {
  bench: Bench;
  table: bigint;
}

function ready(): Ready {
  const bench = new Bench();
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
  const { bench } = ready();
  t.false(bench.unit.interruptRequest(SID, COMPAT, 0x41));
  t.is(bench.takeFault()?.code, 0x25);
  bench.gcmd(0x0080_0000, true);
  t.true(bench.unit.interruptRequest(SID, COMPAT, 0x41));
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
  const { bench, table } = ready();
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
  bench.unit.interruptRequest(SID + 7, remappable(5), 0);
  t.is(bench.msis.length, 3);
  bench.tables.write(table + 88n, BigInt(SID) | (3n << 18n));
  bench.unit.interruptRequest(SID, remappable(5), 0);
  t.is(bench.msis.length, 3, 'validation type 3 is reserved');
});
