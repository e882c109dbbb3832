import test from 'ava';
import { CPL } from '../../../devices/pci/fabric.ts';
import { type Completion, DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { crc32c } from '../../../devices/spec/dsa/crc.ts';
import type { DescriptorInit } from '../../../devices/spec/dsa/descriptor.ts';
import { CrcFlag, DescriptorFlag as F, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { DsaCommand, DsaReg, Swerr0 } from '../../../devices/spec/dsa/registers.ts';
import { PriCap } from '../../../devices/spec/pci.ts';
import { CAP, noise, RECORD, Rig } from './rig.ts';

const PASID = 5;
const REC = 0x900_0000;
const SRC = 0x10_0000;
const DST = 0x7f_0000;
const SIZE = 10 * 4096;
const base = { pasid: PASID, flags: RECORD, completion: BigInt(REC) };
const move = {
  ...base,
  opcode: Opcode.MEMMOVE,
  source: BigInt(SRC + 100),
  destination: BigInt(DST + 200),
  size: SIZE,
};
const waiting = { ...move, flags: RECORD | F.BLOCK_ON_FAULT };

function rigWith(model = {}): Rig {
  const rig = Rig.shared(model);
  rig.fabric.map(PASID, REC, 32);
  return rig;
}

/** Maps a page whenever the device reports a fault, and lets software adjust and resubmit. */
function resume(
  rig: Rig,
  first: DescriptorInit,
  adjust: (d: DescriptorInit, r: Completion) => DescriptorInit,
): { faults: number; record: Completion } {
  let descriptor = first;
  for (let faults = 0; faults < 100; faults++) {
    const record = rig.execute(descriptor);
    if (record.status !== DsaStatus.PAGE_FAULT) return { faults, record };
    rig.fabric.map(PASID, Number(record.faultAddress), 1);
    descriptor = adjust(descriptor, record);
  }
  throw new Error('never done');
}

const advanced = (d: DescriptorInit, by: number): DescriptorInit => ({
  ...d,
  source: d.source! + BigInt(by),
  destination: d.destination! + BigInt(by),
  size: d.size! - by,
});

test('a fault without block on fault reports how far it came; software resumes to the end', (t) => {
  const rig = rigWith();
  const data = noise(SIZE);
  rig.fabric.map(PASID, SRC, SIZE + 4096);
  rig.fabric.poke(PASID, SRC + 100, data);
  const first = rig.execute(move);
  t.like(first, {
    status: DsaStatus.PAGE_FAULT,
    faultOnWrite: true,
    faultAddress: BigInt(DST + 200),
    bytesCompleted: 0,
  });
  const { faults, record } = resume(rig, move, (d, r) => advanced(d, r.bytesCompleted));
  t.is(faults, 11);
  t.is(record.status, DsaStatus.SUCCESS);
  t.deepEqual(rig.fabric.peek(PASID, DST + 200, SIZE), data);
  t.deepEqual(rig.fabric.requests, []);
});

test('a copy that ran backwards says so: only its size shrinks', (t) => {
  const rig = rigWith();
  const data = noise(SIZE);
  rig.fabric.map(PASID, SRC, SIZE);
  rig.fabric.poke(PASID, SRC, data);
  const overlapping = { ...move, source: BigInt(SRC), destination: BigInt(SRC + 6000) };
  const first = rig.execute(overlapping);
  t.like(first, { status: DsaStatus.PAGE_FAULT, faultOnWrite: true, result: 1 });
  const { record } = resume(rig, overlapping, (d, r) => {
    t.is(r.result, 1);
    return { ...d, size: d.size! - r.bytesCompleted };
  });
  t.is(record.status, DsaStatus.SUCCESS);
  t.deepEqual(rig.fabric.peek(PASID, SRC + 6000, SIZE), data);
});

test('CRC, fill and pattern resume from what the record says', (t) => {
  const rig = rigWith();
  const data = noise(SIZE);
  rig.fabric.map(PASID, SRC + 100, SIZE);
  rig.fabric.poke(PASID, SRC + 100, data);
  const crc = { ...move, opcode: Opcode.COPY_CRC };
  const copied = resume(rig, crc, (d, r) => ({
    ...advanced(d, r.bytesCompleted),
    crcSeed: r.crc,
  }));
  t.is(copied.faults, 11);
  t.is(copied.record.crc, crc32c(data));
  t.deepEqual(rig.fabric.peek(PASID, DST + 200, SIZE), data);

  const source = 0x0706_0504_0302_0100n;
  const fill = { ...move, opcode: Opcode.FILL, source, destination: 0x300_0003n };
  const filled = resume(rig, fill, (d, r) => ({ ...advanced(d, r.bytesCompleted), source }));
  t.is(filled.record.status, DsaStatus.SUCCESS);
  const pattern = Uint8Array.from({ length: SIZE }, (_, i) => i % 8);
  t.deepEqual(rig.fabric.peek(PASID, 0x300_0003, SIZE), pattern);
});

test('block on fault asks for pages, ahead of itself, and goes on by itself', (t) => {
  const rig = rigWith();
  const data = noise(SIZE);
  rig.fabric.map(PASID, SRC, SIZE + 4096);
  rig.fabric.poke(PASID, SRC + 100, data);
  rig.enqueue(waiting);
  rig.clock.run();
  const vpn = DST / 4096;
  t.deepEqual(
    rig.fabric.requests.map((request) => request.vpn),
    [vpn, vpn + 1, vpn + 2, vpn + 3],
  );
  t.true(rig.fabric.requests.every(({ read, write, last }) => !read && write && last));
  t.is(new Set(rig.fabric.requests.map(({ prgi }) => prgi)).size, 4);
  t.is(rig.record(PASID, REC).status, DsaStatus.NOT_WRITTEN);
  rig.fabric.onPageRequest = (request) => {
    rig.clock.after(5000, () => {
      rig.fabric.map(PASID, request.vpn * 4096, 1);
      rig.respond(request);
    });
  };
  // Answers in the opposite order: the one it needs comes last.
  for (const request of rig.fabric.requests.slice().reverse()) {
    rig.fabric.map(PASID, request.vpn * 4096, 1);
    rig.respond(request);
  }
  rig.clock.run();
  t.like(rig.record(PASID, REC), { status: DsaStatus.SUCCESS, bytesCompleted: SIZE });
  t.deepEqual(rig.fabric.peek(PASID, DST + 200, SIZE), data);
  t.is(rig.fabric.requests.length, 11, 'each page once');
});

test('an answer that comes while the request is being sent is not lost', (t) => {
  const rig = rigWith();
  rig.fabric.map(PASID, SRC, SIZE + 4096);
  rig.fabric.onPageRequest = (request) => {
    rig.fabric.map(PASID, request.vpn * 4096, 1);
    rig.respond(request);
  };
  t.is(rig.execute(waiting).status, DsaStatus.SUCCESS);
});

test('answers: invalid is status 0x04, failure is 0x22 and stops page requests', (t) => {
  const rig = rigWith();
  rig.fabric.map(PASID, SRC, SIZE + 4096);
  rig.fabric.map(PASID, DST, 8192);
  rig.fabric.onPageRequest = (request) => rig.clock.after(10, () => rig.respond(request, 1));
  t.like(rig.execute(waiting), {
    status: DsaStatus.PAGE_RESPONSE_INVALID,
    faultOnWrite: true,
    faultAddress: BigInt(DST + 8192),
    bytesCompleted: 8192 - 200,
  });
  rig.fabric.onPageRequest = (request) => rig.clock.after(10, () => rig.respond(request, 15));
  t.is(rig.execute(waiting).status, DsaStatus.TRANSLATION_ERROR);
  const stopped = PriCap.STATUS_RESPONSE_FAILURE | PriCap.STATUS_STOPPED;
  t.is(rig.dsa.configRead(CAP.PRI + PriCap.STATUS, 2) & stopped, stopped);
  const sent = rig.fabric.requests.length;
  t.is(rig.execute(waiting).status, DsaStatus.PAGE_FAULT, 'no more page requests');
  t.is(rig.fabric.requests.length, sent);
});

test('success that never helps ends after a bounded number of requests', (t) => {
  const rig = rigWith({ pageRequestRetries: 8, pageRequestWindow: 1 });
  rig.fabric.map(PASID, SRC, SIZE + 4096);
  rig.fabric.onPageRequest = (request) => rig.clock.after(10, () => rig.respond(request));
  t.is(rig.execute(waiting).status, DsaStatus.TRANSLATION_ERROR);
  t.is(rig.fabric.requests.length, 9);
});

test('a refused translation request is a translation error', (t) => {
  const rig = rigWith();
  rig.fabric.map(PASID, SRC, SIZE + 4096);
  t.is(rig.execute({ ...base, opcode: Opcode.NOOP }).status, DsaStatus.SUCCESS);
  for (const status of [CPL.UNSUPPORTED_REQUEST, CPL.COMPLETER_ABORT] as const) {
    rig.fabric.refuse = status;
    t.like(rig.execute(waiting), {
      status: DsaStatus.TRANSLATION_ERROR,
      faultOnWrite: false,
      faultAddress: BigInt(SRC + 100),
    });
  }
  t.deepEqual(rig.fabric.requests, []);
});

test('a fault on a CRC seed in memory is reported, or waited for', (t) => {
  const rig = rigWith();
  rig.fabric.map(PASID, SRC, SIZE + 4096);
  const seed = { ...base, opcode: Opcode.CRCGEN, source: BigInt(SRC), size: 8 };
  const flags = RECORD | CrcFlag.READ_SEED;
  const apart = { ...seed, flags, crcSeedAddress: BigInt(DST + 4) };
  t.like(rig.execute(apart), { status: DsaStatus.PAGE_FAULT, faultAddress: BigInt(DST + 4) });
  rig.enqueue({ ...apart, flags: flags | F.BLOCK_ON_FAULT });
  rig.clock.run();
  rig.fabric.map(PASID, DST, 4096);
  rig.fabric.poke(PASID, DST + 4, Uint8Array.of(1, 0, 0, 0));
  rig.respond(rig.fabric.requests[0]!);
  rig.clock.run();
  const expected = crc32c(rig.fabric.peek(PASID, SRC, 8), 1);
  t.like(rig.record(PASID, REC), { status: DsaStatus.SUCCESS, crc: expected });
});

test('an address space ends: data beyond 2^64 is a fault, not a wrap', (t) => {
  const rig = rigWith();
  const top = 2n ** 64n - 4096n;
  const last = { pfn: 900, write: true, shift: 12, untranslatedOnly: false };
  rig.fabric.table(PASID).set(2 ** 52 - 1, last);
  rig.fabric.map(PASID, 0, 8192);
  const fill = { ...base, opcode: Opcode.FILL, source: 0n, destination: top, size: 8192 };
  t.like(rig.execute(fill), { status: DsaStatus.PAGE_FAULT, bytesCompleted: 4096 });
});

test('a fault on the record: the page is asked for; refused, the error is latched', (t) => {
  const rig = Rig.shared();
  rig.enqueue({ ...base, opcode: Opcode.NOOP });
  rig.clock.run();
  t.is(rig.fabric.requests.length, 1, 'even without block on fault');
  rig.fabric.map(PASID, REC, 32);
  rig.respond(rig.fabric.requests[0]!);
  rig.clock.run();
  t.is(rig.record(PASID, REC).status, DsaStatus.SUCCESS);
  rig.enqueue({ ...base, opcode: Opcode.NOOP, completion: 0x1234_0000n });
  rig.clock.run();
  rig.respond(rig.fabric.requests[1]!, 1);
  rig.clock.run();
  const swerr = Swerr0.decode(rig.read(DsaReg.SWERR, 8));
  t.like(swerr, {
    valid: 1,
    overflow: 0,
    error: DsaStatus.COMPLETION_FAULT,
    wqIndex: 0,
    wqIndexValid: 1,
    descriptorValid: 1,
    faultOnWrite: 1,
    pasid: PASID,
  });
  t.is(rig.read(DsaReg.SWERR + 16, 8), 0x1234_0000n);
  t.is(rig.read32(DsaReg.INTCAUSE), 1);
});

test('a blocked descriptor holds neither other engines nor an abort', (t) => {
  const rig = new Rig();
  rig.enablePci();
  rig.enable([{ blockOnFault: 1 }], 2);
  rig.fabric.map(PASID, REC, 4096);
  rig.fabric.map(6, REC, 4096);
  rig.fabric.map(6, SRC, SIZE + 4096);
  rig.fabric.map(6, DST, SIZE + 4096);
  rig.enqueue(waiting);
  rig.clock.run();
  t.is(rig.execute({ ...waiting, pasid: 6 }).status, DsaStatus.SUCCESS);
  t.is(rig.command(DsaCommand.ABORT_PASID, PASID), 0);
  t.is(rig.record(PASID, REC).status, DsaStatus.NOT_WRITTEN, 'aborted without a record');
  const both = [PASID, 6].map((pasid) => {
    rig.fabric.map(pasid, SRC, SIZE + 4096);
    rig.fabric.map(pasid, DST, SIZE + 4096);
    return rig.execute({ ...waiting, pasid }).status;
  });
  t.deepEqual(both, [DsaStatus.SUCCESS, DsaStatus.SUCCESS], 'both engines work');
});

test('the allocation bounds outstanding page requests; engines wait for their turn', (t) => {
  const rig = new Rig({ pageRequestWindow: 4 });
  rig.enablePci({ allocation: 2 });
  rig.enable([{ blockOnFault: 1 }], 3);
  let most = 0;
  const open = new Set<number>();
  rig.fabric.onPageRequest = (request) => {
    open.add(request.prgi);
    most = Math.max(most, open.size);
    rig.clock.after(1000, () => {
      open.delete(request.prgi);
      rig.fabric.map(request.pasid, request.vpn * 4096, 1);
      rig.respond(request);
    });
  };
  for (const pasid of [1, 2, 3]) {
    rig.fabric.map(pasid, REC, 32);
    rig.enqueue({ ...waiting, pasid });
  }
  rig.clock.run();
  t.deepEqual(
    [1, 2, 3].map((pasid) => rig.record(pasid, REC).status),
    [1, 1, 1],
  );
  t.is(most, 2);
});

test('turning page requests off, or resetting them, lets waiting descriptors end', (t) => {
  const rig = rigWith();
  rig.enqueue(waiting);
  rig.clock.run();
  rig.dsa.configWrite(CAP.PRI + PriCap.CONTROL, 2, 0);
  rig.clock.run();
  t.is(rig.dsa.configRead(CAP.PRI + PriCap.STATUS, 2) & PriCap.STATUS_STOPPED, 0);
  t.is(rig.record(PASID, REC).status, DsaStatus.NOT_WRITTEN, 'its answer may still come');
  rig.dsa.configWrite(CAP.PRI + PriCap.CONTROL, 2, PriCap.CONTROL_RESET);
  rig.clock.run();
  t.not(rig.dsa.configRead(CAP.PRI + PriCap.STATUS, 2) & PriCap.STATUS_STOPPED, 0);
  t.is(rig.record(PASID, REC).status, DsaStatus.PAGE_FAULT);
});

test('requests of different PASIDs never meet: each has its own translations', (t) => {
  const rig = rigWith();
  for (const pasid of [1, 2]) {
    for (const at of [SRC, DST, REC]) rig.fabric.map(pasid, at, 4096);
    rig.fabric.poke(pasid, SRC, noise(100, pasid));
  }
  for (const pasid of [1, 2, 1]) {
    const copy = { ...move, source: BigInt(SRC), destination: BigInt(DST), size: 100, pasid };
    t.is(rig.execute(copy).status, DsaStatus.SUCCESS);
    t.deepEqual(rig.fabric.peek(pasid, DST, 100), noise(100, pasid));
  }
  t.true(rig.fabric.asked.every(({ priv }) => !priv));
});
