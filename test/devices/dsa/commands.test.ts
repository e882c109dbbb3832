import test from 'ava';
import { DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { DescriptorFlag as F, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import {
  DsaCommand as C,
  CmdError,
  DeviceState,
  DsaReg,
  Gensts,
  Intcause,
  ResetType,
  Swerr0,
  SwerrCode,
  wqMaskOperand,
} from '../../../devices/spec/dsa/registers.ts';
import { Grpcfg, Wqcfg, WqcfgState, WqState } from '../../../devices/spec/dsa/tables.ts';
import { RECORD, Rig, SHARED } from './rig.ts';

const PASID = 5;
const REC = 0x900_0000;
const noop = { pasid: PASID, flags: RECORD, completion: BigInt(REC), opcode: Opcode.NOOP };
const stuck = {
  ...noop,
  opcode: Opcode.FILL,
  flags: RECORD | F.BLOCK_ON_FAULT,
  destination: 0x5000n,
  size: 1,
};

const gensts = (rig: Rig) => Gensts.decode(rig.read32(DsaReg.GENSTS));
const wqState = (rig: Rig, wq = 0) =>
  WqcfgState.decode(rig.read32(rig.caps.wqcfgOffset + wq * rig.caps.wqcfgStride + Wqcfg.STATE));

/** Two engines, one of which is blocked on a page; the record of PASID 6 is mapped too. */
function blockedRig(): Rig {
  const rig = new Rig();
  rig.enablePci();
  rig.enable([{ blockOnFault: 1 }, {}], 2);
  for (const pasid of [PASID, 6]) rig.fabric.map(pasid, REC, 32);
  rig.enqueue(stuck);
  rig.clock.run();
  return rig;
}

function answer(rig: Rig): void {
  rig.fabric.map(PASID, 0x5000, 1);
  for (const request of rig.fabric.requests) rig.respond(request);
}

test('a command is active for a while; writing another meanwhile is a software error', (t) => {
  const rig = new Rig();
  rig.busMaster(true);
  rig.start(C.RESET_DEVICE);
  t.true(rig.active);
  rig.start(C.ENABLE_DEVICE);
  t.like(Swerr0.decode(rig.read(DsaReg.SWERR, 8)), {
    valid: 1,
    error: SwerrCode.COMMAND_WHILE_ACTIVE,
  });
  rig.clock.run();
  t.false(rig.active);
  t.is(gensts(rig).state, DeviceState.DISABLED);
  rig.write(DsaReg.SWERR, 3);
  t.is(rig.read(DsaReg.SWERR, 8), 0n);
  t.is(rig.command(C.RESET_DEVICE), 0);
  t.is(rig.command(C.RESET_DEVICE), 0, 'the same command twice is two commands');
});

test('Enable Device: what it refuses', (t) => {
  const rig = new Rig();
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.BUS_MASTER_DISABLED);
  rig.busMaster(true);
  const group = (n: number): number => rig.caps.grpcfgOffset + n * Grpcfg.BYTES;
  rig.write(group(0) + Grpcfg.WQ_BITMAP, 1n, 8);
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.GROUP_INCOMPLETE);
  rig.write(group(1) + Grpcfg.ENGINE_BITMAP, 1n, 8);
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.GROUP_INCOMPLETE);
  rig.write(group(1) + Grpcfg.WQ_BITMAP, 1n, 8);
  rig.write(group(0) + Grpcfg.ENGINE_BITMAP, 2n, 8);
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.GROUP_MEMBERSHIP);
  rig.write(group(1) + Grpcfg.WQ_BITMAP, 2n, 8);
  rig.write(group(0) + Grpcfg.FLAGS, 40n << 8n, 8);
  rig.write(group(1) + Grpcfg.FLAGS, 40n << 8n, 8);
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.GROUP_READ_BUFFERS);
  rig.write(group(0) + Grpcfg.FLAGS, 1n << 7n, 8);
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.GROUP_FLAGS);
  rig.write(group(0) + Grpcfg.FLAGS, 0n, 8);
  rig.writeWq(0, { size: 100 });
  rig.writeWq(7, { size: 29 });
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.WQ_SIZES_OUT_OF_RANGE);
  rig.writeWq(7, { size: 28 });
  t.is(rig.command(C.ENABLE_DEVICE), 0);
  t.is(rig.command(C.ENABLE_DEVICE), CmdError.DEVICE_ALREADY_ENABLED);
});

