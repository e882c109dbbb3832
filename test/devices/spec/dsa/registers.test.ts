import test from 'ava';
import {
  CmdReg,
  CmdstsReg,
  cmdErrorName,
  commandName,
  DsaCommand,
  Evlcfg0,
  Evlstatus,
  Gencap,
  Gensts,
  Swerr0,
  Wqcap,
  wqMaskOperand,
  wqsOfMask,
} from '../../../../devices/spec/dsa/registers.ts';

test('GENCAP of a real DSA 1.0 decodes to its documented limits', (t) => {
  const real = Gencap.decode(0x1_833f_215fn);
  t.like(real, {
    blockOnFault: 1,
    overlapCopy: 1,
    commandCapabilities: 1,
    eventLogSupport: 1,
    maxTransferShift: 31,
    maxBatchShift: 9,
    configEnable: 1,
    drainReadback: 0,
  });
});

test('WQCAP fields', (t) => {
  const word = Wqcap.encode({ totalWqSize: 128, wqCount: 8, wqcfgSize: 1, sharedMode: 1 });
  t.is(word, 0x0001_0000_0108_0080n);
});

test('commands', (t) => {
  const word = CmdReg.encode({ command: DsaCommand.ENABLE_WQ, operand: 3, interrupt: 1 });
  t.is(word, 0x8060_0003);
  t.deepEqual(CmdReg.decode(word), { command: 6, operand: 3, interrupt: 1 });
  t.is(CmdstsReg.encode({ error: 0x22, active: 1 }), 0x8000_0022);
  t.is(commandName(5), 'RESET_DEVICE');
  t.is(commandName(31), 'command 31');
  t.is(cmdErrorName(0x12), 'BUS_MASTER_DISABLED');
  t.is(cmdErrorName(0x7f), 'error 0x7f');
});

test('a WQ mask names WQs of one group of 16', (t) => {
  t.is(wqMaskOperand(3), 0x0_0008);
  t.is(wqMaskOperand(17), 0x1_0002);
  t.deepEqual(wqsOfMask(0x1_8001), [16, 31]);
  t.deepEqual(wqsOfMask(0), []);
  for (const wq of [0, 7, 15, 16, 255]) t.deepEqual(wqsOfMask(wqMaskOperand(wq)), [wq]);
});

test('status and error registers', (t) => {
  t.deepEqual(Gensts.decode(0x7), { state: 3, resetType: 1 });
  const error = Swerr0.encode({
    valid: 1,
    wqIndexValid: 1,
    error: 0x1a,
    wqIndex: 2,
    pasid: 0xfffff,
  });
  t.is(error, 0x0fff_ff00_0002_1a09n);
  t.is(Evlcfg0.encode({ pasidEnable: 1, basePage: 0x1_2345 }), 0x1234_5001n);
  t.is(Evlstatus.encode({ head: 1, tail: 2, interruptPending: 1 }), 0x4000_0002_0000_0001n);
});
