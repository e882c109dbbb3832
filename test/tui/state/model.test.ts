import test from 'ava';
import type { EventRecord } from '../../../trace/event.ts';
import { GAUGES, LINKS } from '../../../trace/state/chain.ts';
import { Tally } from '../../../trace/story/counts.ts';
import { EMPTY_MODEL, type Model, reduceModel } from '../../../tui/state/model.ts';
import { recordRun } from '../events.ts';

const run = recordRun({ vms: 2, procs: 2, seed: 7 });

const link = ({ chain }: Model, event: string): number =>
  chain.links[LINKS.findIndex((one) => one.event === event)] ?? -1;

const gauge = ({ chain }: Model, storey: string, label: string): number =>
  chain.gauges[GAUGES.findIndex((one) => one.storey === storey && one.label === label)] ?? -1;

test('how a run is cut into batches changes nothing', (t) => {
  const whole = reduceModel(EMPTY_MODEL, run);
  for (const size of [1, 7, 500]) {
    let model = EMPTY_MODEL;
    for (let at = 0; at < run.length; at += size) {
      model = reduceModel(model, run.slice(at, at + size));
    }
    t.deepEqual(model, whole);
  }
});

test('a reducer leaves the state it was given as it was', (t) => {
  const half = reduceModel(EMPTY_MODEL, run.slice(0, 900));
  const copy = structuredClone({ ...half, pasids: [...half.pasids.rows] });
  reduceModel(half, run.slice(900));
  t.deepEqual({ ...half, pasids: [...half.pasids.rows] }, copy);
  t.is(EMPTY_MODEL.chain.links[0], 0);
});

test('no events, no new state', (t) => {
  const model = reduceModel(EMPTY_MODEL, run);
  const same = reduceModel(model, []);
  t.is(same.chain, model.chain);
  t.is(same.pasids, model.pasids);
  t.is(same.run, model.run);
  t.is(same.trace, model.trace);
  t.is(same.trips, model.trips);
  t.is(same.queues, model.queues);
});

test('the counts are those of the run', (t) => {
  const tally = new Tally();
  for (const record of run) tally.add(record);
  const { counts } = tally;
  const model = reduceModel(EMPTY_MODEL, run);
  t.is(counts.binds, 4);
  t.is(link(model, 'kvm:kvm_exit'), counts.vmExits);
  t.is(link(model, 'syscalls:sys_enter_ioctl'), counts.ioctls);
  t.is(link(model, 'dsa:page_request'), counts.pageRequests);
  t.is(gauge(model, 'host', 'attaches'), counts.attaches);
  t.is(gauge(model, 'host', 'replaces'), counts.replaces);
  t.is(gauge(model, 'host', 'detaches'), counts.detaches);
  t.is(gauge(model, 'guest', 'bound'), 0);
  t.is(gauge(model, 'device', 'queued'), 0);
  t.is(gauge(model, 'host', 'objects'), 0);
  t.is(model.run.seed, 7);
  t.is(model.run.ns, run.at(-1)!.ns);
  t.regex(model.run.lately.at(-1)?.text ?? '', /holds nothing any more/);
});

test('page requests in a row are one sentence with their number', (t) => {
  const asks = run.filter(({ def }) => def.name === 'dsa:page_request').slice(0, 5);
  const [begin] = run;
  const { lately } = reduceModel(EMPTY_MODEL, [begin!, ...asks]).run;
  t.is(lately.length, 2);
  t.is(lately[1]?.times, 5);
  t.is(lately[1]?.seq, asks.at(-1)?.seq);
});

test('state stays bounded however long it goes on', (t) => {
  let model = EMPTY_MODEL;
  let seq = 0;
  for (let round = 0; round < 12; round++) {
    const again: EventRecord[] = run.map((record) => ({
      ...record,
      seq: ++seq,
      ns: seq * 1000,
      values: 'pasid' in record.values ? { ...record.values, pasid: seq } : record.values,
    }));
    model = reduceModel(model, again);
  }
  t.is(model.run.events, 12 * run.length);
  t.true(model.trace.events.length <= 20_000);
  t.true(model.chain.buckets.length <= 64);
  t.true(model.run.lately.length <= 128);
  t.true(model.pasids.rows.size <= 4096);
  t.true(model.trips.trips.length <= 512);
  t.true(model.errors.problems.length <= 512);
  t.true(model.known.entries.size <= 8192);
  for (const { slots } of model.queues.queues.values()) t.true(slots.length <= 64);
});