test('Enable WQ: what it refuses', (t) => {
  const rig = new Rig();
  rig.enablePci({ pasid: false });
  t.is(rig.command(C.ENABLE_WQ, 0), CmdError.DEVICE_NOT_ENABLED);
  rig.write(rig.caps.grpcfgOffset + Grpcfg.WQ_BITMAP, 1n, 8);
  rig.write(rig.caps.grpcfgOffset + Grpcfg.ENGINE_BITMAP, 1n, 8);
  t.is(rig.command(C.ENABLE_DEVICE), 0);
  t.is(rig.command(C.ENABLE_WQ, 8), CmdError.INVALID_WQ_INDEX);
  t.is(rig.command(C.ENABLE_WQ, 1), CmdError.CONFIGURATION_ERROR, 'in no group');
  const good = { ...SHARED, pasidEnable: 0 };
  for (const [config, error] of [
    [{ ...good, size: 0 }, CmdError.WQ_SIZE],
    [{ ...good, size: 129 }, CmdError.WQ_SIZE],
    [{ ...good, threshold: 0 }, CmdError.WQ_SIZE],
    [{ ...good, threshold: 17 }, CmdError.WQ_SIZE],
    [{ ...good, priority: 0 }, CmdError.WQ_PRIORITY],
    [SHARED, CmdError.WQ_PASID_ENABLE],
    [{ ...good, maxBatchShift: 6 }, CmdError.WQ_MAX_BATCH],
    [{ ...good, maxTransferShift: 22 }, CmdError.WQ_MAX_TRANSFER],
    [{ ...good, dedicated: 1, threshold: 0 }, 0],
  ] as const) {
    rig.writeWq(0, config);
    t.is(rig.command(C.ENABLE_WQ, 0), error);
  }
  t.is(rig.command(C.ENABLE_WQ, 0), CmdError.WQ_ALREADY_ENABLED);
});

test('commands on work queues: masks, states and what is not enabled', (t) => {
  const rig = Rig.shared();
  for (const command of [C.DISABLE_WQ, C.DRAIN_WQ, C.ABORT_WQ, C.RESET_WQ]) {
    t.is(rig.command(command, 0), CmdError.INVALID_WQ_INDEX, 'no queue named');
    t.is(rig.command(command, 0x100), CmdError.INVALID_WQ_INDEX);
    t.is(rig.command(command, 0x1_0001), CmdError.INVALID_WQ_INDEX);
    t.is(rig.command(command, 3), CmdError.WQ_NOT_ENABLED);
  }
  t.is(rig.command(C.RESET_WQ, wqMaskOperand(0)), 0);
  t.is(rig.read32(rig.caps.wqcfgOffset + Wqcfg.SIZE), 0, 'the configuration is gone');
  t.is(wqState(rig).state, WqState.DISABLED);
  t.is(rig.command(C.DISABLE_DEVICE), 0);
  t.is(rig.command(C.DISABLE_DEVICE), CmdError.DISABLE_DEVICE_NOT_ENABLED);
  t.is(rig.command(C.DRAIN_ALL), CmdError.DEVICE_NOT_ENABLED);
  t.is(rig.command(C.REQUEST_INTERRUPT_HANDLE), CmdError.INVALID_COMMAND);
  t.is(rig.command(0), CmdError.INVALID_COMMAND);
  t.is(rig.command(31), CmdError.INVALID_COMMAND);
});

for (const [name, command, operand] of [
  ['Drain PASID', C.DRAIN_PASID, PASID],
  ['Drain WQ', C.DRAIN_WQ, 1],
  ['Drain All', C.DRAIN_ALL, 0],
  ['Disable WQ', C.DISABLE_WQ, 1],
  ['Disable Device', C.DISABLE_DEVICE, 0],
] as const) {
  test(`${name} waits for a descriptor that is blocked on a page`, (t) => {
    const rig = blockedRig();
    rig.start(command, operand);
    rig.clock.run();
    t.true(rig.active);
    answer(rig);
    rig.clock.run(() => rig.record(PASID, REC).status !== 0);
    rig.clock.run();
    t.is(rig.read32(DsaReg.CMDSTS), 0);
    t.is(rig.record(PASID, REC).status, DsaStatus.SUCCESS);
  });
}

test('a drain is about its own PASID and what came before it', (t) => {
  const rig = blockedRig();
  t.is(rig.command(C.DRAIN_PASID, 6), 0);
  t.is(rig.command(C.DRAIN_WQ, wqMaskOperand(1)), 0);
  rig.start(C.DRAIN_PASID, PASID);
  rig.clock.run();
  rig.enqueue({ ...stuck, destination: 0x9000n });
  rig.clock.run();
  rig.fabric.map(PASID, 0x5000, 1);
  rig.respond(rig.fabric.requests[0]!);
  rig.clock.run();
  t.false(rig.active, 'the later one is still blocked and does not count');
  t.is(rig.fabric.requests.length, 2);
});

test('a queue that drains takes nothing more and says so', (t) => {
  const rig = blockedRig();
  rig.start(C.DISABLE_WQ, wqMaskOperand(0));
  rig.clock.run();
  t.is(wqState(rig).state, WqState.BUSY);
  t.false(rig.enqueue(noop));
  t.true(rig.enqueue({ ...noop, pasid: 6 }, 1), 'the other queue works');
  answer(rig);
  rig.clock.run();
  t.is(wqState(rig).state, WqState.DISABLED);
  t.is(rig.record(6, REC).status, DsaStatus.SUCCESS);
});

