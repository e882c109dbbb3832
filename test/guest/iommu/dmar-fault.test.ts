import test from 'ava';

import { FAULT, FRCD } from '../../../devices/spec/vtd/faults.ts';
import { FSTS, REG } from '../../../devices/spec/vtd/registers.ts';
import { sleep } from '../../../guest/task.ts';
import { Bench } from '../machine/bench.ts';

test('a recorded fault is read, reported and cleared', (t) => {
  const bench = new Bench();
  bench.iommu();
  const { unit, cpu } = bench.machine;
  const record = FRCD.encode({
    F: 1,
    T1: 1,
    SID: 8,
    PP: 1,
    PV: 5,
    FI: 0x7000,
    FR: FAULT.PASID_ENTRY_NOT_PRESENT,
  });
  unit.registers.setBigUint64(0x220, record[0]!, true);
  unit.registers.setBigUint64(0x228, record[1]!, true);
  unit.registers.setUint32(REG.FSTS, FSTS.PPF, true);
  cpu.raise(unit.registers.getUint32(REG.FEDATA, true));
  bench.run(sleep(100_000));
  const [fault] = bench.machine.named('guest:dmar_fault');
  t.deepEqual(fault!.values, {
    vm: 'vm0',
    rid: '00:01.0',
    pasid: 5,
    address: 0x7000,
    type: 'read',
    reason: 'PASID_ENTRY_NOT_PRESENT (0x59): PASID entry not present',
  });
  t.is(unit.registers.getUint32(0x22c, true), 0x8000_0000);
  cpu.raise(unit.registers.getUint32(REG.FEDATA, true));
  unit.registers.setUint32(0x22c, 0, true);
  bench.run(sleep(100_000));
  t.is(bench.machine.named('guest:dmar_fault').length, 1);
});
