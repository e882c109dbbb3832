import test from 'ava';
import {
  crc32c,
  crcBegin,
  crcEnd,
  crcUpdate,
  reverseBits32,
} from '../../../../devices/spec/dsa/crc.ts';

const ascii = (text: string) => new TextEncoder().encode(text);

/** Bit at a time, straight from the polynomial 0x1EDC6F41: most significant bit first. */
function bitwiseRegister(register: number, bytes: Uint8Array): number {
  let crc = register;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc < 0 ? 0x1edc6f41 : 0);
  }
  return crc >>> 0;
}

const reverseBytes = (bytes: Uint8Array) => bytes.map((byte) => reverseBits32(byte) >>> 24);

test('known CRC-32C values (RFC 3720 B.4 and the check value)', (t) => {
  t.is(crc32c(ascii('123456789')), 0xe306_9283);
  t.is(crc32c(new Uint8Array()), 0);
  t.is(crc32c(new Uint8Array(32)), 0x8a91_36aa);
  t.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8_ab43);
  t.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd_794e);
  t.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113f_db5c);
});

test('a value is the seed of the next piece, at any split', (t) => {
  const bytes = Uint8Array.from({ length: 61 }, (_, i) => (i * 73 + 5) & 0xff);
  const whole = crc32c(bytes);
  for (let split = 0; split <= bytes.length; split++) {
    t.is(crc32c(bytes.subarray(split), crc32c(bytes.subarray(0, split))), whole);
    const first = crcUpdate(crcBegin(0), bytes, 0, split);
    t.is(crcEnd(crcUpdate(first, bytes, split)), whole);
  }
});

test('a range outside the array is clamped to it', (t) => {
  const bytes = ascii('123456789');
  t.is(crcEnd(crcUpdate(crcBegin(0), bytes, -3, 50)), 0xe306_9283);
  t.is(crcEnd(crcUpdate(crcBegin(7), bytes, 20, 30)), 7);
});

test('every option agrees with the polynomial applied bit by bit', (t) => {
  const bytes = Uint8Array.from({ length: 37 }, (_, i) => (i * 151 + 90) & 0xff);
  const seed = 0x1234_5678;
  // Reflected data in a reflected register is the same as both unreflected: the reference feeds
  // bit-reversed bytes most significant bit first.
  const inverted = (data: Uint8Array) =>
    ~reverseBits32(bitwiseRegister(reverseBits32(~seed), data)) >>> 0;
  t.is(crc32c(bytes, seed), inverted(reverseBytes(bytes)));
  t.is(crc32c(bytes, seed, { bypassReflection: true }), inverted(bytes));
  t.is(crc32c(bytes, seed, { bypassInversion: true }), bitwiseRegister(seed, reverseBytes(bytes)));
  t.is(
    crc32c(bytes, seed, { bypassInversion: true, bypassReflection: true }),
    bitwiseRegister(seed, bytes),
  );
});

test('reverseBits32', (t) => {
  t.is(reverseBits32(1), 0x8000_0000);
  t.is(reverseBits32(0x1edc_6f41), 0x82f6_3b78);
  t.is(reverseBits32(reverseBits32(0xdead_beef)), 0xdead_beef);
});
