import test from 'ava';
import { DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { type DescriptorInit, encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { CrcFlag, DescriptorFlag as F, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { DsaReg, Swerr0 } from '../../../devices/spec/dsa/registers.ts';
import { portalOffset } from '../../../devices/spec/dsa/tables.ts';
import { RECORD, Rig } from './rig.ts';

const PASID = 5;
const REC = 0x90_0000;
const good = {
  pasid: PASID,
  flags: RECORD,
  completion: BigInt(REC),
  opcode: Opcode.MEMMOVE,
  source: 0x1000n,
  destination: 0x4000n,
  size: 64,
};

function rigWith(config = {}): Rig {
  const rig = new Rig();
  rig.enablePci({ pri: false });
  rig.enable([{ maxTransferShift: 12, ...config }]);
  rig.fabric.map(PASID, REC, 32);
  rig.fabric.map(PASID, 0x1000, 0x8000);
  return rig;
}

for (const [name, descriptor, status] of [
  ['operation of another device', { opcode: Opcode.DUALCAST }, DsaStatus.UNSUPPORTED_OPCODE],
  ['operation that does not exist', { opcode: 0xff }, DsaStatus.UNSUPPORTED_OPCODE],
  ['flag of another operation', { flags: RECORD | F.CHECK_RESULT }, DsaStatus.INVALID_FLAGS],
  ['fence outside a batch', { flags: RECORD | F.FENCE }, DsaStatus.INVALID_FLAGS],
  [
    'blocking in a queue that may not',
    { flags: RECORD | F.BLOCK_ON_FAULT },
    DsaStatus.INVALID_FLAGS,
  ],
  ['interrupt for a user', { flags: RECORD | F.REQUEST_INTERRUPT }, DsaStatus.INVALID_FLAGS],
  [
    'interrupt without permission',
    { flags: RECORD | F.REQUEST_INTERRUPT, privileged: true, interruptHandle: 1 },
    DsaStatus.INTERRUPT_HANDLE,
  ],
  [
    'interrupt that does not exist',
    { flags: RECORD | F.REQUEST_INTERRUPT, privileged: true, interruptHandle: 9 },
    DsaStatus.INTERRUPT_HANDLE,
  ],
  ['size 0', { size: 0 }, DsaStatus.TRANSFER_SIZE],
  ['size above the queue’s', { size: 4097 }, DsaStatus.TRANSFER_SIZE],
  ['size at the queue’s', { size: 4096 }, DsaStatus.SUCCESS],
  [
    'seed misaligned',
    {
      opcode: Opcode.CRCGEN,
      destination: 0n,
      flags: RECORD | CrcFlag.READ_SEED,
      crcSeedAddress: 2n,
    },
    DsaStatus.OPERAND_ALIGNMENT,
  ],
  [
    'copy with CRC onto itself',
    { opcode: Opcode.COPY_CRC, destination: 0x103fn },
    DsaStatus.OVERLAP,
  ],
  [
    'copy with CRC next to itself',
    { opcode: Opcode.COPY_CRC, destination: 0x1040n },
    DsaStatus.SUCCESS,
  ],
] as const) {
  test(`a descriptor with ${name}: status ${status}`, (t) => {
    const rig = rigWith();
    // The record has to be reachable for both privileges.
    t.is(rig.execute({ ...good, ...(descriptor as DescriptorInit) }).status, status);
    t.is(rig.read32(DsaReg.INTCAUSE), 0);
  });
}

test('the flags that were refused are in the record', (t) => {
  const rig = rigWith();
  const flags = RECORD | F.CHECK_RESULT | F.FENCE | F.BLOCK_ON_FAULT | (1 << 20);
  t.is(rig.execute({ ...good, flags }).invalidFlags, flags & ~RECORD);
});

test('reserved fields are checked', (t) => {
  for (const [at, value] of [
    [2, 0x10],
    [38, 1],
    [63, 1],
  ] as const) {
    const rig = rigWith();
    const bytes = encodeDescriptor(good);
    bytes[at] = bytes[at]! | value;
    t.true(rig.dsa.barEnqueue(2, portalOffset(0), bytes));
    rig.clock.run();
    t.is(rig.record(PASID, REC).status, DsaStatus.RESERVED_NOT_ZERO);
  }
});

test('a record that is misaligned, or missing when there is an error, means SWERR', (t) => {
  const rig = rigWith();
  rig.enqueue({ ...good, completion: BigInt(REC + 16) });
  rig.clock.run();
  const swerr = () => Swerr0.decode(rig.read(DsaReg.SWERR, 8));
  t.like(swerr(), { valid: 1, error: DsaStatus.COMPLETION_ALIGNMENT, operation: 3, pasid: PASID });
  rig.write(DsaReg.SWERR, 3);
  rig.enqueue({ ...good, flags: 0 });
  rig.clock.run();
  t.is(swerr().valid, 0, 'success needs no record');
  rig.enqueue({ ...good, flags: 0, source: 0x6_6000n });
  rig.clock.run();
  t.like(swerr(), { valid: 1, error: DsaStatus.PAGE_FAULT });
  t.is(rig.read(DsaReg.SWERR + 16, 8), 0x6_6000n);
  rig.write(DsaReg.SWERR, 3);
  rig.enqueue({ ...good, flags: F.REQUEST_COMPLETION });
  rig.clock.run();
  t.like(swerr(), { valid: 1, error: DsaStatus.INVALID_FLAGS });
});

test('a queue offers only the operations its op-config names', (t) => {
  const rig = rigWith({ opConfig: 1n << BigInt(Opcode.NOOP) });
  t.is(rig.execute(good).status, DsaStatus.UNSUPPORTED_OPCODE);
  t.is(rig.execute({ ...good, opcode: Opcode.NOOP, size: 0 }).status, DsaStatus.SUCCESS);
});

test('privileged requests need the PASID capability’s privileged mode', (t) => {
  const rig = new Rig();
  rig.enablePci({ pasid: false, pri: false });
  rig.dsa.configWrite(0x118 + 6, 2, 1);
  rig.enable();
  rig.fabric.map(PASID, REC, 32);
  t.is(rig.execute({ ...good, privileged: true }).status, DsaStatus.PRIVILEGE);
});
