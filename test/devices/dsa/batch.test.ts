import test from 'ava';
import { DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { type DescriptorInit, encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag as F, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { DsaReg, Swerr0, Swerr1 } from '../../../devices/spec/dsa/registers.ts';
import { RECORD, Rig } from './rig.ts';

const PASID = 7;
const LIST = 0x40_0f80;
const REC = 0x90_0000;
const DATA = 0x50_0000;
const base = { pasid: PASID, flags: RECORD, completion: BigInt(REC) };

function rigWith(members: readonly DescriptorInit[]): Rig {
  const rig = Rig.shared();
  rig.fabric.map(PASID, LIST, 4096);
  rig.fabric.map(PASID, REC, 4096);
  rig.fabric.map(PASID, DATA, 4096);
  members.forEach((member, i) => rig.fabric.poke(PASID, LIST + 64 * i, encodeDescriptor(member)));
  return rig;
}

/** Fills byte i of the data with i + 1; its record is record i + 1. */
function member(i: number, more: Partial<DescriptorInit> = {}): DescriptorInit {
  return {
    opcode: Opcode.FILL,
    flags: RECORD,
    completion: BigInt(REC + 32 * (i + 1)),
    source: BigInt(i + 1),
    destination: BigInt(DATA + i),
    size: 1,
    ...more,
  };
}

const batch = (size: number): DescriptorInit => ({
  ...base,
  opcode: Opcode.BATCH,
  source: BigInt(LIST),
  size,
});
const statuses = (rig: Rig, count: number): number[] =>
  Array.from({ length: count }, (_, i) => rig.record(PASID, REC + 32 * (i + 1)).status);

test('all members run under the PASID of the batch, across the pages of the list', (t) => {
  const rig = rigWith([0, 1, 2, 3, 4].map((i) => member(i, { pasid: 99, privileged: true })));
  t.like(rig.execute(batch(5)), { status: DsaStatus.SUCCESS, result: 0, bytesCompleted: 5 });
  t.deepEqual(statuses(rig, 5), [1, 1, 1, 1, 1]);
  t.deepEqual([...rig.fabric.peek(PASID, DATA, 5)], [1, 2, 3, 4, 5]);
  t.true(rig.fabric.asked.every(({ pasid, priv }) => pasid === PASID && !priv));
});

test('a member that fails makes the batch 0x05; the others run', (t) => {
  const rig = rigWith([member(0), member(1, { destination: 0x6666_0000n }), member(2)]);
  t.like(rig.execute(batch(3)), {
    status: DsaStatus.BATCH_MEMBER_ERROR,
    result: 1,
    bytesCompleted: 3,
  });
  t.deepEqual(statuses(rig, 3), [DsaStatus.SUCCESS, DsaStatus.PAGE_FAULT, DsaStatus.SUCCESS]);
});

test('a fence stops after a failure, and only then', (t) => {
  const fenced = { flags: RECORD | F.FENCE };
  const good = rigWith([member(0), member(1, fenced), member(2)]);
  t.like(good.execute(batch(3)), { status: DsaStatus.SUCCESS, bytesCompleted: 3 });
  const members = [member(0, { size: 0 }), member(1), member(2, fenced), member(3)];
  const bad = rigWith(members);
  t.like(bad.execute(batch(4)), {
    status: DsaStatus.BATCH_MEMBER_ERROR,
    result: 1,
    bytesCompleted: 2,
  });
  t.deepEqual(statuses(bad, 4), [DsaStatus.TRANSFER_SIZE, 1, 0, 0]);
});

test('a fault on the list ends the batch at the first member not read', (t) => {
  const rig = rigWith([member(0), member(1)]);
  rig.fabric.unmap(PASID, LIST + 128, 1);
  t.like(rig.execute(batch(6)), {
    status: DsaStatus.BATCH_LIST_FAULT,
    bytesCompleted: 2,
    faultAddress: BigInt(LIST + 128),
  });
  t.deepEqual(statuses(rig, 2), [1, 1]);
});

test('batches and drains are not members', (t) => {
  const rig = rigWith([member(0, { opcode: Opcode.BATCH }), member(1, { opcode: Opcode.DRAIN })]);
  t.is(rig.execute(batch(2)).status, DsaStatus.BATCH_MEMBER_ERROR);
  t.deepEqual(statuses(rig, 2), [DsaStatus.UNSUPPORTED_OPCODE, DsaStatus.UNSUPPORTED_OPCODE]);
});

test('count, alignment and flags of a batch are checked', (t) => {
  const rig = rigWith([member(0), member(1)]);
  t.is(rig.execute(batch(1)).status, DsaStatus.DESCRIPTOR_COUNT);
  t.is(rig.execute(batch(33)).status, DsaStatus.DESCRIPTOR_COUNT);
  t.is(rig.execute(batch(0xffff_ffff)).status, DsaStatus.DESCRIPTOR_COUNT);
  const skewed = { ...batch(2), source: BigInt(LIST + 32) };
  t.is(rig.execute(skewed).status, DsaStatus.DESCRIPTOR_LIST_ALIGNMENT);
  const blocking = { ...batch(2), flags: RECORD | F.BLOCK_ON_FAULT };
  t.like(rig.execute(blocking), {
    status: DsaStatus.INVALID_FLAGS,
    invalidFlags: F.BLOCK_ON_FAULT,
  });
});

test('a member without a record leaves its error in SWERR, with its index', (t) => {
  const rig = rigWith([member(0), member(1, { flags: F.STRICT_ORDER | F.CHECK_RESULT })]);
  t.is(rig.execute(batch(2)).status, DsaStatus.BATCH_MEMBER_ERROR);
  const swerr = Swerr0.decode(rig.read(DsaReg.SWERR, 8));
  t.like(swerr, { valid: 1, batch: 1, error: DsaStatus.INVALID_FLAGS, operation: Opcode.FILL });
  const more = Swerr1.decode(rig.read(DsaReg.SWERR + 8, 8));
  t.like(more, { batchIndex: 1, invalidFlags: F.CHECK_RESULT });
});

test('silent members of silent batches leave nothing; the last batch reports', (t) => {
  const quiet = { flags: F.COMPLETION_VALID, completion: BigInt(REC + 32) };
  const rig = rigWith([member(0, quiet), member(1, quiet)]);
  for (let i = 0; i < 8; i++) rig.enqueue({ ...batch(2), flags: F.COMPLETION_VALID });
  rig.clock.run();
  t.deepEqual([rig.record(PASID, REC).status, ...statuses(rig, 2)], [0, 0, 0]);
  t.is(rig.execute(batch(2)).status, DsaStatus.SUCCESS);
});
