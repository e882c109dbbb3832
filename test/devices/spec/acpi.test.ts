import test from 'ava';
import {
  buildMcfg,
  buildRsdp,
  buildSdt,
  buildXsdt,
  checksum,
  findRsdp,
  parseMcfg,
  parseRsdp,
  parseSdt,
  parseSdtHeader,
  parseXsdt,
  SDT_HEADER_BYTES,
} from '../../../devices/spec/acpi.ts';

/** The table with one byte changed and, if `fix`, the checksum made right again. */
function damaged(table: Uint8Array, at: number, value: number, fix = true): Uint8Array {
  const bytes = table.slice();
  bytes[at] = value;
  if (fix) bytes[9] = (bytes[9]! - checksum(bytes)) & 0xff;
  return bytes;
}

test('the root pointer is found in memory and leads to the XSDT', (t) => {
  const rsdp = buildRsdp(0x7ff_e000);
  t.is(rsdp.length, 36);
  t.is(checksum(rsdp.subarray(0, 20)), 0);
  t.is(checksum(rsdp), 0);
  t.deepEqual(parseRsdp(rsdp), { xsdt: 0x7ff_e000 });
  const memory = new Uint8Array(4096);
  t.is(findRsdp(memory), -1);
  memory.set(rsdp, 0x128);
  t.is(findRsdp(memory), -1, 'not 16-byte aligned');
  memory.set(rsdp.subarray(0, 10), 0x200);
  memory.set(rsdp, 0x340);
  t.is(findRsdp(memory), 0x340, 'behind one with a wrong checksum');
  t.is(findRsdp(memory.subarray(0, 0x350)), -1, 'cut off by the end of memory');
});

test('a broken root pointer is refused by the rule it breaks', (t) => {
  const rsdp = buildRsdp(0x1000);
  const broken = (at: number, value: number) => {
    const bytes = rsdp.slice();
    bytes[at] = value;
    return bytes;
  };
  t.throws(() => parseRsdp(rsdp.subarray(0, 35)), { message: /^RSDP: 35 bytes/ });
  t.throws(() => parseRsdp(broken(0, 0)), { message: /RSDP: wrong signature/ });
  t.throws(() => parseRsdp(broken(15, 3)), { message: /RSDP: checksum of bytes 0 to 19/ });
  t.throws(() => parseRsdp(broken(24, 1)), { message: /RSDP: extended checksum/ });
  t.throws(() => parseRsdp(broken(20, 37)), { message: /RSDP: length 37/ });
  t.throws(() => parseRsdp(buildRsdp(0)), { instanceOf: RangeError, message: /XSDT address is 0/ });
});

test('tables have the header fields and sum to 0', (t) => {
  const table = buildSdt('TEST', 3, Uint8Array.of(1, 2, 3));
  t.is(table.length, SDT_HEADER_BYTES + 3);
  t.is(checksum(table), 0);
  const { header, body } = parseSdt(table, 'TEST');
  t.like(header, { signature: 'TEST', length: 39, revision: 3, oemId: 'VSVA' });
  t.deepEqual([...body], [1, 2, 3]);
  const page = new Uint8Array(4096);
  page.set(table);
  t.deepEqual([...parseSdt(page, 'TEST').body], [1, 2, 3], 'bytes after the table do not count');
});

test('a broken table is refused by the rule it breaks', (t) => {
  const table = buildSdt('TEST', 1, new Uint8Array(8));
  t.throws(() => parseSdtHeader(table.subarray(0, 35)), { message: /^SDT: header of 35/ });
  t.throws(() => parseSdtHeader(damaged(table, 4, 35)), { message: /^TEST: length 35 is not/ });
  t.throws(() => parseSdtHeader(damaged(table, 7, 0xff)), { message: /^TEST: length/ });
  t.throws(() => parseSdt(table, 'ELSE'), { message: /^ELSE: signature is 'TEST'/ });
  t.throws(() => parseSdt(damaged(table, 4, 60), 'TEST'), { message: /exceeds the 44 bytes/ });
  t.throws(() => parseSdt(damaged(table, 40, 1, false), 'TEST'), { message: /checksum/ });
  t.throws(() => buildSdt('LONGER', 1, new Uint8Array()), { instanceOf: RangeError });
});

test('XSDT', (t) => {
  const addresses = [0x1000, 0x12_3456_7000];
  t.deepEqual(parseXsdt(buildXsdt(addresses)), addresses);
  t.deepEqual(parseXsdt(buildXsdt([])), []);
  t.throws(() => parseXsdt(buildSdt('XSDT', 1, new Uint8Array(12))), { message: /multiple of 8/ });
  const beyond = buildSdt('XSDT', 1, new Uint8Array(8).fill(0xff));
  t.throws(() => parseXsdt(beyond), { message: /XSDT: entry 0 is beyond 2\^53/ });
});

test('MCFG', (t) => {
  const windows = [
    { base: 0xb000_0000, segment: 0, startBus: 0, endBus: 255 },
    { base: 0x40_0000_0000, segment: 1, startBus: 16, endBus: 31 },
  ];
  const table = buildMcfg(windows);
  t.is(table.length, 36 + 8 + 32);
  t.deepEqual(parseMcfg(table), windows);
  t.deepEqual([...table.subarray(44, 52)], [0, 0, 0, 0xb0, 0, 0, 0, 0], 'base at 44');
  t.throws(() => parseMcfg(damaged(table, 70, 200)), { message: /entry 1 buses 200 to 31/ });
  t.throws(() => parseMcfg(damaged(table, 44, 1)), { message: /entry 0 base/ });
  t.throws(() => parseMcfg(buildSdt('MCFG', 1, new Uint8Array(7))), { message: /MCFG: body of 7/ });
  t.throws(() => parseMcfg(buildSdt('MCFG', 1, new Uint8Array(20))), { message: /MCFG: body/ });
});
