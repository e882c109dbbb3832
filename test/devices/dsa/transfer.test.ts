import test from 'ava';
import { DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { crc32c } from '../../../devices/spec/dsa/crc.ts';
import { CrcFlag, DescriptorFlag as F, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { noise, RECORD, Rig } from './rig.ts';

const PASID = 5;
const REC = 0x900_0000;
const SRC = 0x10_0000;
const DST = 0x7f_0000;
const base = { pasid: PASID, flags: RECORD, completion: BigInt(REC) };

function rigWith(bytes: number): Rig {
  const rig = Rig.shared();
  rig.fabric.map(PASID, SRC, bytes + 8192);
  rig.fabric.map(PASID, DST, bytes + 8192);
  rig.fabric.map(PASID, REC, 32);
  return rig;
}

for (const size of [1, 63, 4096, 4097, 70_001]) {
  for (const [from, to] of [
    [0, 0],
    [1, 4095],
    [4095, 1],
    [123, 124],
  ] as const) {
    test(`MEMMOVE of ${size} bytes from page offset ${from} to ${to}`, (t) => {
      const rig = rigWith(size);
      const data = noise(size);
      rig.fabric.poke(PASID, SRC + from, data);
      rig.fabric.poke(PASID, DST, new Uint8Array(size + 8192));
      const record = rig.execute({
        ...base,
        opcode: Opcode.MEMMOVE,
        source: BigInt(SRC + from),
        destination: BigInt(DST + to),
        size,
      });
      t.like(record, { status: DsaStatus.SUCCESS, result: 0, bytesCompleted: size });
      t.deepEqual(rig.fabric.peek(PASID, DST + to, size), data);
      t.is(rig.fabric.peek(PASID, DST + to + size, 1)[0], 0, 'not a byte more');
      if (to > 0) t.is(rig.fabric.peek(PASID, DST + to - 1, 1)[0], 0, 'nor before');
    });
  }
}

for (const shift of [1, 100, 4096, 5000, -1, -100, -4096, -5000]) {
  test(`MEMMOVE onto itself, ${shift} bytes away, moves as if through a buffer`, (t) => {
    const size = 20_000;
    const rig = rigWith(size + 16_384);
    const from = SRC + 8000;
    const data = noise(size);
    rig.fabric.poke(PASID, from, data);
    const destination = BigInt(from + shift);
    const move = { ...base, opcode: Opcode.MEMMOVE, source: BigInt(from), destination, size };
    t.is(rig.execute(move).status, DsaStatus.SUCCESS);
    t.deepEqual(rig.fabric.peek(PASID, from + shift, size), data);
  });
}

for (const [at, size] of [
  [0, 8],
  [5, 3],
  [4090, 8200],
] as const) {
  test(`FILL of ${size} bytes at page offset ${at} repeats its pattern from the start`, (t) => {
    const rig = rigWith(size);
    rig.fabric.poke(PASID, DST, new Uint8Array(size + 8192));
    const record = rig.execute({
      ...base,
      opcode: Opcode.FILL,
      source: 0x0807_0605_0403_0201n,
      destination: BigInt(DST + at),
      size,
    });
    t.is(record.status, DsaStatus.SUCCESS);
    const expected = Uint8Array.from({ length: size }, (_, i) => 1 + (i % 8));
    t.deepEqual(rig.fabric.peek(PASID, DST + at, size), expected);
    t.is(rig.fabric.peek(PASID, DST + at + size, 1)[0], 0);
  });
}

test('COMPARE finds the first different byte, or none', (t) => {
  const size = 10_000;
  const rig = rigWith(size);
  const data = noise(size);
  rig.fabric.poke(PASID, SRC + 77, data);
  rig.fabric.poke(PASID, DST + 4000, data);
  const compare = {
    ...base,
    opcode: Opcode.COMPARE,
    source: BigInt(SRC + 77),
    destination: BigInt(DST + 4000),
    size,
  };
  t.like(rig.execute(compare), { status: DsaStatus.SUCCESS, result: 0, bytesCompleted: size });
  for (const at of [0, 4019, 9999]) {
    rig.fabric.poke(PASID, DST + 4000, data);
    rig.fabric.poke(PASID, DST + 4000 + at, Uint8Array.of(data[at]! ^ 1));
    t.like(rig.execute(compare), { status: DsaStatus.SUCCESS, result: 1, bytesCompleted: at });
  }
  const checked = { ...compare, flags: RECORD | F.CHECK_RESULT };
  t.is(rig.execute({ ...checked, expectedResult: 1 }).status, DsaStatus.SUCCESS);
  const unexpected = rig.execute({ ...checked, expectedResult: 0 });
  t.like(unexpected, { status: DsaStatus.SUCCESS_FALSE_PREDICATE, result: 1 });
});

test('COMPARE_PATTERN reports the 8-byte unit that differs', (t) => {
  const size = 9000;
  const rig = rigWith(size);
  const pattern = Uint8Array.from({ length: size }, (_, i) => 0x10 + (i % 8));
  rig.fabric.poke(PASID, SRC + 3, pattern);
  const compare = {
    ...base,
    opcode: Opcode.COMPARE_PATTERN,
    source: BigInt(SRC + 3),
    destination: 0x1716_1514_1312_1110n,
    size,
  };
  t.like(rig.execute(compare), { status: DsaStatus.SUCCESS, result: 0 });
  rig.fabric.poke(PASID, SRC + 3 + 4101, Uint8Array.of(0));
  t.like(rig.execute(compare), { status: DsaStatus.SUCCESS, result: 1, bytesCompleted: 4096 });
});

test('CRCGEN and COPY_CRC: seeds, chaining, bypasses, seed in memory', (t) => {
  const size = 9001;
  const rig = rigWith(size);
  const data = noise(size);
  rig.fabric.poke(PASID, SRC + 9, data);
  const crc = { ...base, opcode: Opcode.CRCGEN, source: BigInt(SRC + 9), size };
  t.is(rig.execute(crc).crc, crc32c(data));
  t.is(rig.execute({ ...crc, crcSeed: 0xdead_beef }).crc, crc32c(data, 0xdead_beef));
  const bypass = RECORD | CrcFlag.BYPASS_INVERSION | CrcFlag.BYPASS_REFLECTION;
  const options = { bypassInversion: true, bypassReflection: true };
  t.is(rig.execute({ ...crc, flags: bypass }).crc, crc32c(data, 0, options));
  rig.fabric.poke(PASID, SRC, Uint8Array.of(0x78, 0x56, 0x34, 0xf2));
  const seeded = { ...crc, flags: RECORD | CrcFlag.READ_SEED, crcSeedAddress: BigInt(SRC) };
  t.is(rig.execute(seeded).crc, crc32c(data, 0xf234_5678));
  const copied = rig.execute({ ...crc, opcode: Opcode.COPY_CRC, destination: BigInt(DST + 4001) });
  t.like(copied, { status: DsaStatus.SUCCESS, crc: crc32c(data) });
  t.deepEqual(rig.fabric.peek(PASID, DST + 4001, size), data);
});

test('NOOP does nothing and DRAIN reads back what it is told to', (t) => {
  const rig = rigWith(0);
  t.is(rig.execute({ ...base, opcode: Opcode.NOOP }).status, DsaStatus.SUCCESS);
  const drain = { ...base, opcode: Opcode.DRAIN };
  t.is(rig.execute(drain).status, DsaStatus.SUCCESS);
  const readback = { ...drain, flags: RECORD | (3 << 16), source: BigInt(SRC) };
  t.is(rig.execute({ ...readback, destination: BigInt(DST) }).status, DsaStatus.SUCCESS);
  const bad = rig.execute({ ...readback, destination: 0x5000_1234n });
  t.like(bad, { status: DsaStatus.READBACK_FAULT, faultAddress: 0x5000_1234n });
});

test('a queue with ATS off, and a device with ATS off, send untranslated requests', (t) => {
  for (const [ats, atsDisable] of [
    [true, 1],
    [false, 0],
  ] as const) {
    const rig = new Rig();
    rig.enablePci({ ats, pri: false });
    rig.enable([{ atsDisable }]);
    rig.fabric.map(PASID, SRC, 8192);
    rig.fabric.map(PASID, DST, 4096);
    rig.fabric.map(PASID, REC, 32);
    const data = noise(5000);
    rig.fabric.poke(PASID, SRC, data);
    const move = { ...base, opcode: Opcode.MEMMOVE, source: BigInt(SRC), size: 4000 };
    t.is(rig.execute({ ...move, destination: BigInt(DST) }).status, DsaStatus.SUCCESS);
    t.deepEqual(rig.fabric.peek(PASID, DST, 4000), data.subarray(0, 4000));
    t.deepEqual(rig.fabric.asked, []);
    t.true(rig.fabric.writes.every(({ type }) => type === 0));
    const over = rig.execute({ ...move, size: 5000, destination: BigInt(DST) });
    t.like(over, {
      status: DsaStatus.PAGE_FAULT,
      faultOnWrite: true,
      bytesCompleted: 4096,
      faultAddress: BigInt(DST + 4096),
    });
  }
});

test('pages that may only be reached untranslated are', (t) => {
  const rig = rigWith(4096);
  const vpn = DST / 4096;
  rig.fabric.table(PASID).get(vpn)!.untranslatedOnly = true;
  const move = { ...base, opcode: Opcode.MEMMOVE, source: BigInt(SRC), size: 100 };
  t.is(rig.execute({ ...move, destination: BigInt(DST) }).status, DsaStatus.SUCCESS);
  t.deepEqual(rig.fabric.writes[0], { type: 0, page: vpn, offset: 0, length: 100 });
});

test('a large translation is asked for once', (t) => {
  const rig = Rig.shared();
  const huge = 0x4000_0000;
  for (let page = 0; page < 512; page++) {
    const pfn = 512 + page;
    const mapping = { pfn, write: true, shift: 21, untranslatedOnly: false };
    rig.fabric.table(PASID).set(huge / 4096 + page, mapping);
  }
  const data = noise(0x10_0000);
  rig.fabric.poke(PASID, huge, data);
  rig.execute({
    ...base,
    completion: BigInt(huge + 0x1f_f000),
    opcode: Opcode.MEMMOVE,
    source: BigInt(huge),
    destination: BigInt(huge + 0xf_0000),
    size: 0x10_0000,
  });
  t.deepEqual(rig.fabric.peek(PASID, huge + 0xf_0000, data.length), data);
  t.is(rig.fabric.asked.length, 1);
});

test('a translated access that the bus refuses names the side', (t) => {
  const rig = rigWith(8192);
  const move = { ...base, opcode: Opcode.MEMMOVE, source: BigInt(SRC), size: 8192 };
  rig.fabric.poisoned.add(rig.fabric.table(PASID).get(DST / 4096 + 1)!.pfn);
  t.like(rig.execute({ ...move, destination: BigInt(DST) }), {
    status: DsaStatus.TRANSLATION_ERROR,
    faultOnWrite: true,
    bytesCompleted: 4096,
    faultAddress: BigInt(DST + 4096),
  });
  rig.fabric.poisoned.add(rig.fabric.table(PASID).get(SRC / 4096)!.pfn);
  t.like(rig.execute({ ...move, destination: BigInt(DST) }), {
    status: DsaStatus.TRANSLATION_ERROR,
    faultOnWrite: false,
    bytesCompleted: 0,
    faultAddress: BigInt(SRC),
  });
});
