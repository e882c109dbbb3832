import test from 'ava';
import {
  DESCRIPTOR_BYTES,
  decodeDescriptor,
  describeDescriptor,
  encodeDescriptor,
  hasReservedBits,
} from '../../../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag as F, Opcode } from '../../../../devices/spec/dsa/opcodes.ts';

const move = {
  opcode: Opcode.MEMMOVE,
  flags: F.BLOCK_ON_FAULT | F.COMPLETION_VALID | F.REQUEST_COMPLETION,
  pasid: 5,
  privileged: true,
  completion: 0x3000n,
  source: 0xffff_8000_0000_1000n,
  destination: 0x7fff_f000_2000n,
  size: 4096,
  interruptHandle: 7,
};

test('every field is at its specified place, little endian', (t) => {
  const bytes = encodeDescriptor(move);
  t.is(bytes.length, DESCRIPTOR_BYTES);
  const hex = Buffer.from(bytes).toString('hex');
  t.is(
    hex,
    '05000080' +
      '0e000003' +
      '0030000000000000' +
      '001000000080ffff' +
      '002000f0ff7f0000' +
      '00100000' +
      '0700' +
      '0000' +
      '00'.repeat(24),
  );
});

test('descriptors read back, at any offset', (t) => {
  const crc = { opcode: Opcode.COPY_CRC, crcSeed: 0xdead_beef, crcSeedAddress: 0x1234n };
  const bytes = new Uint8Array(256);
  bytes.set(encodeDescriptor(move), 64);
  bytes.set(encodeDescriptor(crc), 136);
  t.like(decodeDescriptor(bytes, 64), move);
  t.like(decodeDescriptor(bytes, 136), { ...crc, pasid: 0, privileged: false, size: 0 });
  t.like(decodeDescriptor(bytes.subarray(130), 6), crc);
  t.like(decodeDescriptor(new DataView(bytes.buffer, 136)), crc);
  const compare = encodeDescriptor({ opcode: Opcode.COMPARE, expectedResult: 1 });
  t.is(decodeDescriptor(compare).expectedResult, 1);
  const dualcast = encodeDescriptor({ opcode: Opcode.DUALCAST, destination2: 2n ** 64n - 1n });
  t.is(decodeDescriptor(dualcast).destination2, 2n ** 64n - 1n);
  t.throws(() => decodeDescriptor(bytes, 200), { instanceOf: RangeError });
});

test('any bit pattern decodes', (t) => {
  const all = decodeDescriptor(new Uint8Array(64).fill(0xff));
  t.like(all, { opcode: 0xff, flags: 0xff_ffff, pasid: 0xf_ffff, size: 0xffff_ffff });
});

test('values beyond their field do not spill into the neighbours', (t) => {
  const bytes = encodeDescriptor({ opcode: Opcode.NOOP, pasid: 0x1f_ffff, flags: 0x1ff_ffff });
  t.like(decodeDescriptor(bytes), { opcode: 0, pasid: 0xf_ffff, privileged: false });
  t.false(hasReservedBits(bytes));
});

test('reserved bits are found where the operation defines nothing', (t) => {
  const probe = (opcode: number, byte: number) => {
    const bytes = encodeDescriptor({ opcode });
    bytes[byte] = 0x80;
    return hasReservedBits(bytes);
  };
  t.false(hasReservedBits(encodeDescriptor(move)));
  t.true(probe(Opcode.MEMMOVE, 2), 'bits 30:20 of the first word');
  t.false(probe(Opcode.MEMMOVE, 3), 'the privilege bit');
  t.true(probe(Opcode.MEMMOVE, 39));
  const defined = (opcode: number) =>
    Array.from({ length: 24 }, (_, i) => 40 + i).filter((byte) => !probe(opcode, byte));
  t.deepEqual(defined(Opcode.NOOP), []);
  t.deepEqual(defined(Opcode.FILL), []);
  t.deepEqual(defined(Opcode.COMPARE_PATTERN), [40]);
  t.deepEqual(defined(Opcode.CRCGEN), [40, 41, 42, 43, 48, 49, 50, 51, 52, 53, 54, 55]);
  t.deepEqual(defined(Opcode.DUALCAST), [40, 41, 42, 43, 44, 45, 46, 47]);
});

test('a description names the slots as the operation uses them', (t) => {
  const describe = (init: Parameters<typeof encodeDescriptor>[0]) =>
    describeDescriptor(decodeDescriptor(encodeDescriptor(init)));
  t.is(
    describe({ ...move, source: 0x1000n, privileged: false }),
    'MEMMOVE pasid 5 flags bof|crav|rcr src 0x1000 dst 0x7ffff0002000 size 4096 record 0x3000',
  );
  const operands = { source: 1n, destination: 2n, size: 3, crcSeed: 4 };
  const texts = [
    [Opcode.NOOP, 'NOOP pasid 0 flags none record 0x0'],
    [Opcode.BATCH, 'BATCH pasid 0 flags none list 0x1 count 3 record 0x0'],
    [Opcode.DRAIN, 'DRAIN pasid 0 flags none readback 0x1 0x2 record 0x0'],
    [Opcode.FILL, 'FILL pasid 0 flags none pattern 0x1 dst 0x2 size 3 record 0x0'],
    [Opcode.COMPARE, 'COMPARE pasid 0 flags none src1 0x1 src2 0x2 size 3 record 0x0'],
    [
      Opcode.COMPARE_PATTERN,
      'COMPARE_PATTERN pasid 0 flags none src 0x1 pattern 0x2 size 3 record 0x0',
    ],
    [Opcode.CRCGEN, 'CRCGEN pasid 0 flags none src 0x1 size 3 seed 0x4 record 0x0'],
    [Opcode.COPY_CRC, 'COPY_CRC pasid 0 flags none src 0x1 dst 0x2 size 3 seed 0x4 record 0x0'],
    [0x7f, 'opcode 0x7f pasid 0 flags none src 0x1 dst 0x2 size 3 record 0x0'],
  ] as const;
  for (const [opcode, text] of texts) t.is(describe({ opcode, ...operands }), text);
});
