import test from 'ava';
import { DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag as F, Opcode, opcap } from '../../../devices/spec/dsa/opcodes.ts';
import {
  DsaCommand,
  DsaReg,
  Gencap,
  Gencfg,
  Offsets0,
  Wqcap,
} from '../../../devices/spec/dsa/registers.ts';
import { encodeWqcfg, Grpcfg, MsixPermission } from '../../../devices/spec/dsa/tables.ts';
import { PciHeader, PriCap } from '../../../devices/spec/pci.ts';
import { CAP, noise, RECORD, Rig } from './rig.ts';

const NONE = -1;
const REC = 0x90_0000;

test('the kernel selftest’s driver: probe, init, 32 batches back to back, interrupt, remove', (t) => {
  const rig = new Rig();
  const { dsa } = rig;
  const gencap = Gencap.decode(rig.read(DsaReg.GENCAP, 8));
  t.is(gencap.commandCapabilities, 1);
  t.is((rig.read32(DsaReg.CMDCAP) >>> 13) & 1, 0);
  rig.busMaster(true);
  t.is(rig.command(DsaCommand.RESET_DEVICE), 0);
  t.is(rig.read(DsaReg.SWERR, 8), 0n);
  const wqcap = Wqcap.decode(rig.read(DsaReg.WQCAP, 8));
  const offsets = Offsets0.decode(rig.read(DsaReg.OFFSETS, 8));
  encodeWqcfg({
    size: wqcap.totalWqSize,
    dedicated: 1,
    priority: 1,
    atsDisable: wqcap.atsControl,
    maxTransferShift: gencap.maxTransferShift,
    maxBatchShift: gencap.maxBatchShift,
    opConfig: opcap([Opcode.BATCH, Opcode.MEMMOVE]),
  }).forEach((word, i) => rig.write(offsets.wqcfg * 256 + 4 * i, word));
  rig.write(offsets.grpcfg * 256 + Grpcfg.WQ_BITMAP, 1n, 8);
  rig.write(offsets.grpcfg * 256 + Grpcfg.ENGINE_BITMAP, 1n, 8);
  t.is(rig.command(DsaCommand.ENABLE_DEVICE), 0);
  t.is(rig.command(DsaCommand.ENABLE_WQ, 0), 0);
  rig.enableMsix();

  const { fabric } = rig;
  const [src, dst, list] = [0x10_0000, 0x20_0000, 0x30_0000];
  const size = 10_000;
  for (const at of [src, dst, list, REC]) fabric.map(NONE, at, 0x4000);
  const data = noise(size);
  fabric.poke(NONE, src, data);
  const move = {
    opcode: Opcode.MEMMOVE,
    flags: RECORD,
    privileged: true,
    completion: BigInt(REC),
    source: BigInt(src),
    destination: BigInt(dst),
    size,
  };
  rig.post(move);
  rig.clock.run();
  t.is(rig.record(NONE, REC).status, DsaStatus.SUCCESS);
  t.deepEqual(fabric.peek(NONE, dst, size), data);
  t.deepEqual(rig.vectors, []);

  fabric.poke(NONE, REC, new Uint8Array(32));
  rig.post({ ...move, flags: RECORD | F.REQUEST_INTERRUPT, interruptHandle: 1 });
  rig.clock.run();
  t.deepEqual(rig.vectors, [1]);

  for (const unmapped of [{ source: 0x7700_0000n }, { destination: 0x7700_0000n }]) {
    rig.post({ ...move, ...unmapped });
    rig.clock.run();
    t.is(rig.record(NONE, REC).status, DsaStatus.PAGE_FAULT);
  }

  const member = { ...move, flags: F.COMPLETION_VALID };
  for (let i = 0; i < 32; i++) fabric.poke(NONE, list + 64 * i, encodeDescriptor(member));
  fabric.poke(NONE, REC, new Uint8Array(32));
  for (let i = 0; i < 32; i++) {
    const flags = i === 31 ? RECORD : F.COMPLETION_VALID;
    rig.post({
      ...move,
      opcode: Opcode.BATCH,
      flags,
      source: BigInt(list),
      destination: 0n,
      size: 32,
    });
  }
  rig.clock.run();
  t.like(rig.record(NONE, REC), { status: DsaStatus.SUCCESS, bytesCompleted: 32 });
  t.is(rig.read(DsaReg.SWERR, 8), 0n, 'never a software error');
  t.deepEqual(rig.vectors, [1], 'never another interrupt');
  t.deepEqual(fabric.asked, [], 'ATS is disabled for the queue');
  t.is(rig.command(DsaCommand.RESET_DEVICE), 0);
  dsa.configWrite(CAP.MSIX + 2, 2, 0);
  t.is(rig.read(DsaReg.SWERR, 8), 0n);
});

