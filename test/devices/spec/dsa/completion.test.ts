import test from 'ava';
import {
  COMPLETION_BYTES,
  DsaStatus,
  decodeCompletion,
  describeCompletion,
  encodeCompletion,
  statusMeaning,
  statusName,
} from '../../../../devices/spec/dsa/completion.ts';
import { Opcode } from '../../../../devices/spec/dsa/opcodes.ts';

const fault = {
  status: DsaStatus.PAGE_FAULT,
  faultOnWrite: true,
  result: 1,
  faultInfo: 2,
  bytesCompleted: 4096,
  faultAddress: 0x7fff_f000_5000n,
};

test('every field is at its specified place, little endian', (t) => {
  const bytes = encodeCompletion(fault);
  t.is(bytes.length, COMPLETION_BYTES);
  const hex = Buffer.from(bytes).toString('hex');
  t.is(hex, '83010200' + '00100000' + '005000f0ff7f0000' + '00'.repeat(16));
  const crc = encodeCompletion({ status: DsaStatus.SUCCESS, crc: 0xe306_9283 });
  t.deepEqual([...crc.subarray(16, 24)], [0x83, 0x92, 0x06, 0xe3, 0, 0, 0, 0]);
});

test('records read back, at any offset', (t) => {
  const bytes = new Uint8Array(96);
  bytes.set(encodeCompletion(fault), 40);
  t.like(decodeCompletion(bytes, 40), fault);
  t.like(decodeCompletion(new DataView(bytes.buffer, 40)), fault);
  t.is(decodeCompletion(bytes).status, DsaStatus.NOT_WRITTEN);
  t.throws(() => decodeCompletion(bytes, 65), { instanceOf: RangeError });
  const flags = encodeCompletion({ status: DsaStatus.INVALID_FLAGS, invalidFlags: 0x1ab_cdef });
  t.is(decodeCompletion(flags).invalidFlags, 0xab_cdef, 'only 24 bits');
});

test('every status has a name and a meaning, and an unknown one says so', (t) => {
  const meanings = Object.values(DsaStatus).map((status) => statusMeaning(status));
  t.false(meanings.includes('undefined status'));
  t.is(new Set(meanings).size, meanings.length);
  t.is(statusName(0x80 | DsaStatus.PAGE_FAULT), 'PAGE_FAULT');
  t.is(statusName(0x0a), 'status 0x0a');
  t.is(statusMeaning(0x0a), 'undefined status');
});

test('descriptions', (t) => {
  const describe = (init: Parameters<typeof encodeCompletion>[0], opcode?: number) =>
    describeCompletion(decodeCompletion(encodeCompletion(init)), opcode);
  t.is(
    describe(fault, Opcode.MEMMOVE),
    'PAGE_FAULT (page fault, partial completion) on write at 0x7ffff0005000, 4096 done',
  );
  t.is(describe({ status: 1, crc: 0xabc }, Opcode.CRCGEN), 'SUCCESS crc 0x00000abc');
  t.is(describe({ status: 1 }, Opcode.MEMMOVE), 'SUCCESS');
  t.is(describe({ status: 1 }, Opcode.COMPARE), 'SUCCESS equal');
  t.is(
    describe({ status: 2, result: 1, bytesCompleted: 9 }, Opcode.COMPARE),
    'SUCCESS_FALSE_PREDICATE different at byte 9',
  );
  t.is(
    describe({ status: 0x11, invalidFlags: 0x2 }),
    'INVALID_FLAGS (invalid flags) flags 0x2, 0 done',
  );
});
