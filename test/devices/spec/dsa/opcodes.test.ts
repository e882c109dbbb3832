import test from 'ava';
import {
  acceptedFlags,
  CrcFlag,
  describeFlags,
  DescriptorFlag as F,
  Opcode,
  opcodeName,
  rejectedFlags,
} from '../../../../devices/spec/dsa/opcodes.ts';

const COMMON = 0x103c;

test('every operation accepts the completion flags', (t) => {
  for (const opcode of Object.values(Opcode)) {
    t.is(acceptedFlags(opcode) & COMMON, COMMON, opcodeName(opcode));
  }
  t.is(acceptedFlags(0x7f), COMMON);
});

test('flags of each modelled operation, as bit numbers', (t) => {
  const own: Record<number, number[]> = {
    [Opcode.NOOP]: [0],
    [Opcode.BATCH]: [9],
    [Opcode.DRAIN]: [9, 10, 16, 17, 18, 19],
    [Opcode.MEMMOVE]: [0, 1, 8, 9, 10, 13, 14, 15],
    [Opcode.FILL]: [0, 1, 8, 10, 13, 14, 15],
    [Opcode.COMPARE]: [0, 1, 7, 9, 10],
    [Opcode.COMPARE_PATTERN]: [0, 1, 7, 9],
    [Opcode.CRCGEN]: [0, 1, 9, 11, 16, 17, 18],
    [Opcode.COPY_CRC]: [0, 1, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18],
  };
  for (const [opcode, bits] of Object.entries(own)) {
    const expected = bits.reduce((mask, bit) => mask | (1 << bit), COMMON);
    t.is(acceptedFlags(Number(opcode)), expected, opcodeName(Number(opcode)));
  }
});

test('what is not accepted is reported', (t) => {
  t.is(rejectedFlags(Opcode.BATCH, F.BLOCK_ON_FAULT | F.COMPLETION_VALID), F.BLOCK_ON_FAULT);
  t.is(rejectedFlags(Opcode.MEMMOVE, F.BLOCK_ON_FAULT | F.STRICT_ORDER), 0);
  t.is(rejectedFlags(Opcode.MEMMOVE, CrcFlag.READ_SEED), CrcFlag.READ_SEED);
  t.is(rejectedFlags(Opcode.NOOP, 0xff_ffff), 0xff_ffff & ~(COMMON | F.FENCE));
});

test('flags and opcodes have readable names', (t) => {
  t.is(describeFlags(Opcode.MEMMOVE, F.BLOCK_ON_FAULT | F.COMPLETION_VALID), 'bof|crav');
  t.is(describeFlags(Opcode.CRCGEN, CrcFlag.READ_SEED), 'seed_mem');
  t.is(describeFlags(Opcode.MEMMOVE, CrcFlag.READ_SEED | F.FENCE), 'fence|0x10000');
  t.is(describeFlags(Opcode.NOOP, 0), 'none');
  t.is(opcodeName(0x11), 'COPY_CRC');
  t.is(opcodeName(0xb), 'opcode 0x0b');
});