test('completion interrupts: permission by PASID, users by GENCFG', (t) => {
  const rig = new Rig();
  rig.enablePci();
  rig.write(DsaReg.GENCFG, Gencfg.encode({ userInterruptEnable: 1 }));
  rig.enable();
  rig.enableMsix();
  for (const pasid of [5, 6]) rig.fabric.map(pasid, REC, 32);
  const permission = (vector: number, entry: Parameters<typeof MsixPermission.encode>[0]): void =>
    rig.write(rig.caps.msixPermissionOffset + 8 * vector, MsixPermission.encode(entry));
  permission(1, { pasidEnable: 1, pasid: 5 });
  permission(2, { ignore: 1 });
  const noop = {
    opcode: Opcode.NOOP,
    flags: RECORD | F.REQUEST_INTERRUPT,
    completion: BigInt(REC),
  };
  const run = (pasid: number, interruptHandle: number): number =>
    rig.execute({ ...noop, pasid, interruptHandle }).status;
  t.is(run(5, 1), DsaStatus.SUCCESS);
  t.is(run(6, 1), DsaStatus.INTERRUPT_HANDLE);
  t.is(run(6, 2), DsaStatus.SUCCESS);
  t.is(run(6, 3), DsaStatus.INTERRUPT_HANDLE);
  t.deepEqual(rig.vectors, [1, 2]);
  const failing = { ...noop, opcode: Opcode.FILL, pasid: 5, interruptHandle: 1, size: 1 };
  t.is(rig.execute({ ...failing, destination: 0x1000n }).status, DsaStatus.PAGE_FAULT);
  t.deepEqual(rig.vectors, [1, 2, 1], 'an error completes too');
});

test('software errors interrupt when GENCTRL says so', (t) => {
  const rig = Rig.shared();
  rig.enableMsix();
  rig.post({ opcode: Opcode.NOOP }, 0);
  t.deepEqual(rig.vectors, []);
  rig.write(DsaReg.GENCTRL, 1);
  rig.post({ opcode: Opcode.NOOP }, 0);
  t.deepEqual(rig.vectors, [0]);
});

test('a function level reset in the midst of everything leaves a fresh function', (t) => {
  const rig = Rig.shared();
  rig.fabric.map(5, REC, 32);
  const stuck = {
    opcode: Opcode.FILL,
    pasid: 5,
    flags: RECORD | F.BLOCK_ON_FAULT,
    completion: BigInt(REC),
    destination: 0x5000n,
    size: 1,
  };
  rig.enqueue(stuck);
  rig.enqueue(stuck);
  rig.clock.run();
  rig.start(DsaCommand.DRAIN_ALL);
  rig.clock.run();
  t.true(rig.active);
  rig.dsa.configWrite(CAP.PCIE + 8, 2, 0x8000);
  t.false(rig.active);
  t.is(rig.dsa.configRead(PciHeader.COMMAND, 2), 0);
  t.is(rig.dsa.configRead(CAP.ATS + 6, 2), 0);
  t.is(rig.dsa.configRead(CAP.PRI + PriCap.STATUS, 2), 0x8100);
  rig.respond(rig.fabric.requests[0]!);
  t.is(rig.dsa.configRead(CAP.PRI + PriCap.STATUS, 2), 0x8102, 'nobody asked');
  rig.clock.run();
  t.is(rig.record(5, REC).status, DsaStatus.NOT_WRITTEN);
  t.is(rig.read32(rig.caps.wqcfgOffset), 0);
  rig.enablePci();
  rig.enable([{ blockOnFault: 1 }]);
  rig.fabric.map(5, 0x5000, 1);
  t.is(rig.execute(stuck).status, DsaStatus.SUCCESS);
});

test('responses that name no request are noted and change nothing', (t) => {
  const rig = Rig.shared();
  rig.enqueue({ opcode: Opcode.NOOP, pasid: 5, flags: RECORD, completion: BigInt(REC) });
  rig.clock.run();
  const [request] = rig.fabric.requests;
  rig.dsa.pageGroupResponse(6, request!.prgi, 0);
  t.is(rig.dsa.configRead(CAP.PRI + PriCap.STATUS, 2), 0x8002);
  for (const prgi of [request!.prgi + 1, 511, 512, -1]) rig.dsa.pageGroupResponse(5, prgi, 0);
  rig.fabric.map(5, REC, 32);
  rig.clock.run();
  t.is(rig.record(5, REC).status, DsaStatus.NOT_WRITTEN);
  rig.respond(request!);
  rig.clock.run();
  t.is(rig.record(5, REC).status, DsaStatus.SUCCESS);
});

test('turning PASIDs or ATS off and on empties the device-TLB', (t) => {
  const rig = Rig.shared();
  rig.fabric.map(5, REC, 32);
  const noop = { opcode: Opcode.NOOP, pasid: 5, flags: RECORD, completion: BigInt(REC) };
  rig.execute(noop);
  rig.execute(noop);
  t.is(rig.fabric.asked.length, 1);
  for (const control of [CAP.ATS + 6, CAP.PASID + 6]) {
    const on = rig.dsa.configRead(control, 2);
    rig.dsa.configWrite(control, 2, 0);
    rig.dsa.configWrite(control, 2, on);
    rig.execute(noop);
  }
  t.is(rig.fabric.asked.length, 3);
});

