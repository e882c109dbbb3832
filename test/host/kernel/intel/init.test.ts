import test from 'ava';
import { AtsCap, PasidCap, PriCap } from '../../../../devices/spec/pci.ts';
import {
  contextEntry,
  contextEntryAddress,
  contextTableOf,
  rootEntry,
  rootEntryAddress,
} from '../../../../devices/spec/vtd/context.ts';
import { GCMD, GSTS, REG } from '../../../../devices/spec/vtd/registers.ts';
import { deviceState, makeWorld } from './world.ts';

test('the unit is programmed in order: queue, root table, and remapping last', (t) => {
  const { unit } = makeWorld();
  const order = unit.commands.map((value) =>
    (value & GCMD.TE) !== 0 ? 'TE' : (value & GCMD.SRTP) !== 0 ? 'SRTP' : 'QIE',
  );
  t.deepEqual(order, ['QIE', 'SRTP', 'TE']);
  t.is(unit.get(REG.GSTS) & GSTS.TES, GSTS.TES | 0);
  t.is(unit.get(REG.RTADDR) & 0xfff, 1 << 10);
  t.is(unit.get(REG.IQA) & 0xfff, (1 << 11) | 1);
  t.is(unit.get(REG.PQA) & 0xfff, 4);
  t.is(unit.get(REG.PECTL), 0);
  t.is(unit.get(REG.FECTL), 0);
});

test('without ESRTPS the caches are invalidated by hand', (t) => {
  const names: string[] = [];
  const world = makeWorld({ cap: 0x01d2008c602f0606n });
  for (const e of world.events) {
    if (e.def.name === 'intel_iommu:qi_submit') names.push(String(e.values['descriptor']));
  }
  t.deepEqual(names, ['cc_inv global', 'pc_inv global', 'iotlb_inv global DR DW']);
});

test('a function gets PASID, ATS and PRI, and a context entry that says so', (t) => {
  const { devs, functions, unit, machine } = makeWorld();
  const [dev, fn] = [devs[0]!, functions[0]!];
  t.is(dev.maxPasids, 2 ** 20);
  t.is(fn.configRead(fn.offsets.pasid + PasidCap.CONTROL, 2), PasidCap.CONTROL_ENABLE);
  t.is(fn.configRead(fn.offsets.ats + AtsCap.CONTROL, 2), AtsCap.CONTROL_ENABLE);
  t.is(fn.configRead(fn.offsets.pri + PriCap.CONTROL, 2), PriCap.CONTROL_ENABLE);
  const { ram } = machine;
  const at = rootEntryAddress((unit.get(REG.RTADDR) & ~0xfff) >>> 0, 0);
  const root = rootEntry.decode([ram.read64(at), ram.read64(at + 8)]);
  const address = contextEntryAddress(contextTableOf(root, dev.rid).ctp, dev.rid);
  const entry = contextEntry.decode([0, 8, 16, 24].map((offset) => ram.read64(address + offset)));
  const { table } = deviceState(dev);
  t.is(entry.PASIDDIRPTR, table.directory);
  t.deepEqual([entry.P, entry.DTE, entry.PASIDE, entry.PRE, entry.PDTS], [1, 1, 1, 1, 7]);
  t.is(entry.RID_PASID, 0);
});

test('a function without PASID has none, and one without PRI sends no requests', (t) => {
  const world = makeWorld({ functions: [{ pasidBits: 0 }, { pri: false, pasidBits: 12 }] });
  const [plain, silent] = world.devs;
  t.is(plain!.maxPasids, 0);
  t.false(deviceState(plain!).priEnabled);
  t.is(silent!.maxPasids, 4096);
  t.true(deviceState(silent!).atsEnabled);
  t.false(deviceState(silent!).priEnabled);
});

test('a function that leaves gives back its tables and is switched off', (t) => {
  const world = makeWorld();
  const pci = world.kernel.pciDevices[0]!;
  const free = world.kernel.pages.freePages;
  world.run(world.core.removeDevice(pci));
  t.false(pci.pasidEnabled || pci.atsEnabled || pci.priEnabled);
  t.is(world.core.deviceOf(pci), undefined);
  // The PASID directory of 2^20 PASIDs has 32 pages; PASID 0's table is one more.
  t.is(world.kernel.pages.freePages, free + 33);
  t.true(world.unit.log.includes('cc_inv device did=0 sid=00:01.0'));
});

test('a unit without scalable mode is ENODEV', (t) => {
  const message = /ENODEV/;
  t.throws(() => makeWorld({ ecap: 0x0003ed9ea4f050dfn & ~(1n << 43n) }), { message });
});
