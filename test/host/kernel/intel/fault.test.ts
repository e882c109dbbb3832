import test from 'ava';
import { FAULT } from '../../../../devices/spec/vtd/faults.ts';
import { FSTS, REG } from '../../../../devices/spec/vtd/registers.ts';
import { makeWorld } from './world.ts';

test('a fault record becomes an event and the record is freed for the next', (t) => {
  const world = makeWorld();
  const faults = (): unknown[] =>
    world.events.filter((e) => e.def.name === 'intel_iommu:dmar_fault').map((e) => e.values);
  world.unit.fault(8, 7, 0xdead000, FAULT.PASID_ENTRY_NOT_PRESENT);
  world.settle();
  t.deepEqual(faults(), [
    {
      device: '0000:00:01.0',
      pasid: 7,
      address: 0xdead000,
      code: 0x59,
      reason: 'PASID_ENTRY_NOT_PRESENT (0x59): PASID entry not present',
      request: 'untranslated read',
    },
  ]);
  t.is(world.unit.get(REG.FSTS) & FSTS.PPF, 0);
  world.unit.fault(8, 8, 0x1000, FAULT.FS_NOT_PRESENT);
  world.settle();
  t.is(faults().length, 2);
});
