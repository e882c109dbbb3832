import test from 'ava';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import { compileFilter, type Filter } from '../../../trace/wire/filter.ts';
import { layoutsOf } from '../../../trace/wire/layout.ts';
import { wholeRun } from '../runs.ts';

const layouts = layoutsOf(CATALOGUE);
const { records } = wholeRun();

const found = (filter: Filter) => {
  const { matches } = compileFilter(layouts, filter);
  return records.filter(matches);
};

test('no condition lets everything through', (t) => {
  t.true(compileFilter(layouts, {}).all);
  t.true(compileFilter(layouts, { text: '' }).all);
  t.is(found({}).length, records.length);
});

test('layers, names with and without subsystem and with stars', (t) => {
  t.deepEqual(
    new Set(found({ layers: ['vtd', 'device'] }).map(({ def }) => def.layer)),
    new Set(['vtd', 'device']),
  );
  const names = (filter: Filter): string[] => [
    ...new Set(found(filter).map(({ def }) => def.name)),
  ];
  t.deepEqual(names({ names: ['attach_device_pasid'] }), ['iommu:attach_device_pasid']);
  t.deepEqual(names({ names: ['iommu:attach_device_pasid'] }), ['iommu:attach_device_pasid']);
  t.deepEqual(names({ names: ['*prq_report'] }).sort(), [
    'guest:prq_report',
    'intel_iommu:prq_report',
  ]);
  t.deepEqual(names({ names: ['dsa:*'], layers: ['host'] }), []);
});

test('PASIDs, functions in either spelling, VMs with their virtual unit, times', (t) => {
  const one = found({ pasids: [1] });
  t.true(one.length > 50);
  t.true(one.every(({ values }) => values['pasid'] === 1));
  t.deepEqual(found({ devices: ['0000:00:01.0'] }), found({ devices: ['00:01.0'] }));
  t.true(found({ devices: ['00:01.0'] }).some(({ def }) => def.layer === 'host'));
  t.true(found({ devices: ['00:01.0'] }).some(({ def }) => def.layer === 'device'));
  t.deepEqual(found({ devices: ['00:02.0'], layers: ['device'] }), []);
  const vm = found({ vms: ['vm0'] });
  t.true(vm.some(({ def, values }) => def.layer === 'vtd' && values['unit'] === 'vm0'));
  t.true(vm.every(({ values }) => values['vm'] === 'vm0' || values['unit'] === 'vm0'));
  const { ns } = records[1000]!;
  t.true(found({ fromNs: ns }).every((record) => record.ns >= ns));
  t.is(found({ fromNs: ns }).length + found({ toNs: ns - 1 }).length, records.length);
});

test('text: all words, in any case, of the event as it is told', (t) => {
  const told = found({ text: 'IOMMU_HWPT_ALLOC nest_parent' });
  t.true(told.length > 0);
  t.true(told.every(({ def }) => def.name.startsWith('syscalls:sys_enter_ioctl')));
});

test('what the filter names and no event has is told', (t) => {
  t.deepEqual(
    compileFilter(layouts, { layers: ['cellar', 'vtd'], names: ['walk', 'wlak', 'x*'] }).unknown,
    ['cellar', 'wlak', 'x*'],
  );
  t.deepEqual(compileFilter(layouts, { names: ['a.b(c'] }).unknown, ['a.b(c']);
});