for (const [name, command, operand] of [
  ['Abort PASID', C.ABORT_PASID, PASID],
  ['Abort WQ', C.ABORT_WQ, 1],
  ['Abort All', C.ABORT_ALL, 0],
  ['Reset WQ', C.RESET_WQ, 1],
  ['Reset Device', C.RESET_DEVICE, 0],
] as const) {
  test(`${name} frees what is blocked or queued, without a record`, (t) => {
    const rig = blockedRig();
    rig.enqueue(stuck);
    rig.enqueue(stuck);
    t.is(rig.command(command, operand), 0);
    rig.clock.run();
    t.is(wqState(rig).occupancy, 0);
    answer(rig);
    rig.clock.run();
    t.is(rig.record(PASID, REC).status, DsaStatus.NOT_WRITTEN);
  });
}

test('an abort lets the transfer in flight land before it is done', (t) => {
  const rig = Rig.shared();
  rig.fabric.map(PASID, REC, 32);
  rig.fabric.map(PASID, 0x10_0000, 0x2_0000);
  rig.enqueue({ ...noop, opcode: Opcode.FILL, destination: 0x10_0000n, size: 0x2_0000 });
  rig.clock.run(() => rig.fabric.asked.length === 16);
  rig.start(C.ABORT_ALL);
  rig.clock.run();
  t.false(rig.active);
  t.is(rig.record(PASID, REC).status, DsaStatus.NOT_WRITTEN);
  t.is(rig.execute(noop).status, DsaStatus.SUCCESS);
});

test('Reset Device clears the configuration and works in every state but halted', (t) => {
  const rig = Rig.shared();
  rig.write(DsaReg.GENCTRL, 3);
  t.is(rig.command(C.RESET_DEVICE), 0);
  t.is(gensts(rig).state, DeviceState.DISABLED);
  t.is(rig.read32(DsaReg.GENCTRL), 0);
  t.is(rig.read(rig.caps.grpcfgOffset, 8), 0n);
  t.is(rig.read32(rig.caps.wqcfgOffset), 0);
  t.is(rig.command(C.RESET_DEVICE), 0);
  rig.enable();
  t.true(rig.enqueue(noop));
});

test('taking bus mastering away halts the device; only a function level reset helps', (t) => {
  const rig = blockedRig();
  rig.write(DsaReg.GENCTRL, 3);
  rig.busMaster(false);
  t.deepEqual(gensts(rig), { state: DeviceState.HALTED, resetType: ResetType.FLR });
  t.is(rig.read32(DsaReg.INTCAUSE), Intcause.HALT | Intcause.SOFTWARE_ERROR);
  t.like(Swerr0.decode(rig.read(DsaReg.SWERR, 8)), { error: SwerrCode.PCI_CONFIGURATION });
  t.is(rig.command(C.RESET_DEVICE), CmdError.HARDWARE_ERROR);
  t.false(rig.enqueue(noop));
  rig.clock.run();
  rig.dsa.reset();
  t.deepEqual(gensts(rig), { state: DeviceState.DISABLED, resetType: ResetType.SOFTWARE });
  t.is(rig.read32(DsaReg.INTCAUSE), 0);
  rig.enablePci();
  rig.enable();
  rig.fabric.map(9, REC, 32);
  t.is(rig.execute({ ...noop, pasid: 9 }).status, DsaStatus.SUCCESS);
});

test('a command may ask for an interrupt', (t) => {
  const rig = new Rig();
  rig.busMaster(true);
  rig.enableMsix();
  rig.command(C.RESET_DEVICE);
  t.deepEqual(rig.vectors, []);
  rig.command(C.RESET_DEVICE, 0, 1);
  rig.command(31, 0, 1);
  t.deepEqual(rig.vectors, [0, 0], 'an error interrupts too');
  t.is(rig.read32(DsaReg.INTCAUSE), Intcause.COMMAND);
  rig.write(DsaReg.INTCAUSE, Intcause.COMMAND);
  t.is(rig.read32(DsaReg.INTCAUSE), 0);
});

test('the DRAIN operation waits for earlier descriptors of its own client only', (t) => {
  const rig = new Rig();
  rig.enablePci();
  rig.enable([{ blockOnFault: 1 }], 3);
  rig.fabric.map(PASID, REC, 4096);
  rig.fabric.map(6, REC, 4096);
  rig.enqueue(stuck);
  rig.enqueue({ ...noop, opcode: Opcode.DRAIN, completion: BigInt(REC + 32) });
  rig.enqueue({ ...noop, opcode: Opcode.DRAIN, pasid: 6 });
  rig.clock.run();
  t.is(rig.record(6, REC).status, DsaStatus.SUCCESS);
  t.is(rig.record(PASID, REC + 32).status, DsaStatus.NOT_WRITTEN);
  answer(rig);
  rig.clock.run();
  t.is(rig.record(PASID, REC + 32).status, DsaStatus.SUCCESS);
});
