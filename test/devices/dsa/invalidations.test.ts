import test from 'ava';
import { DsaStatus } from '../../../devices/spec/dsa/completion.ts';
import { Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { noise, RECORD, Rig } from './rig.ts';

const PASID = 5;
const REC = 0x900_0000;
const SRC = 0x10_0000;
const DST = 0x7f_0000;
const move = {
  pasid: PASID,
  flags: RECORD,
  completion: BigInt(REC),
  opcode: Opcode.MEMMOVE,
  source: BigInt(SRC),
  destination: BigInt(DST),
  size: 16_384,
};

function rigWith(): Rig {
  const rig = Rig.shared();
  for (const at of [SRC, DST, REC]) rig.fabric.map(PASID, at, 32_768);
  rig.fabric.poke(PASID, SRC, noise(16_384));
  return rig;
}

/** Runs until a slice is in flight: translated, not yet moved. */
function intoFlight(rig: Rig): void {
  const asked = rig.fabric.asked.length;
  rig.enqueue(move);
  rig.clock.run(() => rig.fabric.asked.length > asked);
}

test('an invalidation is confirmed only after the transfer in flight has landed', (t) => {
  const rig = rigWith();
  intoFlight(rig);
  rig.fabric.unmap(PASID, DST, 4096);
  rig.dsa.invalidate(11, PASID, false, DST / 4096, 12);
  t.deepEqual(rig.fabric.completions, []);
  let writesAtConfirmation = -1;
  rig.clock.run(() => {
    if (rig.fabric.completions.length > 0 && writesAtConfirmation < 0) {
      writesAtConfirmation = rig.fabric.writes.length;
    }
    return false;
  });
  t.deepEqual(rig.fabric.completions, [11]);
  t.true(writesAtConfirmation >= 4, 'the data was there first');
  t.is(rig.record(PASID, REC).status, DsaStatus.SUCCESS);
  t.is(rig.execute(move).status, DsaStatus.PAGE_FAULT, 'and nothing uses it afterwards');
});

test('an invalidation for another PASID does not wait', (t) => {
  const rig = rigWith();
  intoFlight(rig);
  rig.dsa.invalidate(1, 6, false, 0, 64);
  rig.dsa.invalidate(2, PASID, false, 0, 64);
  rig.dsa.invalidate(3, -1, false, 0, 64);
  rig.dsa.invalidate(4, 0, true, 0, 64);
  rig.clock.run();
  t.deepEqual(rig.fabric.completions.slice().sort(), [1, 2, 3, 4]);
  t.deepEqual(rig.fabric.completions.slice(0, 2), [1, 3]);
});

test('a missing invalidation shows: the stale translation is used until it comes', (t) => {
  const rig = rigWith();
  rig.execute(move);
  rig.fabric.unmap(PASID, DST, 16_384);
  t.is(rig.execute(move).status, DsaStatus.SUCCESS, 'stale');
  rig.dsa.invalidate(0, PASID, false, DST / 4096 + 3, 14);
  t.is(rig.execute(move).status, DsaStatus.PAGE_FAULT);
});

test('a blocked descriptor holds no translation', (t) => {
  const rig = rigWith();
  rig.fabric.unmap(PASID, DST, 16_384);
  rig.enqueue({ ...move, flags: RECORD | 2 });
  rig.clock.run();
  t.true(rig.fabric.requests.length > 0);
  rig.dsa.invalidate(9, PASID, false, 0, 64);
  rig.clock.run();
  t.deepEqual(rig.fabric.completions, [9]);
});

test('a function level reset drops the transfer and still confirms', (t) => {
  const rig = rigWith();
  intoFlight(rig);
  rig.dsa.invalidate(5, PASID, false, 0, 64);
  rig.dsa.reset();
  rig.clock.run();
  t.deepEqual(rig.fabric.completions, [5]);
  t.deepEqual(rig.fabric.writes, []);
});