test('a PASID the function may no longer use is refused before it goes out', (t) => {
  const rig = Rig.shared();
  rig.dsa.configWrite(CAP.PASID + 6, 2, 0);
  rig.enqueue({ opcode: Opcode.NOOP, pasid: 5, flags: RECORD, completion: BigInt(REC) });
  rig.clock.run();
  t.is(rig.fabric.asked.length + rig.fabric.writes.length, 0);
  t.is(Number((rig.read(DsaReg.SWERR, 8) >> 8n) & 0xffn), DsaStatus.COMPLETION_FAULT);
});

test('events: one tree from submission to completion, and the counters', (t) => {
  const rig = Rig.shared({}, true);
  rig.fabric.map(5, REC, 32);
  rig.fabric.map(5, 0x1000, 0x8000);
  rig.events.length = 0;
  const asked = { opcode: Opcode.MEMMOVE, pasid: 5, flags: RECORD | F.BLOCK_ON_FAULT };
  rig.fabric.onPageRequest = (request) => {
    rig.clock.after(100, () => {
      rig.fabric.map(5, request.vpn * 4096, 1);
      rig.respond(request);
    });
  };
  rig.execute({
    ...asked,
    completion: BigInt(REC),
    source: 0x1000n,
    destination: 0x10_0000n,
    size: 8192,
  });
  const names = rig.events.map(({ def }) => def.name.slice(4));
  t.deepEqual(names, [
    'desc_accept',
    'desc_start',
    'ats_request',
    'ats_request',
    'page_request',
    'ats_request',
    'page_request',
    'page_response',
    'page_response',
    'ats_request',
    'ats_request',
    'ats_request',
    'dma',
    'ats_request',
    'desc_complete',
  ]);
  const bySeq = new Map(rig.events.map((record) => [record.seq, record]));
  for (const record of rig.events.slice(1)) {
    let at = record;
    while (bySeq.has(at.cause)) at = bySeq.get(at.cause)!;
    t.is(at.def.name, 'dsa:desc_accept', record.def.name);
  }
  rig.dsa.emitStats();
  t.like(rig.events.at(-1)!.values, {
    device: '00:01.0',
    descriptors: 1,
    bytes: 8192,
    pageRequests: 2,
    atsRequests: rig.fabric.asked.length,
  });
});

test('random bytes everywhere do no harm, and the device still works after a reset', (t) => {
  const rig = Rig.shared();
  const bytes = noise(400_000, 99);
  let at = 0;
  const u32 = (): number => {
    at = (at + 4) % (bytes.length - 8);
    return new DataView(bytes.buffer).getUint32(at, true);
  };
  rig.fabric.onPageRequest = (request) => {
    if (request.prgi % 3 !== 0) rig.respond(request, request.prgi % 5 === 0 ? 1 : 0);
  };
  for (let pasid = 0; pasid < 4; pasid++) rig.fabric.map(pasid, 0, 0x10_0000);
  for (let i = 0; i < 3000; i++) {
    const size = ([1, 2, 4, 8] as const)[u32() % 4]!;
    const offset = u32() % 0x1_0000;
    rig.dsa.barWrite(0, offset - (offset % size), size, BigInt(u32()) * BigInt(u32()));
    rig.dsa.barRead(0, offset, size);
    const raw = bytes.slice(at, at + 64);
    if (i % 2 === 0) raw.set([u32() % 4, 0, 0, 0, 0x0c, 0, 0, u32() % 0x12], 0);
    if (i % 4 === 0) raw.fill(0, 35);
    rig.dsa.barEnqueue(2, (u32() % 8) * 0x4000, raw);
    rig.dsa.barWrite64(2, (u32() % 8) * 0x4000, raw);
    rig.dsa.invalidate(
      u32() % 32,
      (u32() % 6) - 1,
      u32() % 2 === 0,
      u32() * 2 ** 20,
      12 + (u32() % 53),
    );
    rig.dsa.pageGroupResponse(u32() % 4, u32() % 600, u32() % 16);
    const config = (u32() % 1024) * 4;
    if (i % 100 === 0) rig.dsa.configWrite(config, 4, u32());
    for (let k = 0; k < 5; k++) rig.clock.step();
    if (i % 500 === 499) {
      rig.clock.run();
      rig.dsa.reset();
      rig.enablePci();
      rig.enable([{ blockOnFault: 1 }, { dedicated: 1 }], 4);
    }
  }
  rig.clock.run();
  rig.dsa.reset();
  rig.fabric.onPageRequest = null;
  rig.enablePci();
  rig.enable();
  const noop = { opcode: Opcode.NOOP, pasid: 1, flags: RECORD, completion: 0x2000n };
  t.is(rig.execute(noop).status, DsaStatus.SUCCESS);
});
