import test from 'ava';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import {
  EMPTY_STATE,
  reduceFrame,
  reduceState,
  stateFromJson,
  stateToJson,
} from '../../../trace/state/state.ts';
import { FrameDecoder } from '../../../trace/wire/decoder.ts';
import { schemaOf } from '../../../trace/wire/layout.ts';
import { wholeRun } from '../runs.ts';

const { records, frames } = wholeRun();
const indexOf = (name: string): number => records.findIndex(({ def }) => def.name === name) + 1;
const at = (seq: number) => reduceState(EMPTY_STATE, records.slice(0, seq));
const end = at(records.length);

test('how events are cut into batches changes nothing', (t) => {
  for (const size of [1, 7, 100]) {
    let state = EMPTY_STATE;
    for (let i = 0; i < records.length; i += size) {
      state = reduceState(state, records.slice(i, i + size));
    }
    t.deepEqual(state, end);
  }
  t.is(reduceState(end, []), end);
});

test('frames give the state that events give', (t) => {
  const decoder = new FrameDecoder(schemaOf(CATALOGUE), CATALOGUE);
  let state = EMPTY_STATE;
  for (const frame of frames) state = reduceFrame(state, decoder.frame(frame), decoder.layouts);
  t.deepEqual(stateToJson(state), stateToJson(end));
  const some = reduceFrame(EMPTY_STATE, decoder.frame(frames[0]!), decoder.layouts, 300);
  t.deepEqual(stateToJson(some), stateToJson(at(300)));
});

test('a state is a value: what comes later does not change it', (t) => {
  const early = at(900);
  const before = JSON.stringify(stateToJson(early));
  reduceState(early, records.slice(900));
  t.is(JSON.stringify(stateToJson(early)), before);
});

test('a state survives JSON; one that is not whole is filled up', (t) => {
  const json = JSON.parse(JSON.stringify(stateToJson(end))) as Record<string, unknown>;
  t.deepEqual(stateToJson(stateFromJson(json)), stateToJson(end));
  t.deepEqual(reduceState(stateFromJson(json), []), stateFromJson(json));
  t.deepEqual(stateFromJson({}), EMPTY_STATE);
  t.deepEqual(stateFromJson({ hardware: null, seq: 3 }), { ...EMPTY_STATE, seq: 3 });
});

test('machines: VMs, their processes, what these do and ended with', (t) => {
  const [vm] = end.machines.vms.values();
  t.like(vm, { name: 'vm0', pid: 1, status: 'gone', code: 0, device: '/dev/vfio/devices/vfio0' });
  t.deepEqual([...vm!.processes.keys()], [100, 101]);
  for (const process of vm!.processes.values()) t.like(process, { code: 0, pasid: -1 });
  const bound = at(indexOf('guest:iommu_sva_bind_device'));
  const pasids = [...bound.machines.vms.get('vm0')!.processes.values()].map(({ pasid }) => pasid);
  t.true(pasids.includes(1));
});

test('objects: a tree with parents, areas and mappings while they last; nothing is left', (t) => {
  const { objects } = at(indexOf('dsa:desc_start'));
  const one = (type: string) => [...objects.objects.values()].find((each) => each.type === type);
  const ioas = one('IOAS')!;
  const paging = one('HWPT_PAGING')!;
  t.is(paging.parent, ioas.id);
  t.is(one('HWPT_NESTED')!.parent, paging.id);
  const areas = objects.areas.get(`${ioas.pid}/${ioas.id}`)!;
  t.like(areas.get('0x0'), { bytes: 64 * 2 ** 20, perm: 'rw' });
  const [mapped] = objects.mappings.values();
  t.is(
    mapped!.reduce((sum, { bytes }) => sum + bytes, 0),
    64 * 2 ** 20,
  );
  t.is(end.objects.objects.size, 0);
  t.is(end.objects.areas.size, 0);
  t.is(end.objects.mappings.size, 0);
});

test('attachments: with their HWPT, replaced and gone', (t) => {
  const attached = at(indexOf('iommu:attach_device_pasid')).objects.attachments.get('00:01.0/1')!;
  const replaced = at(indexOf('iommu:replace_device_pasid')).objects.attachments;
  const [now] = [...replaced.values()].filter(({ pasid }) => pasid > 0);
  t.true(attached.hwpt > 0);
  t.true(now!.hwpt > 0);
  t.not(now!.domain, attached.domain);
  t.false(end.objects.attachments.has('00:01.0/1'));
});

test('tables: the 512 bits of a PASID entry as they are after each write', (t) => {
  const write = records.findLast(
    ({ def, values }) =>
      def.name === 'intel_iommu:pasid_entry' &&
      values['change'] === 'replace' &&
      values['pasid'] === 1,
  )!;
  const entry = at(write.seq).tables.entries.get('host/00:01.0/1')!;
  t.is(entry.words.length, 8);
  t.is(BigInt(entry.words[0]!), BigInt(write.values['qw0']!));
  t.is(BigInt(entry.words[2]!), BigInt(write.values['qw2']!));
  t.is(entry.words[7], '0x0');
  const gone = end.tables.entries.get('host/00:01.0/1')!;
  t.is(gone.change, 'clear');
  t.true(gone.words.every((word) => word === '0x0'));
  t.true([...end.tables.entries.keys()].some((key) => key.startsWith('vm0/')));
});

test('walks: the last for each page, with the entries that were read', (t) => {
  const [walk] = [...end.tables.walks.values()].filter(
    ({ unit, perm, levels }) => unit === 'host' && perm === 'rw' && levels.length > 10,
  );
  t.truthy(walk);
  t.true(walk!.levels.some(({ table }) => table === 'first-stage'));
  t.true(walk!.levels.some(({ table }) => table === 'second-stage'));
  t.regex(walk!.levels[0]!.address, /^0x[0-9a-f]+$/);
});

test('hardware: counters that agree with those of the unit, queues empty at the end', (t) => {
  const stats = records.findLast(({ def }) => def.name === 'vtd:stats')!;
  const before = at(stats.seq - 1).hardware.units.get('host')!;
  t.is(before.descriptors, Number(stats.values['descriptors']));
  t.is(before.pageRequests, Number(stats.values['pageRequests']));
  const [device] = end.hardware.devices.values();
  t.is(device!.queued, 0);
  t.true(device!.done > 0);
  t.is(end.hardware.requests.size, 0);
  const asked = at(indexOf('intel_iommu:prq_report')).hardware.requests;
  t.true([...asked.values()].some(({ stage }) => stage === 'intel_iommu:prq_report'));
});
