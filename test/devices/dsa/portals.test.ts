import test from 'ava';
import { SWERR_DROPPED } from '../../../devices/dsa/errors.ts';
import { DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { DsaReg, Swerr0 } from '../../../devices/spec/dsa/registers.ts';
import { portalOffset } from '../../../devices/spec/dsa/tables.ts';
import { RECORD, Rig } from './rig.ts';

const PASID = 3;
const REC = 0x90_0000;
const noop = { pasid: PASID, flags: RECORD, completion: BigInt(REC), opcode: Opcode.NOOP };
const swerr = (rig: Rig) => Swerr0.decode(rig.read(DsaReg.SWERR, 8));

test('a shared queue says retry at its threshold and when it is full', (t) => {
  const rig = new Rig();
  rig.enablePci();
  rig.enable([{ size: 4, threshold: 2 }]);
  rig.fabric.map(PASID, REC, 32);
  t.deepEqual(
    [true, true, true].map((limited) => rig.enqueue(noop, 0, limited)),
    [true, true, false],
  );
  t.deepEqual(
    [1, 2, 3].map(() => rig.enqueue(noop)),
    [true, true, false],
    'the unlimited portal has the rest',
  );
  t.is(rig.read32(rig.caps.wqcfgOffset + 24) & 0xffff, 4);
  rig.clock.run();
  t.is(rig.read32(rig.caps.wqcfgOffset + 24) & 0xffff, 0);
  t.true(rig.enqueue(noop, 0, true));
  t.is(swerr(rig).valid, 0);
});

test('a queue or a device that is off, or a queue that is not there, says retry', (t) => {
  const rig = new Rig();
  t.false(rig.enqueue(noop));
  rig.enablePci();
  rig.enable();
  t.false(rig.enqueue(noop, 1));
  const bytes = encodeDescriptor(noop);
  t.false(rig.dsa.barEnqueue(2, 8 * 4 * 4096, bytes));
  t.false(rig.dsa.barEnqueue(0, 0, bytes));
  t.false(rig.dsa.barEnqueue(2, 32, bytes));
});

test('a dedicated queue takes posted writes in order and drops what does not fit', (t) => {
  const rig = new Rig();
  rig.enablePci();
  rig.enable([{ dedicated: 1, size: 2, pasid: PASID, threshold: 0 }]);
  rig.fabric.map(PASID, REC, 4096);
  for (let i = 0; i < 2; i++) rig.post({ ...noop, completion: BigInt(REC + 32 * i) });
  t.is(swerr(rig).valid, 0);
  rig.post({ ...noop, completion: BigInt(REC + 64) });
  t.like(swerr(rig), { valid: 1, error: SWERR_DROPPED, wqIndex: 0, descriptorValid: 0 });
  rig.clock.run();
  const statuses = [0, 1, 2].map((i) => rig.record(PASID, REC + 32 * i).status);
  t.deepEqual(statuses, [1, 1, 0]);
});

test('a write of the other kind is refused', (t) => {
  const rig = new Rig();
  rig.enablePci();
  rig.enable([{ dedicated: 1, pasid: PASID }, {}]);
  rig.fabric.map(PASID, REC, 32);
  t.false(rig.enqueue(noop, 0));
  rig.post(noop, 1);
  t.like(swerr(rig), { valid: 1, error: SWERR_DROPPED, wqIndex: 1 });
  rig.clock.run();
  t.is(rig.record(PASID, REC).status, DsaStatus.NOT_WRITTEN);
  const quiet = new Rig({ reportDroppedSubmissions: false });
  quiet.post(noop);
  t.is(swerr(quiet).valid, 0);
});

test('identity: dedicated queues have their own PASID, shared ones the descriptor’s', (t) => {
  const rig = new Rig();
  rig.enablePci({ pri: false });
  rig.enable([
    { dedicated: 1, pasid: 0x4_4444, privileged: 1 },
    {},
    { dedicated: 1, pasidEnable: 0 },
  ]);
  rig.post({ ...noop, pasid: 1 });
  rig.enqueue({ ...noop, pasid: 2, privileged: true }, 1);
  rig.enqueue({ ...noop, pasid: 2 }, 1);
  rig.post({ ...noop, pasid: 1, privileged: true }, 2);
  rig.clock.run();
  const seen = rig.fabric.asked.map(({ pasid, priv }) => `${pasid} ${priv}`);
  t.deepEqual(seen.sort(), ['-1 false', '2 false', '2 true', '279620 true']);
});

test('portals read all ones, ignore narrow writes and need all 64 bytes', (t) => {
  const rig = Rig.shared();
  t.is(rig.dsa.barRead(2, portalOffset(0), 8), 2n ** 64n - 1n);
  t.is(rig.dsa.barRead(2, 0, 1), 255n);
  for (let at = 0; at < 64; at += 8) rig.dsa.barWrite(2, at, 8, 1n);
  t.false(rig.dsa.barEnqueue(2, 0, new Uint8Array(32)));
  rig.dsa.barWrite64(2, 0, new Uint8Array(32));
  rig.clock.run();
  t.is(swerr(rig).valid, 0);
  for (const offset of [64, 4032, portalOffset(0, { ims: true })]) {
    t.true(rig.dsa.barEnqueue(2, offset, encodeDescriptor(noop)), 'anywhere in the page');
  }
});

test('engines share a group’s queues by priority', (t) => {
  const rig = new Rig({}, true);
  rig.enablePci();
  rig.enable([{ priority: 3 }, { priority: 1 }]);
  rig.fabric.map(PASID, REC, 32);
  for (let i = 0; i < 12; i++) {
    rig.enqueue(noop, 0);
    rig.enqueue(noop, 1);
  }
  rig.clock.run();
  const served = rig.events.flatMap(({ def, values }) =>
    def.name === 'dsa:desc_start' ? [Number(values['wq'])] : [],
  );
  t.is(served.length, 24);
  const early = served.slice(0, 12).filter((wq) => wq === 0).length;
  t.is(early, 9, 'three to one');
});

test('a retry is an event that says why, an acceptance one that shows the descriptor', (t) => {
  const rig = new Rig({}, true);
  rig.enqueue(noop);
  rig.enablePci();
  rig.enable([
    { size: 2, threshold: 1 },
    { dedicated: 1, pasid: PASID },
  ]);
  rig.enqueue(noop, 0, true);
  rig.enqueue(noop, 0, true);
  rig.enqueue(noop);
  rig.enqueue(noop);
  rig.enqueue(noop, 1);
  const whys = rig.events.flatMap(({ def, values }) =>
    def.name === 'dsa:desc_retry' ? [values['why']] : [],
  );
  t.deepEqual(whys, [
    'the work queue is not enabled',
    'at its threshold of 1',
    'full: 2 descriptors',
    'the work queue is dedicated',
  ]);
  const accepted = rig.events.filter(({ def }) => def.name === 'dsa:desc_accept');
  t.like(accepted[0]!.values, {
    wq: 0,
    pasid: PASID,
    occupancy: 1,
    descriptor: 'NOOP pasid 3 flags crav|rcr record 0x900000',
  });
});
